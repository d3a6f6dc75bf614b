"""Re-identification: whether a synthetic volume, or its label map, tells whose it is.

Whoever has the real scans, or scans of the same people, looks for the one that a synthetic volume
was made of. A label map is a fingerprint too: a volume made from a patient's own label map shows
it, whatever the model. So this is measured with own label maps and with varied ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...statistics.estimate import critical_value, wilson
from ..figures.intervals import Interval, mean_interval
from .evidence import Floats

MOST_VOXELS = 30_000
"""Of a label map that is compared with others."""
_RANGES = 3


@dataclass(frozen=True)
class Reidentified:
    """How well a way to compare finds the patient. ``rank_one``: the share of volumes for which
    the right case comes first, ``chance`` by guessing; ``area``: the chance that the right case is
    more alike than another, 1/2 by guessing. ``count`` volumes, of as many patients."""

    rank_one: Interval
    area: Interval
    chance: float
    count: int


def reidentified(
    similarity: Floats, own: NDArray[np.int64], patients: NDArray[np.int64], seed: int
) -> Reidentified:
    """The figures of ``similarity`` ``[k, n]`` between volumes of the cases ``own`` ``[k]``, one
    for each patient, and all cases. Other cases of the same patient are left out.
    """
    mine = similarity[np.arange(len(own)), own][:, None]
    others = patients[own][:, None] != patients[None]
    better, equal = (similarity > mine) & others, (similarity == mine) & others
    first = np.where(better.any(1), 0.0, 1 / (1 + equal.sum(1)))
    count = others.sum(1)
    area = 1 - (better.sum(1) + 0.5 * equal.sum(1)) / count
    share = float(first.mean())
    rank_one = Interval(share, *wilson(share, len(own), critical_value()))
    return Reidentified(rank_one, mean_interval(area, seed), float(np.mean(1 / (1 + count))),
                        len(own))  # fmt: skip


def label_similarity(one: NDArray[np.uint8], other: NDArray[np.uint8], count: int) -> Floats:
    """The Dice of each of one set of label maps ``[k, v]`` with each of another ``[n, v]``, the
    mean over the labels that either has, ``[k, n]``."""
    total = np.zeros((len(one), len(other)))
    known = np.zeros_like(total)
    for index in range(1, count + 1):
        a, b = (one == index).astype(np.float32), (other == index).astype(np.float32)
        sizes = a.sum(1)[:, None] + b.sum(1)[None]
        total += np.divide(2 * (a @ b.T), sizes, out=np.zeros_like(sizes), where=sizes > 0)
        known += sizes > 0
    found: Floats = total / np.maximum(known, 1)
    return found


def shape_similarity(one: Floats, other: Floats) -> Floats:
    """Minus the mean difference of numbers of shape ``[k, d]`` and ``[n, d]``, each in deviations
    of the other set, over those that both have, ``[k, n]``."""
    middle = np.nanmedian(other, 0)
    deviation = np.maximum(np.nanstd(other, 0), 1e-9)
    a, b = ((x - middle) / deviation for x in (one, other))
    apart = np.abs(a[:, None] - b[None])
    lacking = np.isnan(a)[:, None] != np.isnan(b)[None]
    # A label that only one of both has sets them apart as far as very different ones.
    found: Floats = -np.nanmean(np.where(lacking, _RANGES, apart), 2)
    return found


def thinned_labels(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Every f-th voxel of a label map ``[X, Y, Z]`` of indices, as a row of few numbers."""
    step = 1
    while np.prod([-(-n // step) for n in labels.shape]) > MOST_VOXELS:
        step += 1
    return labels[::step, ::step, ::step].astype(np.uint8).ravel()
