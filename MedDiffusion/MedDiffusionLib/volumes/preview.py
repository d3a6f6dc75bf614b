"""Pictures of a volume: the three anatomical planes, without and with the outlines of its labels.

Planes are shown in radiological convention: axial seen from the feet, coronal from the front,
sagittal from the patient's left, so that the patient's right is on the left of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .grids import GridSpec, fov_grid, labelled_box
from .resampling import resample
from .volume import Grid, Kind, Volume
from .writing import put_image

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]
"""``[row, column, RGB]``."""

_MARGIN = 25.0
"""Mm of tissue shown around the labelled box, as far as the image goes."""
_SCREEN = "LPI"
"""Axes of the display: columns run to the patient's left or back, rows to the back or down."""
_PLANES = {2: "R", 1: "R", 0: "A"}
"""Axial, coronal, sagittal: the display axis across the plane, and the letter of its left side."""
_HEIGHT, _WIDTH = 360, 720
"""Pixels that a panel fills one way without exceeding them the other way."""
_SUPPORT = 3
"""Voxels about a plane beyond which a cubic B-spline's influence is negligible."""
_BORDER = 2
_DARK, _BRIGHT = 16, 230
_PERCENTILES = (1.0, 99.0)
_GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
}


def write_preview(
    path: Path,
    image: Volume,
    labels: Volume | None,
    colors: Mapping[int, tuple[int, int, int]],
) -> None:
    """Write a PNG of the axial, coronal and sagittal plane through the middle of the labels.

    The top row shows the image alone, the bottom row adds the outlines of the labels that
    ``colors`` has (label value -> RGB, 0-255). Without labels there is one row, of all of the
    image. Black to white spans the 1st to the 99th percentile
    of the voxels shown that are above the image's minimum. The planes are square to the patient,
    whatever the axes of the volume. ``path`` ends in ``.png`` and is written straight away, not
    only once it is whole. Raises ValueError unless image and labels share a grid, UserError when no
    voxel is labelled, OSError where it cannot be written.
    """
    shown = labels
    if shown is None:
        shown = Volume(np.ones(image.array.shape, np.uint8), image.affine, Kind.LABEL)
    if not image.grid.equals(shown.grid):
        raise ValueError("A preview needs image and labels on the same grid.")
    box = _shown_box(shown)
    planes = {axis: _plane(box, _middle(shown, box), axis) for axis in _PLANES}
    minimum = float(image.array.min())
    slices = {axis: _slice(image, plane, axis, minimum) for axis, plane in planes.items()}
    low, high = _window(np.concatenate([s.ravel() for s in slices.values()]), minimum)
    plain, outlined = [], []
    for axis, plane in planes.items():
        size = _panel_size(slices[axis], np.delete(plane.spacing, axis)[::-1])
        gray = ((_enlarged(slices[axis], size) - low) / (high - low)).clip(0, 1)
        panel = np.rint(255 * gray).astype(np.uint8)[..., None].repeat(3, -1)
        _draw_letter(panel, _PLANES[axis])
        plain.append(_framed(panel))
        outlined.append(_framed(_outlined(panel, _label_panel(shown, plane, axis, size), colors)))
    rows = [np.concatenate(row, 1) for row in ((plain,) if labels is None else (plain, outlined))]
    picture = sitk.GetImageFromArray(np.concatenate(rows), isVector=True)
    put_image(path, picture)


def _shown_box(labels: Volume) -> Grid:
    """The grid, square to the patient, of the labelled box and its margin inside the volume."""
    spec = GridSpec(_SCREEN, _spacing(labels.grid), (1, 1, 1))
    low, high = box = labelled_box(labels, spec)
    x, y, z = (int(n) for n in np.ceil((high - low + 2 * _MARGIN) / spec.spacing))
    grid = fov_grid(labels, spec, (x, y, z), box)
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in labels.grid.size])).reshape(3, -1).T
    inside = (labels.grid.positions(ends) - grid.origin) @ spec.axes / spec.spacing
    first = np.maximum(np.ceil(inside.min(0)), 0).astype(int)
    last = np.minimum(np.floor(inside.max(0)), np.array(grid.size) - 1).astype(int)
    return _part(grid, first, last - first + 1)


def _spacing(grid: Grid) -> tuple[float, float, float]:
    """The grid's spacing along the patient's axes; its finest one where it is oblique to them."""
    alignment = np.abs(grid.direction)
    if (alignment.max(0) < 1 - 1e-4).any():
        x = y = z = float(grid.spacing.min())
    else:
        x, y, z = (float(s) for s in grid.spacing[alignment.argmax(1)])
    return x, y, z


def _middle(labels: Volume, box: Grid) -> NDArray[np.integer]:
    """Index in the box of the labelled voxel nearest to the centroid of all of them."""
    position = labels.grid.positions(_most_central(labels)[None])[0]
    index = np.linalg.inv(box.affine) @ np.append(position, 1)
    return np.rint(index[:3]).astype(int).clip(0, np.array(box.size) - 1)


def _most_central(labels: Volume) -> NDArray[np.integer]:
    """Index of the labelled voxel nearest to the centroid of all of them."""
    center, last = labels.label_statistics.centroid, np.array(labels.array.shape) - 1
    reach = float(labels.grid.spacing.max())
    while True:
        steps = reach / labels.grid.spacing
        low = np.ceil(center - steps).astype(int).clip(0, last)
        high = np.floor(center + steps).astype(int).clip(0, last)
        near = labels.array[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        indices = np.argwhere(near) + low
        distances = np.linalg.norm((indices - center) @ labels.affine[:3, :3].T, axis=1)
        # One further away than that may have a nearer one outside the part looked at.
        if distances.min(initial=np.inf) <= reach:
            return indices[distances.argmin()]
        reach *= 2


def _plane(box: Grid, middle: NDArray[np.integer], axis: int) -> Grid:
    """The box cut down to the plane across ``axis`` through its voxel ``middle``."""
    first, size = np.zeros(3, int), np.array(box.size)
    first[axis], size[axis] = middle[axis], 1
    return _part(box, first, size)


def _part(grid: Grid, first: NDArray[np.integer], size: NDArray[np.integer]) -> Grid:
    """The grid of ``size`` voxels that starts at voxel ``first`` of a grid."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.positions(first[None].astype(float))[0]
    x, y, z = (int(n) for n in size)
    return Grid((x, y, z), affine)


def _slice(volume: Volume, plane: Grid, axis: int, background: float) -> Array:
    """The volume on a plane across ``axis``, ``[row, column]``."""
    array = resample(_around(volume, plane), plane, background).array
    return array.take(0, axis).T.astype(np.float32)


def _around(volume: Volume, plane: Grid) -> Volume:
    """The part of the volume about a plane, so that no more than that is interpolated."""
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in plane.size])).reshape(3, -1).T
    to_volume = np.linalg.inv(volume.affine)
    indices = plane.positions(ends.astype(float)) @ to_volume[:3, :3].T + to_volume[:3, 3]
    last = np.array(volume.grid.size) - 1
    first = (np.floor(indices.min(0)).astype(int) - _SUPPORT).clip(0, last)
    last = (np.ceil(indices.max(0)).astype(int) + _SUPPORT).clip(0, last)
    return resample(volume, _part(volume.grid, first, last - first + 1))


def _window(shown: Array, minimum: float) -> tuple[float, float]:
    """The intensities to show black and white."""
    tissue = shown[shown > minimum]
    if tissue.size == 0:
        return minimum, minimum + 1
    low, high = (float(p) for p in np.percentile(tissue, _PERCENTILES))
    return low, high if high > low else low + 1


def _panel_size(plane: Array, spacing: NDArray[np.float64]) -> tuple[int, int]:
    """Rows and columns of pixels for a plane of such row and column spacing, in true proportion."""
    height, width = plane.shape * spacing
    scale = min(_HEIGHT / height, _WIDTH / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _enlarged(plane: Array, size: Sequence[int]) -> Array:
    """A plane interpolated to ``size`` pixels (rows, columns) that cover the same area."""
    step = np.array(plane.shape[::-1]) / size[::-1]
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in size[::-1]])
    resampler.SetOutputSpacing([float(s) for s in step])
    resampler.SetOutputOrigin([float(s) for s in (step - 1) / 2])
    resampler.SetInterpolator(sitk.sitkBSpline)
    return sitk.GetArrayFromImage(resampler.Execute(sitk.GetImageFromArray(plane)))


def _label_panel(
    labels: Volume, plane: Grid, axis: int, size: Sequence[int]
) -> NDArray[np.integer]:
    """The label values on a plane, ``size`` pixels.

    The mask of each label is interpolated like an image and the strongest wins, so that edges are
    smooth.
    """
    nearby = _around(labels, plane)
    values = np.unique(_slice(nearby, plane, axis, 0)).astype(int)
    strengths = []
    for value in values:
        mask = (nearby.array == value).astype(np.float32)
        part = Volume(mask, nearby.affine, Kind.INTENSITY)
        strengths.append(_enlarged(_slice(part, plane, axis, float(value == 0)), size))
    return values[np.argmax(strengths, 0)]


def _outlined(
    panel: Picture, labels: NDArray[np.integer], colors: Mapping[int, tuple[int, int, int]]
) -> Picture:
    """The panel with the outermost pixels of each label in its color."""
    padded = np.pad(labels, 1, "edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    outermost = np.any([labels != other for other in beside], 0)
    panel = panel.copy()
    for value, color in colors.items():
        panel[outermost & (labels == value)] = color
    return panel


def _draw_letter(panel: Picture, letter: str) -> None:
    """Draw a letter at the left side of the panel, with a shadow that shows it on white."""
    glyph = np.array([[c == "#" for c in row] for row in _GLYPHS[letter]]).repeat(2, 0).repeat(2, 1)
    top = max(0, (panel.shape[0] - glyph.shape[0]) // 2)
    for offset, gray in ((1, 0), (0, _BRIGHT)):
        place = panel[top + offset :, 4 + offset :][: glyph.shape[0], : glyph.shape[1]]
        place[glyph[: place.shape[0], : place.shape[1]]] = gray


def _framed(panel: Picture) -> Picture:
    """The panel in the middle of the row's height, with a dark border."""
    missing = _HEIGHT - panel.shape[0]
    above = _BORDER + missing // 2
    below = _BORDER + missing - missing // 2
    return np.pad(panel, ((above, below), (_BORDER,) * 2, (0, 0)), constant_values=_DARK)
