"""Fréchet's distance between two sets of feature vectors, and the dimension that cases allow.

With few cases the distance is far above 0 between two sets of one distribution: for unit Gaussians
of d dimensions by about d (d + 5) / 4 * (1/n + 1/m), of which d (1/n + 1/m) is of the means and the
rest of the covariances. So features are projected to few dimensions first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .checks import Floats, feature_sets, standardized

MOST_BIAS = 1.3
"""What two equal distributions may lie apart in ``fit_dimensions``: 8 dimensions of 40 cases."""


def frechet_distance(real: Floats, synthetic: Floats) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of sets ``[n, d]`` and ``[m, d]`` (Dowson and
    Landau 1982), with covariances of n - 1; at least 0.

    With S = X'X of centred sets the eigenvalues of S1 S2 are the squared singular values of X1 X2',
    so the trace of the root is their sum: exact also where covariances are singular, which roots
    of matrices are not. Raises ValueError and UserError as ``feature_sets`` does (2 cases are
    needed).
    """
    real, synthetic = feature_sets("The Fréchet distance", 2, real, synthetic)
    means = real.mean(0) - synthetic.mean(0)
    first, second = _root(real), _root(synthetic)
    root_trace = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    traces = np.square(first).sum() + np.square(second).sum()
    return max(0.0, float(means @ means + traces - 2 * root_trace))


def _root(features: Floats) -> Floats:
    """R with R'R the covariance, of at most as many rows as features or cases."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    if centred.shape[0] <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def frechet_bias(dimensions: int, real: int, synthetic: int) -> float:
    """About how far two sets of so many cases of one unit Gaussian lie apart."""
    return dimensions * (dimensions + 5) / 4 * (1 / real + 1 / synthetic)


@dataclass(frozen=True)
class Dimensions:
    """How many dimensions features are projected to, and a sentence that says why."""

    count: int
    bias: float
    """What two sets of these sizes of one unit Gaussian of these dimensions lie apart."""
    reason: str


def fit_dimensions(real: int, synthetic: int) -> Dimensions:
    """The most dimensions whose bias is at most that of 8 dimensions of 40 cases; 1 at least."""
    count = 1
    while frechet_bias(count + 1, real, synthetic) <= MOST_BIAS and count + 1 < min(
        real, synthetic
    ):
        count += 1
    bias = frechet_bias(count, real, synthetic)
    reason = (
        f"{count} dimensions: with {real} real and {synthetic} synthetic cases two equal "
        f"distributions (unit Gaussians) would lie {bias:.1f} apart, and more with more dimensions"
    )
    return Dimensions(count, bias, reason)


def project(reference: Floats, *sets: Floats, dimensions: int) -> tuple[Floats, ...]:
    """The sets on the reference's first principal components, ``[n, dimensions]`` each.

    Features are first divided by their standard deviation in the reference, so that their units do
    not matter. Fewer dimensions come back where the reference has fewer. Raises ValueError and
    UserError as ``feature_sets`` and ``standardized`` do.
    """
    reference, *others = feature_sets("A projection", 2, reference, *sets)
    scaled, *moved = standardized(reference, reference, *others)
    axes = np.linalg.svd(scaled, full_matrices=False)[2]
    axes = axes[: min(dimensions, len(reference) - 1)]
    return tuple(each @ axes.T for each in moved)
