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
_THICK = 2.0
IDENTITY_VOXELS = 24**3
HAAR_VOXELS, HAAR_VOXELS_CPU = 128**3, 96**3
_MOST_LEVELS, _COARSEST, _LEAST_SIZE = 3, 3, 8


@dataclass(frozen=True)
class Limits:
    """What a plan may be: ``voxels`` of a grid at most, ``haar_voxels`` of one in Haar wavelets,
    and whether a latent may be learned for a larger one."""

    voxels: int
    haar_voxels: int
    may_learn: bool


@dataclass(frozen=True)
class Layout:
    """A grid (``spacing`` in mm, ``size`` in voxels), the representation's voxels per latent voxel
    along each axis (1, 2, or more where it is ``learned``) and the network's levels."""

    spacing: NDArray[np.float64]
    size: tuple[int, ...]
    factors: tuple[int, int, int]
    learned: bool
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


def choose_layout(
    spacing: NDArray[np.float64], extent: NDArray[np.float64], limits: Limits
) -> Layout:
    """The finest grid within ``limits`` over ``extent`` in mm (rules 4 to 6)."""
    finest = float(spacing.min())
    while True:
        coarsened = spacing.clip(min=finest).round(4)
        # Float noise must not add a voxel to a field of view of whole voxels.
        voxels = np.maximum(np.ceil(extent / coarsened - 1e-3), _LEAST_SIZE).astype(int)
        count = math.prod(voxels.tolist())
        learned = count > limits.haar_voxels
        factors = (1, 1, 1) if count <= IDENTITY_VOXELS else (2, 2, 2)
        if learned:
            factors = _learned_factors(coarsened)
        shortest = min(math.ceil(n / f) for n, f in zip(voxels.tolist(), factors, strict=True))
        levels = 1
        while levels < _MOST_LEVELS and shortest >= _COARSEST * 2**levels:
            levels += 1
        multiples = [f * 2 ** (levels - 1) for f in factors]
        sizes = zip(voxels.tolist(), multiples, strict=True)
        size = tuple(math.ceil(n / multiple) * multiple for n, multiple in sizes)
        # Where there is no way but wavelets, what is rounded up must be within their limit too.
        most = limits.voxels if limits.may_learn else min(limits.voxels, limits.haar_voxels)
        if math.prod(size) <= most:
            return Layout(coarsened, size, factors, learned, levels)
        finest *= 1.02


def _learned_factors(spacing: NDArray[np.float64]) -> tuple[int, int, int]:
    """4 along each axis, 2 along one of voxels twice as thick as the finest."""
    x, y, z = (2 if thick else 4 for thick in spacing >= _THICK * spacing.min())
    return x, y, z
