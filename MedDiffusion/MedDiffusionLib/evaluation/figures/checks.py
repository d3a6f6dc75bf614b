"""What every figure asks of its arrays, and the scale that several give to features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError

Floats = NDArray[np.float64]

_CONSTANT = 1e-9
"""Deviations below this part of a feature's size are rounding."""


def finite(values: NDArray[Any], what: str) -> NDArray[Any]:
    """The values; raises UserError (code ``not-finite``) where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{what} are not finite", "look at the volumes for NaN or infinity", code="not-finite"
        )
    return values


def enough(count: int, fewest: int, figure: str) -> None:
    """Raise UserError (code ``too-few-cases``) where there are fewer cases than a figure needs."""
    if count < fewest:
        raise UserError(
            f"{figure} needs at least {fewest} cases, and there are {count}",
            "give more cases or leave this figure out",
            code="too-few-cases",
        )


def feature_sets(figure: str, fewest: int, *sets: NDArray[Any]) -> tuple[Floats, ...]:
    """Sets of feature vectors ``[n, d]`` as float64.

    Raises ValueError where they are not of one ``d``, UserError as ``finite`` and ``enough`` do.
    """
    arrays = tuple(np.asarray(each, np.float64) for each in sets)
    if any(each.ndim != 2 or each.shape[1:] != arrays[0].shape[1:] for each in arrays):
        raise ValueError(f"sets of feature vectors of shapes {[each.shape for each in arrays]}")
    for each in arrays:
        enough(len(each), fewest, figure)
        finite(each, "Features")
    return arrays


def standardized(reference: Floats, *sets: Floats) -> tuple[Floats, ...]:
    """Sets ``[n, d]`` with the reference's mean subtracted, divided by its standard deviation.

    Features that are the same in all cases of the reference are left out, since they have no scale.
    Raises UserError (code ``constant``) where that is all of them.
    """
    mean, deviation = reference.mean(0), reference.std(0, ddof=1)
    varies = deviation > _CONSTANT * np.abs(reference).max(0)
    if not varies.any():
        raise UserError(
            "All real cases have the same features",
            "give volumes that differ from each other",
            code="constant",
        )
    return tuple((each[:, varies] - mean[varies]) / deviation[varies] for each in sets)
