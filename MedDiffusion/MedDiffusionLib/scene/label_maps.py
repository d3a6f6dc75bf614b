"""A segmentation or label map node as the engine's label map, and what it was taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support
from numpy.typing import NDArray

from ..errors import UserError
from ..segments import terminology_code
from ..volume import Kind, Segment, Volume
from .geometry import node_affine, world_affine


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
    node: slicer.vtkMRMLDisplayableNode, segments: Sequence[str] | None = None
) -> LabelInput:
    """The label map of a label map volume node, or of a segmentation's segments.

    ``segments`` are segment IDs of a segmentation, None for all. A segmentation's labels carry the
    names and terminology codes of their segments and are numbered from 1 in its order; a label map
    volume's labels keep their values. Where segments overlap the later one in the segmentation's
    order wins, and a warning says so. Raises UserError when there is nothing to read, or when the
    parent transform is not linear.
    """
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        array, affine, named, warnings = _from_segmentation(node, segments)
    elif isinstance(node, slicer.vtkMRMLLabelMapVolumeNode):
        array, affine, named, warnings = _from_volume(node)
    else:
        raise UserError("There is no label map: choose a segmentation or a label map volume.")
    if not array.any():
        raise UserError(f"{node.GetName()} is empty: draw at least one label in it.")
    labels = Volume(array, world_affine(node, affine), Kind.LABEL, named)
    return LabelInput(labels, affine, node.GetID(), warnings)


_Read = tuple[NDArray[np.int32], NDArray[np.float64], tuple[Segment, ...], tuple[str, ...]]


def _from_volume(node: slicer.vtkMRMLLabelMapVolumeNode) -> _Read:
    if node.GetImageData() is None:
        raise UserError(f"{node.GetName()} has no voxels: choose another label map.")
    array = slicer.util.arrayFromVolume(node).transpose()
    whole = array.astype(np.int32)
    if not (whole == array).all():
        raise UserError(
            f"{node.GetName()} holds values that are no whole numbers: it is no label map."
        )
    return whole, node_affine(node), (), ()


def _from_segmentation(
    node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str] | None
) -> _Read:
    segmentation = node.GetSegmentation()
    everything = list(segmentation.GetSegmentIDs())
    chosen = everything if segment_ids is None else [s for s in everything if s in segment_ids]
    if not everything:
        raise UserError(f"{node.GetName()} has no segments: add one and draw in it.")
    if not chosen:
        raise UserError(f"No segment of {node.GetName()} is selected: select at least one.")
    geometry = _reference_geometry(node, chosen)
    array = np.zeros(geometry.GetDimensions(), np.int32)
    segments: list[Segment] = []
    warnings: list[str] = []
    for value, segment_id in enumerate(chosen, start=1):
        segment = segmentation.GetSegment(segment_id)
        mask = _mask(node, segment_id, geometry)
        for earlier in np.unique(array[mask & (array > 0)]):
            count = int((mask & (array == earlier)).sum())
            warnings.append(
                f"{segments[earlier - 1].name} and {segment.GetName()} overlap in {count} voxels: "
                f"{segment.GetName()} was taken there, being later in the list."
            )
        array[mask] = value
        segments.append(Segment(value, segment.GetName(), segment_code(segment)))
    return array, _image_affine(geometry), tuple(segments), tuple(warnings)


def _reference_geometry(
    node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str]
) -> slicer.vtkOrientedImageData:
    """The segmentation's reference geometry; the box of its segments where it has none."""
    segmentation = node.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = segmentation.GetConversionParameter(name)
    if not text:
        ids = vtk.vtkStringArray()
        for segment_id in segment_ids:
            ids.InsertNextValue(segment_id)
        mode = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
        text = segmentation.DetermineCommonLabelmapGeometry(mode, ids)
    geometry = slicer.vtkOrientedImageData()
    if (
        not text
        or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
        or min(geometry.GetDimensions()) < 1
    ):
        raise UserError(
            f"{node.GetName()} is empty and has no reference geometry: set its source volume, or "
            "make a new canvas."
        )
    return geometry


def _mask(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, geometry: slicer.vtkOrientedImageData
) -> NDArray[np.bool_]:
    """``[i, j, k]`` on the geometry: where the segment is."""
    nothing = np.zeros(geometry.GetDimensions(), bool)
    image = slicer.vtkOrientedImageData()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    if not node.GetSegmentation().ContainsRepresentation(binary):
        node.CreateBinaryLabelmapRepresentation()
    if not node.GetBinaryLabelmapRepresentation(segment_id, image) or image.IsEmpty():
        return nothing
    on_grid = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if not resample(image, geometry, on_grid) or on_grid.GetDimensions() != nothing.shape:
        raise UserError(f"A segment of {node.GetName()} cannot be resampled to its reference.")
    scalars = vtk.util.numpy_support.vtk_to_numpy(on_grid.GetPointData().GetScalars())
    mask: NDArray[np.bool_] = scalars.reshape(nothing.shape[::-1]).transpose() > 0
    return mask


def _image_affine(image: slicer.vtkOrientedImageData) -> NDArray[np.float64]:
    """Of the image's first voxel on, whatever index its extent starts with."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = image.GetExtent()[::2]
    affine: NDArray[np.float64] = slicer.util.arrayFromVTKMatrix(matrix) @ first
    return affine


def segment_code(segment: slicer.vtkSegment) -> str:
    """The terminology code of a segment as manifests write it; empty without one."""
    entry = vtk.mutable("")
    segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    return terminology_code(str(entry))
