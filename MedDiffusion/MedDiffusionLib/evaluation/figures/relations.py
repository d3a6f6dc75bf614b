"""How the contrasts of a model with several go together, label by label."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from .checks import Floats, finite

_MOST_VOXELS = 20_000
_DIRECTIONS = 8
_FEWEST_VOXELS = 10


@dataclass(frozen=True, eq=False)
class ContrastRelations:
    """Of each label and pair of contrasts; NaN where a label has too few voxels or no spread."""

    pairs: tuple[tuple[int, int], ...]
    """``P`` pairs of contrasts."""
    real: Floats
    """Pearson's correlation over the label's voxels, ``[L, P]``."""
    synthetic: Floats
    """The same of the synthetic volume."""
    distance: Floats
    """How far the joint intensities lie apart, in real interquartile ranges, ``[L, P]``."""


def contrast_relations(
    real: NDArray[Any],
    synthetic: NDArray[Any],
    labels: NDArray[Any],
    valid: NDArray[np.bool_],
    label_count: int,
) -> ContrastRelations:
    """Correlation and joint distance of contrasts of one case.

    Volumes ``[C, X, Y, Z]``, label indices 0..L and validity ``[X, Y, Z]``. The distance is the
    sliced Wasserstein distance (Rabin 2012): contrasts in units of their real interquartile range,
    mean over 8 directions in their plane of the distance between projections. With one contrast
    there are no pairs. Raises ValueError where shapes differ, UserError for values that are not
    finite.
    """
    if real.shape != synthetic.shape or not real.shape[1:] == labels.shape == valid.shape:
        raise ValueError(f"shapes {real.shape}, {synthetic.shape}, {labels.shape}, {valid.shape}")
    pairs = tuple(combinations(range(len(real)), 2))
    found = np.full((3, label_count, len(pairs)), np.nan)
    for label in range(1, label_count + 1) if pairs else ():
        where = np.flatnonzero(valid & (labels == label))
        if len(where) < _FEWEST_VOXELS:
            continue
        where = where[:: -(-len(where) // _MOST_VOXELS)]
        one, other = _values(real, where), _values(synthetic, where)
        for number, pair in enumerate(pairs):
            chosen = list(pair)
            found[:, label - 1, number] = (
                _correlation(one[chosen]),
                _correlation(other[chosen]),
                _joint_distance(one[chosen], other[chosen]),
            )
    return ContrastRelations(pairs, *found)


def _values(image: NDArray[Any], where: NDArray[np.intp]) -> Floats:
    """Of each contrast at some voxels, ``[C, n]``."""
    values = image.reshape(len(image), -1)[:, where]
    return np.asarray(finite(values, "A volume's values"), np.float64)


def _correlation(values: Floats) -> float:
    """Of two contrasts ``[2, n]``; NaN where one is constant."""
    centred = values - values.mean(1, keepdims=True)
    one, other = np.sqrt(np.square(centred).sum(1))
    return float(centred[0] @ centred[1] / (one * other)) if min(one, other) > 0 else np.nan


def _joint_distance(real: Floats, synthetic: Floats) -> float:
    """Of two contrasts ``[2, n]``; NaN where a real one has no spread."""
    scale = np.diff(np.percentile(real, [25, 75], axis=1), axis=0).T
    if scale.min() <= 0:
        return np.nan
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    one, other = directions @ (real / scale), directions @ (synthetic / scale)
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(one, other, strict=True)]))
