"""Whether a label map node fits a model, in words; cheap enough to ask after every stroke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk.util.numpy_support
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..errors import UserError
from ..manifest import Manifest
from ..scene.geometry import world_affine
from ..scene.label_maps import segment_code

LOOKED_AT = 2**24
"""Voxels looked at: in larger label maps every second, third, ... one."""


@dataclass(frozen=True)
class Fit:
    """``ok`` says whether a synthesis can start, ``sentence`` why (not)."""

    ok: bool
    sentence: str


def describe_fit(node: Any, manifest: Manifest) -> Fit:
    """Match what is drawn with the model's labels, as the engine will."""
    if node is None:
        return Fit(False, _("Choose a label map, or make one: New canvas, Example or Random."))
    try:
        world_affine(node, np.eye(4))
    except UserError as error:
        return Fit(False, str(error))
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        drawn = _drawn_segments(node, manifest)
    else:
        drawn = _drawn_values(node, manifest)
    known = ", ".join(label.name for label in manifest.labels)
    if not drawn:
        text = _("{name} is empty: draw at least one of {known}.")
        return Fit(False, text.format(name=node.GetName(), known=known))
    if unknown := [called for called, label in drawn if not label]:
        text = _(
            "{name} has {unknown}, which {model} does not know: rename or remove what is not "
            "{known}."
        )
        unknown_names = ", ".join(unknown)
        return Fit(
            False,
            text.format(
                name=node.GetName(), unknown=unknown_names, model=manifest.name, known=known
            ),
        )
    return _completeness(node.GetName(), {label for _called, label in drawn}, manifest)


def _completeness(name: str, present: set[str], manifest: Manifest) -> Fit:
    has = ", ".join(label.name for label in manifest.labels if label.name in present)
    lacks = ", ".join(label.name for label in manifest.labels if label.name not in present)
    if not lacks:
        text, ok = _("{name} fits the model: {has}."), True
    elif manifest.content["label_dropout"]:
        ok = True
        text = _(
            "{name} fits the model: {has}. Not drawn: {lacks}; the model puts it where it finds "
            "it plausible."
        )
    else:
        text, ok = _("The model needs all its labels; {name} lacks {lacks}: draw it."), False
    return Fit(ok, text.format(name=name, has=has, lacks=lacks))


def _drawn_segments(node: Any, manifest: Manifest) -> list[tuple[str, str]]:
    """The segments that have voxels: their name, and the label's or "" where there is none."""
    by_name = {label.name.lower(): label.name for label in manifest.labels}
    by_code = {label.code: label.name for label in manifest.labels if label.code}
    segmentation = node.GetSegmentation()
    drawn = []
    for segment_id in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segment_id)
        if _has_voxels(segment):
            name = segment.GetName()
            label = by_code.get(segment_code(segment)) or by_name.get(name.lower(), "")
            drawn.append((name, label))
    return drawn


def _has_voxels(segment: Any) -> bool:
    """A segment that is no binary label map (a surface, say) counts as drawn."""
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(binary)
    if image is None:
        surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
        return segment.GetRepresentation(surface) is not None
    return not image.IsEmpty() and bool((_voxels(image) == segment.GetLabelValue()).any())


def _drawn_values(node: Any, manifest: Manifest) -> list[tuple[str, str]]:
    """The values of a label map volume, as segments above."""
    if node.GetImageData() is None:
        return []
    labels = {label.value: label.name for label in manifest.labels}
    values = np.unique(_voxels(node.GetImageData()))
    return [(str(value), labels.get(value, "")) for value in values.tolist() if value]


def _voxels(image: Any) -> NDArray:
    array: NDArray = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return array[:: max(1, -(-array.size // LOOKED_AT))]
