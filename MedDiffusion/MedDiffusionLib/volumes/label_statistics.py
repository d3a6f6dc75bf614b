"""What is labelled in a label map, and where: found in one pass over its voxels.

A label map consists of runs of equal voxels. The pass finds where neighbours in memory differ, and
does all else with the few runs between these places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError

_AT_ONCE = 2**18
"""Voxels looked at together: few enough for the processor's cache."""
_POINTS_AT_ONCE = 2**13
"""Points placed together: few enough that numpy does it in one thread, without waiting for others
on a busy machine."""


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """The values of a label map's voxels, and the place of those that are labelled (not 0)."""

    counts: Mapping[int, int]
    """Value -> its number of voxels, in ascending order; with 0 where it occurs."""
    ends: NDArray[np.int32]
    """``[N, 3]``: indices (i, j, k) of the first and the last labelled voxel of every line of
    voxels along one axis. Any linear function of the position takes its smallest and its largest
    value among the labelled voxels at some of these."""
    centroid: NDArray[np.float64]
    """Mean index (i, j, k) of the labelled voxels, ``[3]``; NaN where there is none."""

    @property
    def values(self) -> tuple[int, ...]:
        """The values other than 0, in ascending order."""
        return tuple(value for value in self.counts if value != 0)

    @property
    def index_box(self) -> tuple[slice, slice, slice]:
        """The smallest part of the array with all labelled voxels; UserError when there is none."""
        ends = self._some_ends()
        low, high = ends.min(0).tolist(), ends.max(0).tolist()
        i, j, k = (slice(a, b + 1) for a, b in zip(low, high, strict=True))
        return i, j, k

    def box(
        self, affine: NDArray[np.float64], axes: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The box of the labelled voxels along any axes, in mm: (low, high), each ``[3]``.

        ``affine`` is the label map's; ``axes`` 3 x 3, columns are unit vectors in RAS. The box
        reaches to the outer faces of the voxels' extents along these axes.
        Raises UserError when no voxel is labelled.
        """
        ends = self._some_ends()
        parts = (ends[n : n + _POINTS_AT_ONCE] for n in range(0, len(ends), _POINTS_AT_ONCE))
        along = [(part @ affine[:3, :3].T + affine[:3, 3]) @ axes for part in parts]
        low = np.min([part.min(0) for part in along], 0)
        high = np.max([part.max(0) for part in along], 0)
        half = np.abs(axes.T @ affine[:3, :3]).sum(1) / 2
        return low - half, high + half

    def replaced(self, targets: Mapping[int, int]) -> LabelStatistics:
        """With a new value, none of them 0, for each value other than 0."""
        counts: dict[int, int] = {}
        for value, count in self.counts.items():
            new = targets[value] if value != 0 else 0
            counts[new] = counts.get(new, 0) + count
        return LabelStatistics(dict(sorted(counts.items())), self.ends, self.centroid)

    def _some_ends(self) -> NDArray[np.int32]:
        if self.ends.size == 0:
            raise UserError("The label map is empty", "label at least one voxel")
        return self.ends


def find_label_statistics(array: NDArray) -> LabelStatistics:
    """Look once at every voxel of an array ``[i, j, k]`` of whole numbers.

    The array may be of any type and memory order; it is not copied.
    """
    # Lines run along the axis that is fastest in memory.
    order = _memory_order(array)
    found: list[tuple[NDArray, NDArray]] = []
    ends = [np.zeros((0, 3), np.int32)]
    total, labelled = np.zeros(3), 0
    for first, block in _blocks(array.transpose(order)):
        starts, lengths, values = _runs(block.reshape(-1), block.shape[2])
        found.append(_counts(values, lengths))
        is_labelled = values != 0
        starts, lengths = starts[is_labelled], lengths[is_labelled]
        place = np.stack(np.unravel_index(starts, block.shape), 1) + first
        total += lengths @ place
        total[2] += lengths @ (lengths - 1) / 2
        labelled += int(lengths.sum())
        line = starts // block.shape[2]
        ends.append(place[np.diff(line, prepend=-1) != 0].astype(np.int32))
        place[:, 2] += lengths - 1
        ends.append(place[np.diff(line, append=-1) != 0].astype(np.int32))
    values, counts = _counts(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    back = np.argsort(order)
    return LabelStatistics(
        dict(zip(map(int, values), map(int, counts), strict=True)),
        np.concatenate(ends)[:, back],
        total[back] / labelled if labelled else np.full(3, np.nan),
    )


def label_values(array: NDArray) -> list[int]:
    """The values other than 0 of an array of whole numbers of any shape, in ascending order."""
    flat = array.ravel("K")
    values: set[int] = set()
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        values.update(np.unique(_runs(part, part.size)[2]).tolist())
    return sorted(values - {0})


def slices_in_memory(array: NDArray) -> NDArray:
    """The array with the axis first that is slowest in memory: iterating gives views of parts that
    lie together. Arrays of one memory order give parts that fit each other."""
    return array.transpose(_memory_order(array))


def _memory_order(array: NDArray) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _blocks(array: NDArray) -> Iterator[tuple[tuple[int, int, int], NDArray]]:
    """Parts of whole lines along the last axis, each with the index of its first voxel."""
    slow, middle, fast = array.shape
    slices = max(1, _AT_ONCE // (middle * fast))
    lines = max(1, _AT_ONCE // fast)
    for i in range(0, slow, slices):
        for j in range(0, middle, lines):
            yield (i, j, 0), array[i : i + slices, j : j + lines]


def _runs(flat: NDArray, line: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray]:
    """The start, length and value of every run of equal voxels; each line starts a new one."""
    is_start = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=is_start[1:])
    is_start[::line] = True
    starts = np.flatnonzero(is_start)
    return starts, np.diff(starts, append=flat.size), flat[starts]


def _counts(values: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
    """Each value once, in ascending order, and the sum of its lengths."""
    unique = np.unique(values)
    return unique, np.bincount(np.searchsorted(unique, values), lengths)
