"""The kernel distance: whether two sets of feature vectors are of one distribution."""

from __future__ import annotations

import numpy as np

from .checks import Floats, feature_sets, standardized


def kernel_distance(real: Floats, synthetic: Floats, reference: Floats | None = None) -> float:
    """The unbiased squared maximum mean discrepancy (Gretton 2012, eq. 3) of sets ``[n, d]`` and
    ``[m, d]`` with the kernel (x.y / d + 1)^3 (Binkowski 2018).

    0 in the mean where both are of one distribution, with any number of cases, and so about as
    often below 0. Features are standardized by ``reference``, which is ``real`` unless given: the
    same for all sets that are compared. Raises ValueError and UserError as ``feature_sets`` and
    ``standardized`` do (2 cases are needed).
    """
    reference = real if reference is None else reference
    real, synthetic, reference = feature_sets("The kernel distance", 2, real, synthetic, reference)
    real, synthetic = standardized(reference, real, synthetic)
    across = float(_kernel(real, synthetic).mean())
    return _mean_of_others(real) + _mean_of_others(synthetic) - 2 * across


def _kernel(one: Floats, other: Floats) -> Floats:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _mean_of_others(features: Floats) -> float:
    """The mean kernel of different cases."""
    kernel = _kernel(features, features)
    return float(kernel.sum() - np.trace(kernel)) / (len(features) * (len(features) - 1))
