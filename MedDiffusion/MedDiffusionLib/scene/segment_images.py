"""Slicer's images of segments and label maps as arrays on a segmentation's reference geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..volumes.segments import terminology_code
from .translation import _

LOOKED_AT = 2**24
"""Voxels that a quick look takes in: 0.03 s."""
LATTICE_TOLERANCE = 1e-4
"""How far, in voxels, two lattices may lie apart and still be one."""


def patch_of(
    image: slicer.vtkOrientedImageData,
    values: Mapping[int, int],
    geometry: slicer.vtkOrientedImageData,
    name: str,
) -> tuple[tuple[slice, ...], NDArray]:
    """A layer's labels, its values replaced, and where they lie in the reference geometry.

    On the reference's own lattice voxels are copied; else they are resampled, nearest neighbor.
    """
    relative = np.linalg.inv(image_affine(geometry)) @ image_affine(image)
    first = np.rint(relative[:3, 3])
    same_lattice = np.eye(4)
    same_lattice[:3, 3] = first
    if not np.allclose(relative, same_lattice, atol=LATTICE_TOLERANCE):
        on_grid = slicer.vtkOrientedImageData()
        resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
        fits = resample(image, geometry, on_grid)
        if not fits or on_grid.GetDimensions() != geometry.GetDimensions():
            raise UserError(
                _("A segment of {name} cannot be resampled to its reference").format(name=name),
                _("set its source volume anew"),
            )
        image, first = on_grid, np.zeros(3)
    start = first.astype(int)
    size = np.array(geometry.GetDimensions())
    low = np.clip(start, 0, size)
    high = np.clip(start + image.GetDimensions(), low, size)
    region = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    return region, _replaced(voxels_of(image)[inside], values)


def _replaced(array: NDArray, values: Mapping[int, int]) -> NDArray:
    """Segment label values as the label map's; what belongs to no chosen segment is 0."""
    highest = max(max(values), int(array.max()) if array.size else 0)
    table = np.zeros(highest + 1, np.min_scalar_type(max(values.values())))
    for old, new in values.items():
        table[old] = new
    return table[array]


def reference_geometry(
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
            _("{name} is empty and has no reference geometry").format(name=node.GetName()),
            _("set its source volume, or make a new canvas"),
        )
    return geometry


def binary() -> str:
    return slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()


def voxels_of(image: vtk.vtkImageData) -> NDArray:
    """``[i, j, k]``, the image's own memory."""
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(image.GetDimensions()[::-1]).transpose()


def sparse(image: vtk.vtkImageData) -> NDArray:
    """Some of an image's voxels, in no order."""
    voxels = voxels_of(image).ravel(order="K")
    return voxels[:: max(1, -(-voxels.size // LOOKED_AT))]


def image_affine(image: slicer.vtkOrientedImageData) -> NDArray[np.float64]:
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
