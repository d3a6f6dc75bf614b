"""Precision, recall, density and coverage: are volumes like real ones, and is every kind there?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from .checks import Floats, feature_sets, standardized


@dataclass(frozen=True)
class NeighbourFigures:
    """Of synthetic cases in balls about real ones, and the reverse; see ``neighbour_figures``."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_figures(
    real: Floats, synthetic: Floats, k: int = 5, reference: Floats | None = None
) -> NeighbourFigures:
    """Kynkäänniemi's (2019) precision and recall, Naeem's (2020) density and coverage.

    A case's ball reaches to its k-th neighbour in its own set. Precision: the share of synthetic
    cases in a real ball. Recall: the share of real cases in a synthetic ball. Density: in how many
    real balls a synthetic case lies, over k; 1 in the mean for one distribution, and may be above.
    Coverage: the share of real balls with a synthetic case; see ``expected_coverage``.

    Sets are ``[n, d]`` and ``[m, d]``; features are standardized by ``reference``, which is
    ``real`` unless given. Raises ValueError and UserError as ``feature_sets`` and ``standardized``
    do (k + 1 cases are needed).
    """
    reference = real if reference is None else reference
    name = f"A figure of {k} neighbours"
    real, synthetic, reference = feature_sets(name, k + 1, real, synthetic, reference)
    real, synthetic = standardized(reference, real, synthetic)
    across = cdist(real, synthetic)
    real_radius, synthetic_radius = _radii(real, k), _radii(synthetic, k)
    in_real = across <= real_radius[:, None]
    in_synthetic = across <= synthetic_radius[None]
    return NeighbourFigures(
        precision=float(in_real.any(0).mean()),
        recall=float(in_synthetic.any(1).mean()),
        density=float(in_real.sum(0).mean() / k),
        coverage=float(in_real.any(1).mean()),
    )


def _radii(features: Floats, k: int) -> Floats:
    """The distance of each case to its k-th neighbour; itself is the neighbour number 0."""
    return np.partition(cdist(features, features), k, axis=1)[:, k]


def expected_coverage(real: int, synthetic: int, k: int = 5) -> float:
    """The mean coverage of two sets of one distribution (Naeem 2020, lemma 2): the chance that not
    all k nearest of a real case among all others are real."""
    others = real - 1 + synthetic
    steps = np.arange(k)
    return float(1 - np.prod((real - 1 - steps) / (others - steps)))
