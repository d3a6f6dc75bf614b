"""The kinds of inputs: a file each, or a few that belong together, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torture.stage import Stage

from . import bundles, crafted, dicom, fuzz


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
)
"""With the weights of the first review, whose table this is."""
