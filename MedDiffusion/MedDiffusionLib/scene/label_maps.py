"""A segmentation or label map node as the engine's label map, and what it was taken from."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import slicer
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..volumes.label_statistics import label_values
from ..volumes.volume import Kind, Segment, Volume
from .geometry import node_affine, world_affine
from .segment_images import (
    binary,
    image_affine,
    patch_of,
    reference_geometry,
    segment_code,
    sparse,
)
from .translation import _


@dataclass(frozen=True, eq=False)
class LabelInput:
    """A label map as read from the scene."""

    labels: Volume
    """The engine's label map, its affine in the world's frame."""
    affine: NDArray[np.float64]
    """Its affine in the node's own frame, below its parent transform."""
    node_id: str
    warnings: tuple[str, ...] = ()
    """Sentences about what was resolved, such as overlapping segments."""


def read_label_node(
    node: slicer.vtkMRMLDisplayableNode,
    segments: Sequence[str] | None = None,
    left_out: Collection[str] = (),
) -> LabelInput:
    """The label map of a label map volume node, or of a segmentation's segments.

    ``segments`` are segment IDs of a segmentation, None for all; segments whose names are
    ``left_out`` are as if they were not there. A segmentation's labels carry the names and
    terminology codes of their segments and are numbered from 1 in its order; a label map volume's
    labels keep their values. Where segments overlap the later one in the segmentation's order wins,
    and a warning says so. Raises UserError when there is nothing to read, or when the parent
    transform is not linear.
    """
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        array, affine, named, warnings = _from_segmentation(node, segments, left_out)
    elif isinstance(node, slicer.vtkMRMLLabelMapVolumeNode):
        array, affine, named, warnings = _from_volume(node)
    else:
        raise UserError(
            _("There is no label map"), _("choose a segmentation or a label map volume")
        )
    if not array.any():
        raise UserError(
            _("{name} is empty").format(name=node.GetName()), _("draw at least one label in it")
        )
    labels = Volume(array, world_affine(node, affine), Kind.LABEL, named)
    return LabelInput(labels, affine, node.GetID(), warnings)


def label_map_state(node: slicer.vtkMRMLDisplayableNode | None) -> str:
    """A text that changes when a label map does: its voxels, geometry, or what its labels are.

    The same for a label map that was saved and loaded again, or whose change was undone; empty
    where there is nothing to read. Where the node lies under transforms does not matter. An
    unchanged node costs next to nothing, others one reading.
    """
    if node is None or node.GetScene() is None:
        return ""
    changes = _changes(node)
    known = _states.get(node.GetID())
    if known is None or known[0] != changes:
        try:
            read = read_label_node(node)
        except UserError:
            return ""
        known = _changes(node), _digest(read)  # Reading may have made label maps of surfaces.
        _states[node.GetID()] = known
    return known[1]


_states: dict[str, tuple[tuple[object, ...], str]] = {}
"""By node ID: the times of the last changes, and the state then."""


def _changes(node: slicer.vtkMRMLDisplayableNode) -> tuple[object, ...]:
    """When a node's label map last changed; VTK gives no time twice."""
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        segmentation = node.GetSegmentation()
        found = [segmentation.GetSegment(i) for i in segmentation.GetSegmentIDs()]
        images = [segment.GetRepresentation(binary()) for segment in found]
        return (
            segmentation.GetMTime(),
            *(segment.GetMTime() for segment in found),
            *(image.GetMTime() for image in images if image is not None),
        )
    image = node.GetImageData()
    return (node.GetMTime(), image.GetMTime() if image is not None else 0)


def _digest(read: LabelInput) -> str:
    array, affine = read.labels.array, read.affine
    if np.linalg.det(affine) < 0:  # Slicer writes such a volume with its slices turned round.
        array = array[:, :, ::-1]
        affine = affine @ np.array(
            [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, array.shape[2] - 1], [0, 0, 0, 1]]
        )
    digest = hashlib.blake2b(digest_size=16)
    named = [(s.value, s.name, s.code) for s in read.labels.segments]
    # Files keep affines to some digits: steps of 0.001 mm, whose ends are no usual numbers.
    rounded = np.floor(affine[:3] * 1000 + 0.1234567).astype(int).tolist()
    digest.update(repr((array.shape, rounded, named)).encode())
    digest.update(np.ascontiguousarray(array.T))
    return digest.hexdigest()


_Read = tuple[NDArray, NDArray[np.float64], tuple[Segment, ...], tuple[str, ...]]


def drawn_labels(node: slicer.vtkMRMLDisplayableNode) -> tuple[list[int], tuple[Segment, ...]]:
    """What :func:`read_label_node` would find: the values that have voxels, and the segments.

    A quick look: of large images it takes in some voxels (``segment_images.LOOKED_AT``).
    """
    if isinstance(node, slicer.vtkMRMLLabelMapVolumeNode):
        image = node.GetImageData()
        return (label_values(sparse(image)) if image is not None else []), ()
    segmentation = node.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    drawn, segments, looked = [], [], dict[int, list[int]]()
    for value, segment_id in enumerate(ids, start=1):
        segment = segmentation.GetSegment(segment_id)
        segments.append(Segment(value, segment.GetName(), segment_code(segment)))
        image = segment.GetRepresentation(binary())
        if image is None:
            # A surface, say, becomes a binary label map when it is read.
            surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
            if segment.GetRepresentation(surface) is not None:
                drawn.append(value)
        elif not image.IsEmpty():
            layer = hash(image)
            if layer not in looked:
                looked[layer] = label_values(sparse(image))
            if segment.GetLabelValue() in looked[layer]:
                drawn.append(value)
    return drawn, tuple(segments)


def _from_volume(node: slicer.vtkMRMLLabelMapVolumeNode) -> _Read:
    if node.GetImageData() is None:
        raise UserError(
            _("{name} has no voxels").format(name=node.GetName()), _("choose another label map")
        )
    array = slicer.util.arrayFromVolume(node).transpose()
    if not np.issubdtype(array.dtype, np.integer):
        whole = array.astype(np.int32)
        if not (whole == array).all():
            raise UserError(
                _("{name} holds values that are no whole numbers").format(name=node.GetName()),
                _("it is no label map"),
            )
        array = whole
    return array, node_affine(node), (), ()


def _from_segmentation(
    node: slicer.vtkMRMLSegmentationNode,
    segment_ids: Sequence[str] | None,
    left_out: Collection[str],
) -> _Read:
    segmentation = node.GetSegmentation()
    everything = list(segmentation.GetSegmentIDs())
    chosen = everything if segment_ids is None else [s for s in everything if s in segment_ids]
    if not everything:
        raise UserError(
            _("{name} has no segments").format(name=node.GetName()), _("add one and draw in it")
        )
    if not chosen:
        raise UserError(
            _("No segment of {name} is selected").format(name=node.GetName()),
            _("select at least one"),
        )
    # Before any is painted over another: what is left out makes no holes in what lies under it.
    names = {s: segmentation.GetSegment(s).GetName() for s in everything}
    for name in left_out:
        if name not in names.values():
            raise no_such_segment(name, list(names.values()))
    chosen = [s for s in chosen if names[s] not in left_out]
    if not chosen:
        raise UserError(
            _("All segments of {name} are left out").format(name=node.GetName()),
            _("say of one which label it is"),
        )
    geometry = reference_geometry(node, chosen)
    if not segmentation.ContainsRepresentation(binary()):
        node.CreateBinaryLabelmapRepresentation()
    found = [segmentation.GetSegment(segment_id) for segment_id in chosen]
    painted = [segment.GetName() for segment in found]
    # Of the memory layout of VTK's images, so that whole lines are copied.
    array = np.zeros(geometry.GetDimensions(), np.min_scalar_type(len(chosen)), order="F")
    warnings: list[str] = []
    numbered = enumerate(found, start=1)
    for image, group in groupby(numbered, lambda item: item[1].GetRepresentation(binary())):
        # Segments of one layer do not overlap: they are taken over together.
        if image is not None and not image.IsEmpty():
            values = {segment.GetLabelValue(): value for value, segment in group}
            region, patch = patch_of(image, values, geometry, node.GetName())
            warnings += _paint(array[region], patch.astype(array.dtype, copy=False), painted)
    segments = tuple(
        Segment(value, segment.GetName(), segment_code(segment))
        for value, segment in enumerate(found, start=1)
    )
    return array, image_affine(geometry), segments, tuple(warnings)


def no_such_segment(name: str, names: Sequence[str]) -> UserError:
    """What to say of a segment that is named and does not exist; ``names`` are those that do."""
    lists = ", ".join(names)
    return UserError(
        _("There is no segment {name} (the label map has {names})").format(name=name, names=lists),
        _("correct its name"),
    )


def _paint(under: NDArray, patch: NDArray, names: list[str]) -> list[str]:
    """Put the labels of ``patch`` (0: none) over those in place; a sentence per pair that meets."""
    painted = patch > 0
    meeting = painted & (under > 0) if under.any() else np.zeros(1, bool)
    sentences = []
    if meeting.any():
        pairs = np.stack([under[meeting], patch[meeting]])
        for (earlier, later), count in zip(*_count_columns(pairs), strict=True):
            sentences.append(
                _(
                    "{earlier} and {later} overlap in {count} voxels: {later} was taken there, "
                    "being later in the list."
                ).format(earlier=names[earlier - 1], later=names[later - 1], count=count)
            )
    np.copyto(under, patch, where=painted)
    return sentences


def _count_columns(pairs: NDArray) -> tuple[NDArray, NDArray]:
    columns, counts = np.unique(pairs, axis=1, return_counts=True)
    return columns.T, counts
