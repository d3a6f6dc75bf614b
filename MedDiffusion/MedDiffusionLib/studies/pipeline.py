"""One way for the volumes of both arms, so that nothing but what they show is different.

Each is cut to the box that all have, resampled to one grid by one interpolator, always half a voxel
off its own lattice (where a lattice is met, nothing is smoothed), clipped at the same percentiles,
scaled, and written with the same header to a file of the same size and date.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..volumes.resampling import resample_spline, spline_coefficients, to_sitk
from ..volumes.volume import Grid, Kind, Volume
from ..volumes.writing import writing

WINDOW = (0.0, 1000.0)
"""What intensities are scaled to, and shown with."""
TRIM = 2
"""Voxels taken off each face: generated volumes are less sure there, and files are padded."""
_FILL = 0.1
"""Part of a face's voxels with the padding's value above which it is taken off."""
_LEAST = 8
"""Voxels along each axis below which there is too little to judge."""
_PERCENT = (0.5, 2.0)
"""What is clipped at either end, in percent of the voxels, at least and at most."""
_DATE = 946_684_800
"""Of all files: 2000-01-01, in seconds since 1970."""


@dataclass(frozen=True)
class Extent:
    """What is known of a volume before any is written: along its axes nearest to R, A, S.

    ``spacing`` in mm; ``start`` and ``stop``: the valid voxels; ``centre``: of the region that all
    volumes are aligned by, as an index. ``lowest`` and ``highest``: the part of the voxels that
    have the lowest and the highest value (what is saturated).
    """

    name: str
    spacing: NDArray[np.float64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    centre: NDArray[np.float64]
    lowest: float
    highest: float

    @property
    def reach(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far the valid voxels' centres reach below and above the centre, in mm ``[3]``."""
        return (self.centre - self.start) * self.spacing, (
            self.stop - 1 - self.centre
        ) * self.spacing


@dataclass(frozen=True)
class Standard:
    """What all volumes are brought to: voxels, mm, mm below the centre, and clipped percent."""

    size: tuple[int, int, int]
    spacing: NDArray[np.float64]
    below: NDArray[np.float64]
    clipped: tuple[float, float]
    limits: tuple[float, float] | None = None
    """Intensities that are clipped at in place of percentiles, where they have a unit, as in CT."""


def canonical(volume: Volume) -> Volume:
    """The volume with its axes permuted and flipped to the nearest of R, A, S."""
    direction = volume.grid.direction
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(direction[row, axis]) for row, axis in enumerate(axes)),
    )
    array = volume.array.transpose(order)
    affine = volume.affine[:, [*order, 3]].copy()
    for axis in range(3):
        if affine[axis, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return Volume(array, affine, volume.kind)


def valid_box(array: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and stop index ``[3]`` of what is no padding.

    Padding is the value that is most frequent on the array's faces; faces are taken off as long as
    a tenth of one has it, the worst first. Raises ValueError where nothing is left.
    """
    faces = [np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    padded = array == values[counts.argmax()]
    start, stop = np.zeros(3, np.int64), np.array(array.shape)
    while True:
        left = padded[tuple(slice(*ends) for ends in zip(start, stop, strict=True))]
        if not left.size:
            raise ValueError("nothing but padding")
        shares = [np.take(left, end, axis).mean() for axis in range(3) for end in (0, -1)]
        worst = int(np.argmax(shares))
        if shares[worst] <= _FILL:
            return start, stop
        if worst % 2:
            stop[worst // 2] -= 1
        else:
            start[worst // 2] += 1


def extent(name: str, volume: Volume, labels: Volume | None, trim: int = TRIM) -> Extent:
    """What is known of a volume; ``labels``: the label map whose box is to be the centre.

    Raises UserError for a volume without anything to see.
    """
    upright = canonical(volume)
    try:
        start, stop = valid_box(upright.array)
    except ValueError as error:
        raise UserError(
            f"{name} shows nothing but one value", "leave it out", code="study-empty-volume"
        ) from error
    start, stop = start + trim, stop - trim
    centre = (start + stop - 1) / 2
    if labels is not None:
        box = labels.label_statistics.index_box
        middle = np.array([[(part.start + part.stop - 1) / 2 for part in box]])
        position = labels.grid.positions(middle)[0]
        centre = (np.linalg.inv(upright.affine) @ np.append(position, 1))[:3]
    part = upright.array[tuple(slice(*ends) for ends in zip(start, stop, strict=True))]
    if not part.size:
        raise UserError(
            f"{name} is too small", "leave it out, or trim less", code="study-empty-volume"
        )
    lowest, highest = (float((part == end).mean()) for end in (part.min(), part.max()))
    return Extent(name, upright.grid.spacing, start, stop, centre, lowest, highest)


def standard(extents: Sequence[Extent], limits: tuple[float, float] | None = None) -> Standard:
    """What all volumes can be brought to: the box that all have, the coarsest spacing of all.

    Raises UserError, with the volume that has least, where that is too small to judge.
    """
    spacing = np.max([e.spacing for e in extents], axis=0)
    below, above = (np.array([e.reach[side] for e in extents]) for side in (0, 1))
    # A voxel less than fits: each volume's first voxel is moved to half a voxel off its lattice.
    size = np.floor((below.min(0) + above.min(0)) / spacing + 1e-6).astype(int)
    if (size < _LEAST).any():
        axis = int(size.argmin())
        ends = (int(below[:, axis].argmin()), int(above[:, axis].argmin()))
        least = min(ends, key=lambda n: float(below[n, axis] + above[n, axis]))
        raise UserError(
            f"The volumes do not overlap enough: {max(int(size[axis]), 0)} voxels along axis "
            f"{'RAS'[axis]} are common to all, and {extents[least].name} has least",
            "leave that volume out, or crop the volumes about the same region",
            code="study-no-overlap",
        )
    least_percent, most = _PERCENT
    low, high = (
        float(np.clip(100 * max(shares), least_percent, most))
        for shares in ([e.lowest for e in extents], [e.highest for e in extents])
    )
    i, j, k = (int(n) for n in size)
    return Standard((i, j, k), spacing, below.min(0), (low, high), limits)


def standardized(volume: Volume, known: Extent, to: Standard) -> NDArray[np.int16]:
    """A volume as it is shown, ``[i, j, k]``; raises UserError where it is constant there."""
    upright = canonical(volume)
    # In a frame of its own: where it lay in the scanner would be told by the header.
    spacing = known.spacing
    source = Volume(upright.array, np.diag([*spacing, 1.0]), Kind.INTENSITY)
    first = known.centre - to.below / spacing
    affine = np.diag([*to.spacing, 1.0])
    affine[:3, 3] = (np.ceil(first - 0.5 - 1e-6) + 0.5) * spacing
    limits = float(upright.array.min()), float(upright.array.max())
    shown = resample_spline(
        spline_coefficients(source), Grid(to.size, affine), limits, background=limits[0]
    ).array
    low, high = to.limits or np.percentile(shown, [to.clipped[0], 100 - to.clipped[1]])
    if not (low < high and (shown > low).any() and (shown < high).any()):
        within = f"between {low:g} and {high:g}" if to.limits else "but one value"
        raise UserError(
            f"{known.name} shows nothing {within}", "leave it out", code="study-empty-volume"
        )
    part = np.rint(WINDOW[0] + (shown - low) / (high - low) * (WINDOW[1] - WINDOW[0]))
    # What is not clipped is not rounded to the ends: so all volumes have as many voxels there.
    part = np.clip(part, WINDOW[0] + 1, WINDOW[1] - 1)
    part[shown <= low], part[shown >= high] = WINDOW
    return part.astype(np.int16)


def write_case(path: Path, array: NDArray[np.int16], spacing: NDArray[np.float64]) -> None:
    """Write a volume with its centre at the origin, uncompressed, so that all files are of one
    size; raises UserError."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(array.shape) - 1) / 2 * spacing
    image = to_sitk(Volume(array, affine, Kind.INTENSITY))
    with writing(path):
        try:
            sitk.WriteImage(image, str(path), useCompression=False)
            written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        except RuntimeError as error:
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        if not np.array_equal(written.transpose(), array):
            # SimpleITK reports success on a full disk.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        set_date(path)


def set_date(path: Path) -> None:
    """Give a file the date that all have; raises OSError."""
    os.utime(path, (_DATE, _DATE))
