"""A training as a CLI node: Slicer's own engine runs it in the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer
import slicer.cli

from .translation import _

MODULE = "meddiffusiontrain"


def has_training_module() -> bool:
    """Whether Slicer has loaded the CLI module."""
    return hasattr(slicer.modules, MODULE)


class TrainingRun:
    """One run of the CLI module MedDiffusionTrain, a check or a training.

    Slicer runs its CLI modules one after the other. Its owner calls :meth:`poll` from a timer: the
    node's events may come from the thread that runs the module. The run outlives the scene that it
    was started in, and whoever started it; Slicer's end kills it.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        module = getattr(slicer.modules, MODULE)
        self.node = slicer.cli.createNode(module, dict(parameters))
        self.node.SetSaveWithScene(False)
        self.message = ""
        """Once it has ended: what went wrong, in a sentence."""
        slicer.cli.run(module, self.node, update_display=False)

    @property
    def waits(self) -> bool:
        """Whether another module has to end first."""
        return self.node.GetStatus() == self.node.Scheduled

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return self.node.GetProgress() / 100

    def poll(self) -> bool:
        """Whether it has ended; takes its node out of the scene then."""
        node = self.node
        if node.IsBusy() or node.GetStatus() == node.Idle:
            return False
        self.message = _sentence(node)
        if node.GetScene() is not None:
            node.GetScene().RemoveNode(node)
        return True

    def stay(self) -> None:
        """Put the node back into the scene that was emptied around it.

        Slicer crashes when a CLI module ends whose node is in no scene.
        """
        if self.node.GetScene() is None:
            slicer.mrmlScene.AddNode(self.node)

    def cancel(self) -> None:
        """Kill the process; a training's last checkpoint stays."""
        self.node.Cancel()


def _sentence(node: Any) -> str:
    """What went wrong, as the program said last; empty where nothing did."""
    if node.GetStatus() == node.Cancelled:
        return _("Cancelled.")
    if node.GetStatus() == node.Completed:
        return ""
    lines = [line.strip() for line in node.GetErrorText().splitlines() if line.strip()]
    if not lines:
        return _("The training ended without a word: see Slicer's log.")
    return lines[-1].removeprefix("meddiffusion: error: ")
