"""The detector of copies: what is nearer to a training case than real cases are to each other.

Dar et al. 2025 call a sample a copy where its nearest training case is nearer than the threshold
tau, the 5th percentile of the distance from training cases to their nearest validation case. Two
biases of that are corrected here. The nearest of many cases is nearer than the nearest of few: so
tau is taken from the nearest of just as many cases as a sample is compared with. And 5 % of all
volumes lie below tau by construction: so a share of copies stands beside that of volumes that
cannot be copies, and the excess counts. Between real cases it does not matter which of them were
trained on; but those that the encoder has learned from are further from each other than from new
volumes, so tau is taken from real cases that are new to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from .evidence import Cases, Evidence, Floats, Planted, correlations

LEVEL = 0.05
"""Share of volumes that are no copies and yet are called so."""
FEWEST_NEW = 19
"""Real cases, new to the encoder, that a threshold at that level needs."""
_PROOF = 0.9
"""Share of planted copies that must be found, with 95 % confidence: 59 of 60, or 49 of 50."""
_DRAWS = 20
_NONE = -2.0
"""Below every correlation."""


@dataclass(frozen=True)
class Detector:
    """A copy has a correlation above ``threshold`` with one of ``size`` training cases."""

    threshold: float
    size: int

    @property
    def distance(self) -> float:
        """Tau as a correlation distance."""
        return 1 - self.threshold

    def flags(self, similarity: Floats, allowed: NDArray[np.bool_], seed: int) -> Floats:
        """In how many draws of ``size`` of the allowed cases each volume is a copy, ``[k]`` in
        [0, 1]; ``similarity`` and ``allowed`` are ``[k, n]``. Volumes with fewer cases use all.
        """
        return np.mean(_nearest(similarity, allowed, self.size, seed) > self.threshold, 1)


@dataclass(frozen=True)
class Found:
    """Of the planted copies of a kind, how many were found."""

    found: int
    planted: int

    @property
    def is_proof(self) -> bool:
        """Whether at least 90 % of such copies are found, with 95 % confidence."""
        return bool(beta.ppf(0.05, self.found, self.planted - self.found + 1) >= _PROOF)


def make_detector(cases: Cases, seed: int) -> Detector:
    """The detector of these cases. Raises ValueError for too few that are new to the encoder."""
    new = np.flatnonzero(~cases.is_seen)
    if len(new) < FEWEST_NEW:
        raise ValueError(f"{len(new)} real cases are new to the encoder, not {FEWEST_NEW}")
    others = cases.of_others(new)
    size = min(int(cases.is_member.sum()), int(others.sum(1).min()))
    similarity = correlations(cases.features[new], cases.features)
    nearest = np.sort(_nearest(similarity, others, size, seed), axis=0)
    # Of n and a new one that is like them, the chance of the new one to be among the r greatest
    # is r/(n + 1).
    rank = int(np.floor(LEVEL * (len(new) + 1) + 1e-9))
    return Detector(float(nearest[-rank].mean()), size)


def prove(detector: Detector, evidence: Evidence, seed: int) -> dict[str, Found]:
    """How many planted copies of each kind are found: called copies, and of the right case."""
    return {
        kind: _found(detector, evidence.cases, planted, seed)
        for kind, planted in evidence.planted.items()
    }


def alike(cases: Cases, detector: Detector) -> list[tuple[int, int, float]]:
    """Pairs of real cases that the detector takes for copies of each other, the nearest first, with
    their correlation: each is the other's nearest, and not of its patient as far as is known.

    Two scans of a patient, or its left and right side, are such pairs. They raise the threshold
    where it is not said that they are of one patient.
    """
    everything = np.arange(len(cases.patients))
    similarity = correlations(cases.features, cases.features)
    similarity = np.where(cases.of_others(everything), similarity, _NONE)
    nearest = similarity.argmax(1)
    pairs = [
        (int(n), int(nearest[n]), float(similarity[n, nearest[n]]))
        for n in everything
        if n < nearest[n] and nearest[nearest[n]] == n
    ]
    found = [pair for pair in pairs if pair[2] > detector.threshold]
    return sorted(found, key=lambda pair: -pair[2])


def _found(detector: Detector, cases: Cases, planted: Planted, seed: int) -> Found:
    members = np.flatnonzero(cases.is_member)
    similarity = correlations(planted.features, cases.features[members])
    nearest = members[similarity.argmax(1)]
    right = cases.patients[nearest] == cases.patients[planted.cases]
    return Found(int((right & (similarity.max(1) > detector.threshold)).sum()), len(nearest))


def _nearest(similarity: Floats, allowed: NDArray[np.bool_], size: int, seed: int) -> Floats:
    """The greatest similarity to ``size`` of the allowed cases, ``[k, draws]``."""
    similarity = np.where(allowed, similarity, _NONE)
    if int(allowed.sum(1).max()) <= size:
        return similarity.max(1, keepdims=True)
    random = np.random.default_rng(seed)
    found = np.empty((len(similarity), _DRAWS))
    for draw in range(_DRAWS):
        order = np.where(allowed, random.random(similarity.shape), 2.0)
        chosen = np.argpartition(order, size - 1, axis=1)[:, :size]
        found[:, draw] = np.take_along_axis(similarity, chosen, 1).max(1)
    return found
