"""Cases as samples are drawn from them: normalized, no finer than the model's grid.

Their voxels lie in memory, or on disk (:class:`StoredCase`) and are mapped while a sample is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...bundles.manifest import Manifest
from ...volumes.grids import Box, GridSpec, fov_grid
from ...volumes.normalization import MODEL_RANGE, Intensity, to_model_range
from ...volumes.resampling import resample, resample_spline, share_lattice, spline_coefficients
from ...volumes.volume import Grid, Kind, Volume
from .findings import CaseFacts

_MUCH_FINER = 1.25
"""Scans whose voxels are smaller than the model's by more than this are averaged once, on being
prepared: each sample would otherwise average them anew, which starves the device."""
_SUPPORT = 8
"""Voxels beyond which the others do not tell in a spline's coefficient, or in where a label ends
between thick slices."""
_RIM = 2
"""Voxels beside the outermost labels that interpolation may still give to them."""
_SPLINE_SUPPORT = 2
"""Coefficients beside a place that tell in the cubic spline there."""


@dataclass(frozen=True)
class Case:
    """One case: normalized images; the labelled part of the label map, as indices (uint8 or int16).

    ``coefficients``: the B-spline's of each image, found once because each sample that is turned
    needs them; ``annotated``: ``[L]``, which labels occur; ``fov``: the field of view around them.
    """

    name: str
    images: tuple[Volume, ...]
    coefficients: tuple[Volume, ...]
    labels: Volume
    annotated: NDArray[np.bool_]
    fov: Grid

    @property
    def scan(self) -> Grid:
        return self.images[0].grid

    def open(self) -> Case:
        """Itself: its voxels are at hand."""
        return self

    def images_on(self, grid: Grid) -> NDArray[np.float32]:
        """The images ``[C, X, Y, Z]`` on a grid.

        Beyond the scan they are mirrored, so that a field of view that leaves it shows plausible
        tissue; how much those voxels count in the loss is for the training to say.
        """
        first, last = _reach(grid, self.scan, _SPLINE_SUPPORT)
        if share_lattice(self.scan, grid):
            parts = [_mirrored_part(image, first, last) for image in self.images]
            return np.stack([resample(part, grid).array for part in parts])
        splines = [_mirrored_part(image, first, last) for image in self.coefficients]
        return np.stack([resample_spline(s, grid, MODEL_RANGE, -1.0).array for s in splines])

    def labels_on(self, grid: Grid) -> NDArray[np.integer]:
        """The label indices ``[X, Y, Z]`` on a grid, 0 beyond the labels."""
        result = np.zeros(grid.size, self.labels.array.dtype)
        own = self.labels.grid
        near = _window(*_reach(grid, own, _SUPPORT), own.size)
        touched = _window(*_reach(own, grid, 0), grid.size)
        part, place = self.labels.array[near], result[touched]
        if part.size and place.size:
            source = Volume(part, _moved(own, _first(near)), Kind.LABEL)
            target = Grid(place.shape, _moved(grid, _first(touched)))
            place[...] = resample(source, target).array
        return result

    def validity(self, grid: Grid) -> NDArray[np.bool_]:
        """Where the grid's voxels lie inside the scan, ``[X, Y, Z]``."""
        to_scan = np.linalg.inv(self.scan.affine) @ grid.affine
        steps = np.ogrid[tuple(slice(n) for n in grid.size)]
        inside = np.ones(grid.size, bool)
        for row, size in zip(to_scan[:3], self.scan.size, strict=True):
            index = sum((a * n for a, n in zip(row[:3], steps, strict=True)), row[3])
            inside &= (index >= -0.5) & (index <= size - 0.5)
        return inside


@dataclass(frozen=True)
class StoredCase:
    """A case whose voxels lie in ``.npy`` files of a folder; small, whatever their number.

    Affines 4 x 4: ``scan`` of the images, ``labels`` of the labelled part; else as :class:`Case`.
    """

    name: str
    folder: Path
    channels: int
    scan: NDArray[np.float64]
    labels: NDArray[np.float64]
    annotated: NDArray[np.bool_]
    fov: Grid

    def open(self) -> Case:
        """The case with its files mapped into memory, for as long as it is held."""
        numbers = range(self.channels)
        return Case(
            self.name,
            tuple(self._mapped(f"scan{n}", self.scan, Kind.INTENSITY) for n in numbers),
            tuple(self._mapped(f"spline{n}", self.scan, Kind.INTENSITY) for n in numbers),
            self._mapped("indices", self.labels, Kind.LABEL),
            self.annotated,
            self.fov,
        )

    def _mapped(self, name: str, affine: NDArray[np.float64], kind: Kind) -> Volume:
        return Volume(np.load(self.folder / f"{name}.npy", mmap_mode="r"), affine, kind)


class CaseSource(Protocol):
    """Where samples come from: a case in memory or on disk."""

    def open(self) -> Case: ...


def make_case(
    name: str,
    images: Sequence[Volume],
    labels: Volume,
    spec: GridSpec,
    label_values: list[int],
    intensity: Intensity,
) -> Case:
    """Normalize a case; its labels become indices 1, 2, ... in the order of the model.

    A scan much finer than the model's grid is averaged to the model's spacing. Where nothing is
    labelled the field of view is in the middle of the scan.

    ``images``: one per channel, on one grid; ``intensity`` as in a manifest.
    """
    box = None if labels.array.any() else _whole_box(images[0].grid, spec)
    fov = fov_grid(labels, spec, box=box)
    indices = np.zeros(labels.array.shape, np.uint8 if len(label_values) < 256 else np.int16)
    for index, value in enumerate(label_values, start=1):
        indices[labels.array == value] = index
    index_map = Volume(indices, labels.affine, Kind.LABEL)
    annotated = np.isin(np.arange(1, len(label_values) + 1), indices)
    normalized = []
    for channel, image in enumerate(images):
        scaled = to_model_range(image.array, intensity.limits(image.array, channel))
        normalized.append(Volume(scaled, image.affine, Kind.INTENSITY))
    if coarser := _coarser_grid(images[0].grid, fov):
        normalized = [resample(image, coarser, background=-1.0) for image in normalized]
        index_map = resample(index_map, coarser)
    coefficients = tuple(_mirrored_coefficients(image) for image in normalized)
    return Case(name, tuple(normalized), coefficients, _labelled_part(index_map), annotated, fov)


def _whole_box(scan: Grid, spec: GridSpec) -> Box:
    """The box of a scan along the model's axes."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in scan.size])).reshape(3, -1).T
    along = scan.positions(ends) @ spec.axes
    return along.min(0), along.max(0)


def disk_needed(facts: Iterable[CaseFacts], manifest: Manifest) -> int:
    """The most bytes that cases of such facts take on disk, as read or once they are prepared."""
    wanted = np.abs(manifest.grid.axes) @ manifest.grid.spacing
    channels, total = len(manifest.channels), 0.0
    for case in facts:
        own, read = np.array(case.spacing), math.prod(case.size)
        spacing = own if _is_fine_enough(own, wanted) else np.maximum(own, wanted)
        prepared = float(np.prod(np.floor(case.extent / spacing + 1e-3)))
        labelled = float(np.prod(case.box / spacing))
        label_map = read * np.min_scalar_type(max(case.voxels, default=0)).itemsize
        # Each voxel's intensity; once prepared, beside it its spline's coefficient.
        images = max(4 * channels * read, 8 * channels * prepared + labelled)
        total += label_map + images
    return int(total)


def _is_fine_enough(spacing: NDArray[np.float64], wanted: NDArray[np.float64]) -> bool:
    return bool((wanted <= _MUCH_FINER * spacing).all())


def _coarser_grid(scan: Grid, fov: Grid) -> Grid | None:
    """The grid inside a scan with voxels at least the model's size; None where it has such.

    Where the axes agree it shares the field of view's lattice, so that samples that do not turn
    still copy its voxels.
    """
    alignment = np.abs(fov.direction.T @ scan.direction)
    wanted = fov.spacing[alignment.argmax(0)]
    if _is_fine_enough(scan.spacing, wanted):
        return None
    if (alignment.max(0) > 1 - 1e-4).all() and (
        scan.spacing[alignment.argmax(1)] <= fov.spacing
    ).all():
        lattice = fov
    else:
        affine = scan.affine.copy()
        affine[:3, :3] = scan.direction * np.maximum(scan.spacing, wanted)
        lattice = Grid(scan.size, affine)
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in scan.size])).reshape(3, -1).T
    to_lattice = np.linalg.inv(lattice.affine)
    indices = scan.positions(ends) @ to_lattice[:3, :3].T + to_lattice[:3, 3]
    first = np.ceil(indices.min(0) + 0.5 - 1e-3).astype(int)
    last = np.floor(indices.max(0) - 0.5 + 1e-3).astype(int)
    i, j, k = (int(n) for n in last - first + 1)
    return Grid((i, j, k), _moved(lattice, first)) if min(i, j, k) > 0 else None


def _reach(grid: Grid, scan: Grid, margin: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The voxels of a scan's lattice up to ``margin`` beside those of a grid: from, to."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size])).reshape(3, -1).T
    to_scan = np.linalg.inv(scan.affine)
    indices = grid.positions(corners) @ to_scan[:3, :3].T + to_scan[:3, 3]
    first = np.floor(indices.min(0)).astype(int) - margin
    return first, np.ceil(indices.max(0)).astype(int) + 1 + margin


def _window(
    first: NDArray[np.integer], last: NDArray[np.integer], size: tuple[int, int, int]
) -> tuple[slice, ...]:
    """The voxels from ``first`` to before ``last`` that an array of ``size`` has."""
    ends = zip(first, last, size, strict=True)
    return tuple(slice(max(int(a), 0), max(min(int(b), n), 0)) for a, b, n in ends)


def _first(window: tuple[slice, ...]) -> NDArray[np.integer]:
    return np.array([part.start for part in window])


def _labelled_part(labels: Volume) -> Volume:
    """The box of a label map's labels, with ``_RIM`` voxels around it; a voxel without any."""
    if not labels.array.any():
        return Volume(labels.array[:1, :1, :1].copy(), labels.affine, Kind.LABEL)
    others = (tuple(n for n in range(3) if n != axis) for axis in range(3))
    ends = [np.flatnonzero(labels.array.any(axes))[[0, -1]] for axes in others]
    first, last = np.transpose(ends)
    window = _window(first - _RIM, last + 1 + _RIM, labels.grid.size)
    affine = _moved(labels.grid, _first(window))
    return Volume(labels.array[window].copy(), affine, Kind.LABEL)


def _mirrored_part(image: Volume, first: NDArray[np.integer], last: NDArray[np.integer]) -> Volume:
    """The voxels of an image from ``first`` to before ``last``, mirrored beyond its ends."""
    axes = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
    index = np.ix_(*[_mirrored(a, n) for a, n in zip(axes, image.array.shape, strict=True)])
    return Volume(image.array[index], _moved(image.grid, first), image.kind)


def _mirrored_coefficients(image: Volume) -> Volume:
    """The B-spline's coefficients for an image that goes on mirrored; they are mirrored likewise.

    A voxel's share in a coefficient falls to 0.27 with each voxel between; past ``_SUPPORT`` of
    them it is 0.00003 (Unser et al. 1993, the pole of the cubic B-spline).
    """
    size = np.array(image.array.shape)
    around = spline_coefficients(_mirrored_part(image, np.full(3, -_SUPPORT), size + _SUPPORT))
    inner = (slice(_SUPPORT, -_SUPPORT),) * 3
    return Volume(np.ascontiguousarray(around.array[inner]), image.affine, image.kind)


def _mirrored(index: NDArray[np.integer], size: int) -> NDArray[np.integer]:
    """Indices beyond an axis brought back into it, by mirrors at its ends."""
    period = index % (2 * size)
    return np.where(period < size, period, 2 * size - 1 - period)


def _moved(scan: Grid, first: NDArray[np.integer]) -> NDArray[np.float64]:
    """The affine of the part of a scan that begins at voxel ``first``."""
    affine = scan.affine.copy()
    affine[:3, 3] = scan.positions(first[None])[0]
    return affine
