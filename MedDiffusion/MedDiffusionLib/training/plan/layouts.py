"""The grid of a planned model: spacing, field of view, representation, levels (rules 2 to 6).

The rules are numbered as in :mod:`.planning`, which lists them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.findings import DataReport

_ANISOTROPIC, _NEARLY_ISOTROPIC = 3.0, 1.25
_MARGIN = 12.0
_IDENTITY_VOXELS, _HAAR_VOXELS = 24**3, 96**3
_MOST_LEVELS, _COARSEST, _LEAST_SIZE = 3, 3, 8


@dataclass(frozen=True)
class Layout:
    """A grid (``spacing`` in mm, ``size`` in voxels), its Haar levels and the network's levels."""

    spacing: NDArray[np.float64]
    size: tuple[int, ...]
    haar_levels: int
    levels: int


def choose_spacing(report: DataReport) -> NDArray[np.float64]:
    """In mm, along the RAS axes (rule 2)."""
    every = np.array([facts.spacing for facts in report.facts])
    spacing: NDArray[np.float64] = np.median(every, axis=0)
    coarsest = int(spacing.argmax())
    if spacing[coarsest] > _ANISOTROPIC * spacing.min():
        fine = float(np.percentile(every[:, coarsest], 10))
        spacing[coarsest] = max(fine, np.delete(spacing, coarsest).max())
    if spacing.max() <= _NEARLY_ISOTROPIC * spacing.min():
        spacing[:] = np.exp(np.log(spacing).mean())
    return np.round(spacing, 4)


def field_of_view(report: DataReport) -> NDArray[np.float64]:
    """In mm, along the RAS axes (rule 3)."""
    boxes = np.percentile([facts.box for facts in report.facts], 95, axis=0)
    scan = np.median([facts.extent for facts in report.facts], axis=0)
    return np.minimum(boxes + 2 * _MARGIN, scan)


def choose_layout(spacing: NDArray[np.float64], extent: NDArray[np.float64], most: int) -> Layout:
    """The finest grid of at most ``most`` voxels over ``extent`` in mm (rules 4 to 6)."""
    finest = float(spacing.min())
    while True:
        coarsened = spacing.clip(min=finest).round(4)
        # Float noise must not add a voxel to a field of view of whole voxels.
        voxels = np.maximum(np.ceil(extent / coarsened - 1e-3), _LEAST_SIZE).astype(int)
        count = math.prod(voxels.tolist())
        haar_levels = 0 if count <= _IDENTITY_VOXELS else 1 if count <= _HAAR_VOXELS else 2
        shortest = math.ceil(voxels.min() / 2**haar_levels)
        levels = 1
        while levels < _MOST_LEVELS and shortest >= _COARSEST * 2**levels:
            levels += 1
        multiple = 2 ** (haar_levels + levels - 1)
        size = tuple(math.ceil(n / multiple) * multiple for n in voxels.tolist())
        if math.prod(size) <= most:
            return Layout(coarsened, size, haar_levels, levels)
        finest *= 1.02
