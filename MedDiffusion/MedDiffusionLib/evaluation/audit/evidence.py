"""What an audit judges: numbers of cases, samples and planted copies, and no volume any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cases:
    """The real cases. ``features`` ``[n, d]``; ``is_member`` ``[n]``: trained on, else held out;
    ``is_seen`` ``[n]``: the encoder has learned from it; ``patients`` ``[n]``: numbers, the same
    for cases of one patient; ``losses`` ``[n]``: the model's denoising loss.
    """

    features: Floats
    is_member: NDArray[np.bool_]
    is_seen: NDArray[np.bool_]
    patients: NDArray[np.int64]
    losses: Floats

    def of_others(self, cases: NDArray[np.int64]) -> NDArray[np.bool_]:
        """``[k, n]``: whether a case is of another patient than each of the ``cases`` ``[k]``."""
        return self.patients[cases][:, None] != self.patients[None]


@dataclass(frozen=True, eq=False)
class Samples:
    """The synthetic volumes. ``features`` ``[k, d]``; ``cases`` ``[k]``: whose label map each was
    made from; ``outside`` ``[k]``: how alike it and that case are outside the labels.
    """

    features: Floats
    cases: NDArray[np.int64]
    outside: Floats


@dataclass(frozen=True, eq=False)
class Planted:
    """Copies of training cases, of one kind: ``features`` ``[p, d]``; ``cases`` ``[p]``."""

    features: Floats
    cases: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All of it; ``planted`` by kind."""

    cases: Cases
    samples: Samples
    planted: Mapping[str, Planted]


def correlations(first: Floats, second: Floats) -> Floats:
    """The correlation of each of one set of features with each of another, ``[k, n]``."""
    one, other = (_normalized(each) for each in (first, second))
    found: Floats = one @ other.T
    return found


def _normalized(features: Floats) -> Floats:
    centred = features - features.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
