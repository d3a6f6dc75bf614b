"""The kinds of inputs: a file each, or a few that belong together, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torture.stage import Stage

from . import (
    bundles,
    crafted,
    dicom,
    disk,
    environment,
    folders,
    fuzz,
    options,
    resources,
    resuming,
    sharing,
    signals,
    training,
    valid,
)


@dataclass(frozen=True)
class Kind:
    """A kind of input: ``play`` tries one on a stage and raises Broken; ``weight`` is its share.

    ``real``: always as the installed command. ``slow``: one takes many seconds.
    """

    name: str
    weight: int
    play: Callable[[Stage], None]
    real: bool = False
    slow: bool = False


KINDS = (
    Kind("fuzz", 220, fuzz.play),
    Kind("crafted", 280, crafted.play),
    Kind("dicom", 88, dicom.play),
    Kind("bundles", 358, bundles.play),
    Kind("sharing", 60, sharing.play),
    Kind("options", 125, options.play),
    Kind("folders", 40, folders.play),
    Kind("environment", 39, environment.play, real=True),
    Kind("kill", 24, signals.kill_batch, slow=True),
    Kind("interrupt", 34, signals.interrupt),
    Kind("together", 6, signals.together, slow=True),
    Kind("training", 204, training.play),
    Kind("resuming", 68, resuming.play),
    Kind("training-kill", 14, signals.kill_training, slow=True),
    Kind("disk-full", 7, disk.play),
    Kind("resources", 16, resources.play, slow=True),
    Kind("valid", 61, valid.play),
    Kind("determinism", 1, valid.determinism, real=True),
)
"""With the weights of the first review, whose table this is; models are shared since."""
