"""Resampling between grids: exact where lattices coincide, by kind where they do not."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .volume import LPS_TO_RAS, Grid, Kind, Volume

_LATTICE_TOLERANCE = 1e-3
"""Voxels by which two lattices may differ and still be taken for the same."""
_LABEL_INTERPOLATOR = getattr(sitk, "sitkLabelLinear", sitk.sitkNearestNeighbor)
"""By vote of the neighbours; SimpleITK builds without its label interpolator take the nearest."""
_COARSE = 2 / 3
"""Voxels of a label map per grid voxel, along an axis, below which it counts as much coarser."""
REACH = 3
"""Largest spacings of a label map beyond which its signed distances count as equal."""
_LARGE = 2**24
"""Voxels of a grid above which only the part of it that a volume covers is interpolated."""
_ABOUT_EQUAL = 0.25
"""Voxels may be this part larger than the source's without being averaged over."""


def resample(volume: Volume, grid: Grid, background: float = 0.0) -> Volume:
    """The volume on another grid; ``background`` where the grid leaves the volume.

    On its own grid it is returned as it is, with all that is known of its labels.
    Where the grids share their lattice (any crop, padding, flip or permutation) voxels are copied,
    bit for bit. Elsewhere intensities are interpolated by cubic B-splines, averaged over the voxel
    where it is larger than theirs (as a scanner's thick slice is), and kept within their own range
    (float32 where they were integers), and a label map's voxel takes the label that has the
    largest share of it by linear interpolation, so no value appears that was not there. Where the
    label map is much coarser than the grid along an axis, as between thick slices, its labels'
    signed distances are interpolated instead, which leaves no steps. A volume reaches to the outer
    faces of its voxels.
    """
    if volume.grid.size == grid.size and np.array_equal(volume.affine, grid.affine):
        return volume
    if share_lattice(volume.grid, grid):
        array = _copy_on_lattice(volume, grid, background)
    elif volume.kind is Kind.LABEL:
        array = _interpolated_labels(volume, grid, background)
    else:
        array = _interpolated_intensities(volume, grid, background)
    return Volume(array, grid.affine, volume.kind, volume.segments)


def share_lattice(source: Grid, target: Grid) -> bool:
    """Whether every voxel of one grid, carried on without end, is a voxel of the other."""
    to_source = np.linalg.inv(source.affine) @ target.affine
    rounded = np.rint(to_source)
    # The error grows with the index: judge it at the far corner.
    reach = np.append(np.array(target.size, float), 1)
    if (np.abs(to_source - rounded)[:3] @ reach).max() > _LATTICE_TOLERANCE:
        return False
    step = np.abs(rounded[:3, :3])
    return bool((step.sum(0) == 1).all() and (step.sum(1) == 1).all())


def spline_coefficients(volume: Volume) -> Volume:
    """The cubic B-spline's coefficients ``[i, j, k]`` (floating point) of intensities."""
    array = volume.array if volume.array.dtype.kind == "f" else volume.array.astype(np.float32)
    image = to_sitk(Volume(array, volume.affine, volume.kind))
    coefficients = sitk.GetArrayFromImage(sitk.BSplineDecomposition(image, splineOrder=3))
    return Volume(coefficients.transpose(), volume.affine, volume.kind)


def resample_spline(
    coefficients: Volume, grid: Grid, limits: tuple[float, float], background: float
) -> Volume:
    """A cubic B-spline on a grid, as :func:`resample` does it, kept within ``limits``.

    ``coefficients`` ``[i, j, k]``: of :func:`spline_coefficients`; ``limits``: lowest and highest
    intensity; ``background`` where the grid leaves the volume. A voxel's value is the spline's mean
    at as many points as source voxels fit in it.
    """
    image = to_sitk(coefficients)
    span = np.linalg.norm((np.linalg.inv(coefficients.affine) @ grid.affine)[:3, :3], axis=0)
    points = [int(n) for n in np.maximum(1, np.ceil(span - _ABOUT_EQUAL))]
    total = np.zeros(grid.size, coefficients.array.dtype)
    inside = np.zeros(grid.size, np.int32)
    for point in np.ndindex(*points):
        shift = np.eye(4)
        shift[:3, 3] = (np.array(point) + 0.5) / points - 0.5
        shifted = Grid(grid.size, grid.affine @ shift)
        # NaN marks what lies outside: it counts for nothing, and is not held within the limits.
        values = _resampled(image, shifted, sitk.sitkBSplineResampler, np.nan)
        known = ~np.isnan(values)
        inside += known
        np.add(total, values, out=total, where=known)
    np.divide(total, inside, out=total, where=inside > 0)
    mean = np.clip(total, *limits)
    mean[inside == 0] = background
    return Volume(mean, grid.affine, coefficients.kind)


def to_sitk(volume: Volume) -> sitk.Image:
    """A SimpleITK image (LPS, array order k, j, i) of the volume."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose()))
    image.SetSpacing([float(s) for s in volume.grid.spacing])
    image.SetOrigin([float(o) for o in LPS_TO_RAS @ volume.grid.origin])
    image.SetDirection([float(d) for d in (LPS_TO_RAS @ volume.grid.direction).ravel()])
    return image


def signed_distance(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """Distance ``[i, j, k]`` in mm to the mask's surface, positive inside.

    The surface runs along voxel faces: a voxel beside it is half a voxel away.
    """
    # Maurer's distance is 0 at the outermost voxels of what it is given, so the mask and its
    # complement err by half a voxel each, in opposite directions.
    inner, outer = (
        sitk.SignedMaurerDistanceMap(
            to_sitk(Volume(part.astype(np.uint8), grid.affine, Kind.LABEL)),
            insideIsPositive=True,
            squaredDistance=False,
            useImageSpacing=True,
        )
        for part in (mask, ~mask)
    )
    distance: NDArray[np.float32] = sitk.GetArrayFromImage((inner - outer) / 2).transpose()
    return distance


def _copy_on_lattice(volume: Volume, grid: Grid, background: float) -> NDArray:
    rounded = np.rint(np.linalg.inv(volume.affine) @ grid.affine)
    step, start = rounded[:3, :3].astype(int), rounded[:3, 3].astype(int)
    result = _filled(grid, background, volume.array.dtype)
    source_axes = [int(np.flatnonzero(step[:, axis])[0]) for axis in range(3)]
    source = volume.array.transpose(source_axes)
    target_slices, source_slices = [], []
    for axis, source_axis in enumerate(source_axes):
        sign, first = step[source_axis, axis], start[source_axis]
        index = first + sign * np.arange(grid.size[axis])
        inside = np.flatnonzero((index >= 0) & (index < source.shape[axis]))
        if inside.size == 0:
            return result
        low, high = inside[0], inside[-1]
        target_slices.append(slice(low, high + 1))
        stop = index[high] + sign
        source_slices.append(slice(index[low], None if stop < 0 else stop, sign))
    result[tuple(target_slices)] = source[tuple(source_slices)]
    return result


def _filled(grid: Grid, value: float, dtype: np.dtype) -> NDArray:
    """An array of one value. Of zeros only what is written to takes memory, which counts where a
    small part of a large grid is."""
    return np.full(grid.size, value, dtype) if value else np.zeros(grid.size, dtype)


def _interpolated_intensities(volume: Volume, grid: Grid, background: float) -> NDArray:
    limits = float(volume.array.min()), float(volume.array.max())
    coefficients = spline_coefficients(volume)
    if math.prod(grid.size) <= _LARGE:
        return resample_spline(coefficients, grid, limits, background).array
    covered = _covered_part(volume.grid, grid)
    size = tuple(part.stop - part.start for part in covered)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.positions(np.array([[part.start for part in covered]]))[0]
    result = _filled(grid, background, coefficients.array.dtype)
    if min(size) > 0:
        part = Grid((size[0], size[1], size[2]), affine)
        result[covered] = resample_spline(coefficients, part, limits, background).array
    return result


def _covered_part(source: Grid, target: Grid) -> tuple[slice, slice, slice]:
    """The voxels of a grid that another may reach into; empty where they do not meet."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in source.size])).reshape(3, -1).T
    to_target = np.linalg.inv(target.affine)
    indices = source.positions(ends) @ to_target[:3, :3].T + to_target[:3, 3]
    size = np.array(target.size)
    first = np.floor(indices.min(0) - 1).clip(0, size).astype(int)
    stop = np.ceil(indices.max(0) + 2).clip(first, size).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return i, j, k


def _interpolated_labels(volume: Volume, grid: Grid, background: float) -> NDArray:
    steps = np.abs(np.linalg.inv(volume.affine) @ grid.affine)[:3, :3].max(1)
    if (steps < _COARSE).any():
        return _between_slices(volume, grid, background)
    return _resampled(to_sitk(volume), grid, _LABEL_INTERPOLATOR, background)


def _between_slices(volume: Volume, grid: Grid, background: float) -> NDArray:
    """Each voxel takes the label it lies deepest in (shape-based; Raya & Udupa 1990)."""
    reach = REACH * float(volume.grid.spacing.max())
    deepest = np.full(grid.size, -np.inf, np.float32)
    result = np.full(grid.size, background, volume.array.dtype)
    for value in volume.label_statistics.counts:
        distance = signed_distance(volume.array == value, volume.grid).clip(-reach, reach)
        field = Volume(distance, volume.affine, Kind.INTENSITY)
        depth = _resampled(to_sitk(field), grid, sitk.sitkLinear, -np.inf)
        result[depth > deepest] = value
        deepest = np.maximum(deepest, depth)
    return result


def _resampled(image: sitk.Image, grid: Grid, interpolator: int, background: float) -> NDArray:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in grid.size])
    resampler.SetOutputSpacing([float(s) for s in grid.spacing])
    resampler.SetOutputOrigin([float(o) for o in LPS_TO_RAS @ grid.origin])
    resampler.SetOutputDirection([float(d) for d in (LPS_TO_RAS @ grid.direction).ravel()])
    resampler.SetDefaultPixelValue(float(background))
    resampler.SetInterpolator(interpolator)
    return sitk.GetArrayFromImage(resampler.Execute(image)).transpose()
