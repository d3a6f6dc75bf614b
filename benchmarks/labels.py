"""Values, presence and box of a large label map: one pass beside looking at every voxel's position.

    python benchmarks/labels.py

The plain way sorts the values and places every labelled voxel in space. Both run on one core, by
turns; times are the shortest of several, and memory is what each takes at most on top of the
volume. Needs no data: the label maps are drawn.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common import report
from MedDiffusionLib.volumes.label_statistics import find_label_statistics
from MedDiffusionLib.volumes.volume import Grid

SIZE = 256
BALLS = {
    1: ((90, 90, 90), 75), 2: ((170, 160, 150), 85), 3: ((60, 190, 60), 60),
    4: ((200, 60, 200), 55), 5: ((128, 128, 220), 35),
}  # fmt: skip
"""Label value -> centre and radius in voxels; a third of the volume together."""
TURNS, PLAIN_TURNS = 9, 3
AXES = np.diag([-1.0, -1.0, 1.0])

Found = tuple[list[int], NDArray, NDArray]
"""The values other than 0, and the box along ``AXES``: low and high in mm."""


def organs() -> NDArray[np.int32]:
    """Balls of five labels, as smooth as anatomy."""
    i, j, k = np.ogrid[:SIZE, :SIZE, :SIZE]
    array = np.zeros((SIZE,) * 3, np.int32, order="F")
    for value, ((x, y, z), radius) in BALLS.items():
        array[(i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2 < radius**2] = value
    return array


def noise() -> NDArray[np.int32]:
    """As many labelled voxels, each by itself: the worst that can come."""
    random = np.random.default_rng(0).random((SIZE,) * 3, np.float32)
    return np.asfortranarray((random < 1 / 3).astype(np.int32))


def affine(oblique: bool) -> NDArray[np.float64]:
    """Voxels of 0.7 x 0.7 x 1.2 mm, along the body's axes or turned about two of them."""
    result = np.diag([0.7, 0.7, 1.2, 1.0])
    if oblique:
        a = np.deg2rad(20)
        turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        result[:3, :3] = turn @ turn[[1, 2, 0]][:, [1, 2, 0]] @ result[:3, :3]
    return result


def in_one_pass(array: NDArray, grid: Grid) -> Found:
    found = find_label_statistics(array)
    return list(found.values), *found.box(grid.affine, AXES)


def plainly(array: NDArray, grid: Grid) -> Found:
    values = [int(value) for value in np.unique(array) if value != 0]
    along = grid.positions(np.argwhere(array != 0)) @ AXES
    half = np.abs(AXES.T @ grid.affine[:3, :3]).sum(1) / 2
    return values, along.min(0) - half, along.max(0) + half


def seconds(find: Callable[[NDArray, Grid], Found], array: NDArray, grid: Grid) -> float:
    start = time.perf_counter()
    find(array, grid)
    return time.perf_counter() - start


def peak_megabytes(find: Callable[[NDArray, Grid], Found], array: NDArray, grid: Grid) -> float:
    tracemalloc.start()
    find(array, grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def row(name: str, array: NDArray, grid: Grid) -> list[str]:
    for ours, theirs in zip(in_one_pass(array, grid), plainly(array, grid), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    once, plain = [], []
    for turn in range(TURNS):
        once.append(seconds(in_one_pass, array, grid))
        if turn < PLAIN_TURNS:
            plain.append(seconds(plainly, array, grid))
    fast, slow = min(once), min(plain)
    return [
        name,
        str(array.dtype),
        f"{np.count_nonzero(array) / 1e6:.1f} million",
        f"{1000 * fast:.0f} ms",
        f"{1000 * slow:.0f} ms",
        f"{slow / fast:.0f}",
        f"{peak_megabytes(in_one_pass, array, grid):.0f} MB",
        f"{peak_megabytes(plainly, array, grid):.0f} MB",
    ]


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    straight, oblique = (Grid((SIZE,) * 3, affine(turned)) for turned in (False, True))
    drawn = organs()
    small = drawn.astype(np.int16, order="K")
    rows = [
        row("organs, along the body's axes", drawn, straight),
        row("organs, along the body's axes", small, straight),
        row("organs, oblique", drawn, oblique),
        row("organs, oblique", small, oblique),
        row("organs, oblique, other memory order", np.ascontiguousarray(drawn), oblique),
        row("noise, oblique", noise(), oblique),
    ]
    report(
        "labels",
        f"Values, presence and box of a {SIZE}³ label map on one core",
        [
            "label map", "numbers", "labelled", "one pass", "plain", "ratio",
            "memory of the pass", "memory of the plain way",
        ],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
