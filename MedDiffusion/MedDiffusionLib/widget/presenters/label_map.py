"""The section Label map: the ways to a label map, and whether it can be drawn in."""

from __future__ import annotations

from dataclasses import dataclass

from ..wording import _
from .control import Control
from .fit import Fit
from .models import ChosenModel


@dataclass(frozen=True)
class Scan:
    """The volume that is chosen to be drawn on."""

    name: str = ""
    """Empty: none is chosen."""
    problem: str = ""
    """Why it cannot be drawn on; empty where it can."""
    others: bool = False
    """Whether there are scans to choose from."""

    @property
    def refusal(self) -> str:
        if self.problem or self.name:
            return self.problem
        if self.others:
            return _("Choose the scan to draw on.")
        return _("There is no scan to draw on: load one.")


def not_a_scan(name: str) -> str:
    """What to say of a volume that holds no image."""
    return _("{name} holds no scan: choose another volume.").format(name=name)


VARIATION = 0.5
"""How strongly Vary changes the shape: half way to the rim of what is plausible."""


def controls(
    model: ChosenModel, has_example: bool, drawing: bool, scan: Scan, fit: Fit
) -> dict[str, Control]:
    """The buttons by their names in the form; ``drawing``: a new label map is on its way, ``fit``:
    how the chosen one fits the model."""
    no_example = "" if has_example else _("There is no example for this model.")
    busy = _("A label map is being drawn.") if drawing else ""
    no_shapes = "" if model.has_shapes else _("This model has not learned shapes.")
    on_scan = _("Make an empty segmentation with the model's labels on {scan}, and start to draw.")
    return {
        "newCanvasButton": Control(
            _("Make an empty segmentation with the model's labels, and start to draw."),
            model.refusal,
        ),
        "drawOnScanButton": Control(on_scan.format(scan=scan.name), model.refusal or scan.refusal),
        "exampleButton": Control(
            _("Load the label map that comes with the extension: of no patient, made from many."),
            model.refusal or no_example,
        ),
        "randomButton": Control(
            _("Draw a new label map by chance, from the shapes that the model has learned."),
            model.refusal or busy or no_shapes,
        ),
        "varyButton": Control(
            _("Make a new label map of the chosen one: the same parts in another shape."),
            model.refusal or busy or ("" if fit.ok else fit.sentence),
        ),
    }


def editor_control(is_segmentation: bool) -> Control:
    """The part of the section that one draws with."""
    refusal = "" if is_segmentation else _("Only a segmentation can be drawn in: choose one.")
    return Control(_("Draw the labels, in the slice views."), refusal)
