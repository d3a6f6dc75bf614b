"""Patches: samples smaller than the field of view, for parts that look at a place and not at all.

A patch lies anywhere in a field of view that is strayed like that of any other sample, mostly
within the scan, and where there is more to see than air.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...volumes.grids import GridSpec
from ...volumes.volume import Grid
from .loaded_cases import Case, CaseSource
from .samples import Augmentation, TrainingSamples, random_grid

_TRIES = 4
_LEAST_INSIDE = 0.75
"""Share of a patch that lies within the scan."""
_LEAST_DEVIATION = 0.05
"""Of a patch's intensities in [-1, 1]: air has less, noise counted in."""
_LOOK = 4
"""A patch is judged by one voxel in so many along each axis."""


class PatchSamples(TrainingSamples):
    """Like :class:`TrainingSamples`, of ``patch`` voxels each."""

    def __init__(
        self,
        cases: Sequence[CaseSource],
        spec: GridSpec,
        patch: tuple[int, int, int],
        label_values: list[int],
        augmentation: Augmentation,
        label_dropout: float,
        length: int,
        seed: int,
        outside_weight: float = 0.0,
    ) -> None:
        super().__init__(
            cases, spec, label_values, augmentation, label_dropout, length, seed, outside_weight
        )
        self.patch = patch

    def grid(self, case: Case, random: np.random.Generator) -> Grid:
        """The first of a few places that shows enough, or the last."""
        for _ in range(_TRIES):
            whole = random_grid(case.fov, self.augmentation, random)
            room = np.array(whole.size, int) - np.array(self.patch, int)
            place = _part(whole, random.integers(0, room + 1), self.patch)
            if _is_worth_it(case, place):
                break
        return place


def _is_worth_it(case: Case, place: Grid) -> bool:
    coarse = np.diag([float(_LOOK)] * 3 + [1.0])
    x, y, z = (-(-n // _LOOK) for n in place.size)
    look = Grid((x, y, z), place.affine @ coarse)
    inside = case.validity(look).mean() >= _LEAST_INSIDE
    return bool(inside and case.images_on(look).std() >= _LEAST_DEVIATION)


def _part(grid: Grid, first: NDArray[np.integer], size: tuple[int, int, int]) -> Grid:
    """The part of a grid from voxel ``first`` on."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.positions(first[None].astype(float))[0]
    return Grid(size, affine)
