"""The section Label map: the ways to a label map, and whether it can be drawn in."""

from __future__ import annotations

from ..wording import _
from .control import Control
from .models import ChosenModel


def controls(model: ChosenModel, has_example: bool, drawing: bool) -> dict[str, Control]:
    """The buttons by their names in the form; ``drawing``: a random label map is on its way."""
    no_example = "" if has_example else _("There is no example for this model.")
    busy = _("A label map is being drawn.") if drawing else ""
    no_shapes = "" if model.has_shapes else _("This model has not learned shapes.")
    return {
        "newCanvasButton": Control(
            _("Make an empty segmentation with the model's labels, and start to draw."),
            model.refusal,
        ),
        "exampleButton": Control(
            _("Load the label map that comes with the extension: of no patient, made from many."),
            model.refusal or no_example,
        ),
        "randomButton": Control(
            _("Draw a new label map by chance, from the shapes that the model has learned."),
            model.refusal or busy or no_shapes,
        ),
    }


def editor_control(is_segmentation: bool) -> Control:
    """The part of the section that one draws with."""
    refusal = "" if is_segmentation else _("Only a segmentation can be drawn in: choose one.")
    return Control(_("Draw the labels, in the slice views."), refusal)
