"""Features that need no network: how grey levels are spread, and which lie beside which.

Those of radiomics (Haralick 1973; Zwanenburg 2020, IBSI, sections 3.3 and 3.6), over the whole of
what was scanned. Levels are of the model's range and not of each volume's, so that a volume that is
too bright or too flat differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from .base import checked

Floats = NDArray[np.float64]

LEVELS = 32
"""Grey levels of equal width between -1 and 1."""
DISTANCES = (1, 2)
"""In voxels along each axis, between neighbours."""
FIRST_ORDER = (
    "mean", "deviation", "skewness", "kurtosis", "percentile 5", "percentile 25", "median",
    "percentile 75", "percentile 95", "entropy", "uniformity",
)  # fmt: skip
TEXTURE = (
    "contrast", "dissimilarity", "homogeneity", "second moment", "entropy", "correlation",
    "cluster shade",
)  # fmt: skip
_DIRECTIONS = [d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0)]
"""One of each opposite two: 13."""


@dataclass(frozen=True)
class GrayLevels:
    """Per contrast ``FIRST_ORDER`` and, for each distance, ``TEXTURE``; then the correlation of
    each pair of contrasts. See :class:`.base.Extractor`."""

    name: str = "gray-levels"

    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Floats:
        """``[C (11 + 2 * 7) + C (C - 1) / 2]``; see the class."""
        image = checked(image, valid)
        found: list[float] = []
        for channel in image:
            levels = np.clip((channel + 1) * (LEVELS / 2), 0, LEVELS - 1).astype(np.intp)
            levels[~valid] = LEVELS
            found += first_order(channel[valid].astype(np.float64), levels[valid])
            for distance in DISTANCES:
                found += texture(neighbours(levels, distance))
        for one, other in combinations(image, 2):
            found.append(float(np.corrcoef(one[valid], other[valid])[0, 1]))
        return np.array(found)


def first_order(values: Floats, levels: NDArray[np.intp]) -> list[float]:
    """``FIRST_ORDER`` of values ``[n]`` and their grey levels; the entropy is in bits."""
    mean, deviation = float(values.mean()), float(values.std())
    away = (values - mean) / deviation
    shares = np.bincount(levels, minlength=LEVELS) / len(levels)
    squares = away * away
    moments = [float(squares @ away) / len(away), float(squares @ squares) / len(away) - 3]
    percentiles = np.percentile(values, [5, 25, 50, 75, 95]).tolist()
    return [mean, deviation, *moments, *percentiles, _entropy(shares), float(shares @ shares)]


def neighbours(levels: NDArray[np.intp], distance: int) -> Floats:
    """How often each grey level lies beside each, ``[LEVELS, LEVELS]``, symmetric with sum 1.

    Over neighbours in 26 directions, both of them valid; ``levels`` ``[X, Y, Z]`` has ``LEVELS``
    where a voxel is not. All 0 where no two valid voxels are neighbours.
    """
    counts = np.zeros((LEVELS + 1) ** 2, np.int64)
    for direction in _DIRECTIONS:
        here, there = [], []
        for step in direction:
            here.append(slice(max(0, -step * distance), -step * distance if step > 0 else None))
            there.append(slice(max(0, step * distance), step * distance if step < 0 else None))
        codes = levels[tuple(here)] * (LEVELS + 1) + levels[tuple(there)]
        counts += np.bincount(codes.ravel(), minlength=counts.size)
    matrix = counts.reshape(LEVELS + 1, LEVELS + 1)[:-1, :-1]
    return (matrix + matrix.T) / max(1, 2 * int(matrix.sum()))


def texture(matrix: Floats) -> list[float]:
    """``TEXTURE`` of a matrix as :func:`neighbours` gives it; differences are in grey levels."""
    level = np.arange(LEVELS)
    shares = matrix.sum(0)
    mean = float(shares @ level)
    variance = float(shares @ (level - mean) ** 2)
    difference = np.abs(level[:, None] - level)
    away = level - mean
    covariance = float(away @ matrix @ away)
    return [
        float((matrix * difference**2).sum()),
        float((matrix * difference).sum()),
        float((matrix / (1 + difference**2)).sum()),
        float((matrix**2).sum()),
        _entropy(matrix),
        covariance / variance if variance > 0 else 1.0,
        float((matrix * (away[:, None] + away) ** 3).sum()),
    ]


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())
