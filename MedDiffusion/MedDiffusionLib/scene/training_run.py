"""A training as a CLI node: Slicer's own engine runs it in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import slicer
import slicer.cli
import vtk

MODULE = "meddiffusiontrain"


def has_training_module() -> bool:
    """Whether Slicer has loaded the CLI module."""
    return hasattr(slicer.modules, MODULE)


class TrainingRun:
    """One run of the CLI module MedDiffusionTrain, a check or a training.

    Slicer runs its CLI modules one after the other. ``on_progress`` is called with a share of 1
    and whether the run has begun, ``on_ended`` once, with a sentence that is empty when all went
    well. The run outlives the scene that it was started in. Slicer's end kills it.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        on_progress: Callable[[float, bool], None],
        on_ended: Callable[[str], None],
    ) -> None:
        module = getattr(slicer.modules, MODULE)
        self._on_progress = on_progress
        self._on_ended = on_ended
        self.node = slicer.cli.createNode(module, dict(parameters))
        self.node.SetSaveWithScene(False)
        self._tag: int | None = self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)
        slicer.cli.run(module, self.node, update_display=False)

    def cancel(self) -> None:
        """Kill the process; a training's last checkpoint stays."""
        self.node.Cancel()

    def let_go(self) -> None:
        """Listen no longer; the run goes on."""
        if self._tag is not None:
            self.node.RemoveObserver(self._tag)
            self._tag = None

    def _look(self, _caller: Any, _event: Any) -> None:
        node = self.node
        if node.IsBusy():
            waits = node.GetStatus() == node.Scheduled
            self._on_progress(node.GetProgress() / 100, not waits)
        elif self._tag is not None and node.GetStatus() != node.Idle:
            self.let_go()
            sentence = _sentence(node)
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
            self._on_ended(sentence)


def _sentence(node: Any) -> str:
    """What went wrong, as the program said last; empty where nothing did."""
    if node.GetStatus() == node.Cancelled:
        return "Cancelled."
    if node.GetStatus() == node.Completed:
        return ""
    lines = [line.strip() for line in node.GetErrorText().splitlines() if line.strip()]
    return lines[-1] if lines else "The training ended without a word: see Slicer's log."
