"""Quilting: one label map put together from parts of many, so that it is a copy of none.

Image quilting (Efros & Freeman 2001) in 3D, on label maps in one space: cells are laid one beside
the other, each from the map that agrees best with what lies there already, and no map gives more
than a few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELLS = 9
"""Cells along the mean edge of the maps."""
_JITTER = 0.18
"""Deviation of the cells' middles from a lattice, in its steps."""
_BAND = 3.0
"""Voxels beyond a cell's border in which maps are compared."""
_USES = 2
"""Cells with more than one label that a map gives at most, while there are others."""


def quilt(
    sources: NDArray[np.uint8], generator: np.random.Generator, cells: float = CELLS
) -> NDArray[np.uint8]:
    """A label map ``[X, Y, Z]`` of cells of label maps ``[N, X, Y, Z]`` (indices).

    A voxel belongs to the cell whose middle is nearest. Cells are laid from the middle of the map
    outwards.
    """
    size = np.array(sources.shape[1:])
    step = float(np.cbrt(size.prod())) / cells
    result = np.zeros(size, np.uint8)
    nearest = np.full(size, np.inf, np.float32)
    """Distance to the middle of the cell that a voxel belongs to so far."""
    used = np.zeros(len(sources), int)
    for middle in _middles(size, step, generator):
        reach = 1.5 * step + _BAND
        low = np.maximum(np.floor(middle - reach), 0).astype(int)
        high = np.minimum(np.ceil(middle + reach) + 1, size).astype(int)
        if (low >= high).any():
            continue
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[window]
        distance = np.sqrt(sum((a - m) ** 2 for a, m in zip(axes, middle, strict=True)))
        taken = (distance < nearest[window]) & (distance < reach)
        if not taken.any():
            continue
        laid = np.isfinite(nearest[window])
        band = laid & (distance < nearest[window] + _BAND) & (distance < reach)
        differences = (sources[(slice(None), *window)][:, band] != result[window][band]).sum(1)
        # Of maps that agree alike any will do; those that gave enough come last.
        order = np.lexsort((generator.random(len(sources)), differences, used >= _USES))
        chosen = sources[order[0]][window]
        if len(np.unique(chosen[taken])) > 1:
            used[order[0]] += 1
        result[window][taken] = chosen[taken]
        nearest[window][taken] = distance[taken]
    return result


def _middles(
    size: NDArray[np.int64], step: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The cells' middles ``[N, 3]`` in voxels, the innermost first."""
    first = -generator.random(3) * step
    axes = [np.arange(f, n + step, step) for f, n in zip(first, size, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    middles = lattice + generator.normal(0, _JITTER * step, lattice.shape)
    return middles[np.argsort(np.linalg.norm(middles - size / 2, axis=1))]
