"""How far the intensities of a label lie from the real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from ...compute.errors import UserError
from .checks import Floats, finite

_QUANTILES = 200


def intensity_distance(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """Wasserstein's distance of order 1 between two sets of values, over the real interquartile
    range: 1 is as if all values were shifted by the width of the real middle half.

    ``[n]`` and ``[m]`` values. Raises UserError where there are none or some are not finite, and
    (code ``constant``) where the real interquartile range is 0.
    """
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    if not real.size or not synthetic.size:
        raise UserError(
            "There are no values to compare", "leave this label out", code="too-few-values"
        )
    for values in (real, synthetic):
        finite(values, "A volume's values")
    scale = float(np.subtract(*np.percentile(real, [75, 25])))
    if scale <= 0:
        raise UserError(
            "Half of the real values of a label are the same", "leave it out", code="constant"
        )
    return float(wasserstein_distance(real, synthetic)) / scale


def intensity_distances(
    real: NDArray[Any],
    synthetic: NDArray[Any],
    labels: NDArray[Any],
    valid: NDArray[np.bool_],
    label_count: int,
) -> Floats:
    """``intensity_distance`` of each contrast and label of a case, ``[C, L]``.

    Volumes ``[C, X, Y, Z]``, label indices 0..L and validity ``[X, Y, Z]``. NaN where a label has
    no valid voxel or its real values have no spread. Raises ValueError where shapes differ,
    UserError for values that are not finite.
    """
    _check(real, labels, valid)
    _check(synthetic, labels, valid)
    found = np.full((len(real), label_count), np.nan)
    for label in range(1, label_count + 1):
        where = valid & (labels == label)
        for channel, (one, other) in enumerate(zip(real, synthetic, strict=True)):
            try:
                found[channel, label - 1] = intensity_distance(one[where], other[where])
            except UserError as error:
                if error.code == "not-finite":
                    raise
    return found


def label_quantiles(
    image: NDArray[Any], labels: NDArray[Any], valid: NDArray[np.bool_], label_count: int
) -> Floats:
    """The intensities of each contrast and label in few numbers, ``[C, L, 200]``: quantiles at the
    middles of 200 equal parts. NaN where a label has no valid voxel.

    With these, different cases are compared without their volumes. Raises as
    ``intensity_distances``.
    """
    _check(image, labels, valid)
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    found = np.full((len(image), label_count, _QUANTILES), np.nan)
    for label in range(1, label_count + 1):
        values = finite(image[:, valid & (labels == label)], "A volume's values")
        if values.size:
            found[:, label - 1] = np.quantile(values.astype(np.float64), levels, axis=1).T
    return found


def quantile_distance(real: Floats, synthetic: Floats) -> Floats:
    """``intensity_distance`` of two cases' ``label_quantiles``, ``[C, L]``: Wasserstein's distance
    is the mean difference of quantiles. NaN as there, and where the real ones have no spread."""
    lower, upper = (np.quantile(real, q, axis=-1) for q in (0.25, 0.75))
    scale = np.where(upper > lower, upper - lower, np.nan)
    return np.abs(real - synthetic).mean(-1) / scale


def _check(image: NDArray[Any], labels: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    if image.ndim != 4 or not image.shape[1:] == labels.shape == valid.shape:
        raise ValueError(f"shapes {image.shape}, {labels.shape} and {valid.shape}")
