"""The tests for memorization that are clean: without it each has a known value.

A label map tells much of its case, so that what is made from it is like the case in any event. Each
test therefore compares what was made from, or measured on, training cases with the same of cases
that were held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr

from ...statistics.area import wins
from ...statistics.estimate import critical_value, wilson
from ...statistics.roc import auc
from ..figures.intervals import Interval
from .detector import Detector
from .evidence import Cases, Evidence, Floats, Samples, correlations

_RELABELLINGS = 1000
_CRITICAL = critical_value()


@dataclass(frozen=True)
class Test:
    """A figure that is ``null`` without memorization and greater with it.

    ``p``: the chance of a figure at least as great without memorization. ``counts``: of cases, of
    training and held out.
    """

    name: str
    found: Interval
    null: float
    p: float
    counts: tuple[int, int]

    @property
    def not_seen(self) -> float:
        """Up to which value the figure may truly be: less than this could not be ruled out."""
        return self.found.high

    @property
    def half_width(self) -> float:
        """How far the interval reaches above what was found."""
        return self.found.high - self.found.estimate


def own_case_gap(evidence: Evidence) -> Test:
    """Whether samples from training label maps are more like their own case than others are.

    The area under the ROC curve: the chance that a training case is more like what was made from
    its label map than a held-out case is; equal ones by half.
    """
    cases, samples = evidence.cases, evidence.samples
    one = correlations(samples.features, cases.features)
    own = one[np.arange(len(samples.cases)), samples.cases]
    return _area("own-case gap", own, samples, cases)


def outside_gap(evidence: Evidence) -> Test:
    """The same of what is alike outside the labels, in detail: what no label map tells."""
    samples = evidence.samples
    return _area("similarity outside the labels", samples.outside, samples, evidence.cases)


def _area(name: str, values: Floats, samples: Samples, cases: Cases) -> Test:
    numbers, means = per_case(values, samples.cases)
    member = cases.is_member[numbers]
    found = auc(means[member], means[~member])
    interval = Interval(found.estimate, found.low, found.high)
    # The p of the estimate is two-sided.
    p = found.p / 2 if found.estimate >= 0.5 else 1 - found.p / 2
    return Test(name, interval, 0.5, float(p), (int(member.sum()), int((~member).sum())))


def nearest_share(evidence: Evidence, seed: int) -> Test:
    """How many samples from held-out label maps have a training case for their nearest.

    Of the held-out cases the own one is left out, and of the training cases as many count as are
    left: the share is the mean over all such draws. The interval and p are by giving the real cases
    the names training and held out anew, by chance: so the cases that are near to everything count
    as they should.
    """
    cases, samples = evidence.cases, evidence.samples
    chosen = np.flatnonzero(~cases.is_member[samples.cases])
    own = samples.cases[chosen]
    similarity = correlations(samples.features[chosen], cases.features)
    others = cases.of_others(own)
    ranked = _Ranked(np.argsort(np.where(others, -similarity, 2.0), axis=1), others, own)
    share = ranked.share(cases.is_member)
    random = np.random.default_rng(seed)
    by_chance = np.array([
        ranked.share(random.permutation(cases.is_member)) for _ in range(_RELABELLINGS)
    ])  # fmt: skip
    low, high = np.quantile(by_chance - 0.5, [0.025, 0.975])
    interval = Interval(share, max(0.0, share - float(high)), min(1.0, share - float(low)))
    held_out = int((~cases.is_member).sum())
    sizes = (int(cases.is_member.sum()), held_out)
    return Test("nearest-case share", interval, 0.5, _p(by_chance, share), sizes)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The cases of other patients than each sample's ``own`` ``[k]``, from the most similar on,
    ``order`` ``[k, n]``; ``others`` ``[k, n]``: which these are."""

    order: NDArray[np.int64]
    others: NDArray[np.bool_]
    own: NDArray[np.int64]

    def share(self, is_member: NDArray[np.bool_]) -> float:
        """The mean chance that the nearest case is a member, where as many of both are drawn."""
        total = self.others @ is_member.astype(np.int64)
        size = self.others.sum(1) - total
        # Members that are nearer than the first of the others.
        nearer = np.minimum((~is_member)[self.order].argmax(1), total)
        # A draw of ``size`` of the members without any of those. Of fewer members all are taken.
        none = np.where(
            total - nearer >= size,
            np.exp(_log_ways(total - nearer, size) - _log_ways(total, size)),
            nearer == 0,
        )
        return float(per_case(1 - none, self.own)[1].mean())


def _log_ways(total: NDArray, chosen: NDArray) -> Floats:
    """The logarithm of the number of ways to choose; of impossible ones that of choosing all."""
    chosen = np.minimum(chosen, total)
    return gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1)


def loss_gap(cases: Cases, seed: int) -> tuple[Test, Interval]:
    """Whether the model denoises training cases better than held-out ones; and the control.

    The figure is the chance that a training case has the smaller loss. The control is the same
    between two parts of the training cases, of which the smaller is as large as the held-out part:
    its median, and the band of 95 % of all such splits. Interval and p are by the control, since
    parts differ by themselves.
    """
    members, held_out = cases.losses[cases.is_member], cases.losses[~cases.is_member]
    area = float(wins(-members, -held_out).mean())
    random = np.random.default_rng(seed)
    size = min(len(held_out), len(members) // 2)
    control = np.empty(_RELABELLINGS)
    for n in range(_RELABELLINGS):
        order = random.permutation(len(members))
        control[n] = wins(-members[order[size:]], -members[order[:size]]).mean()
    low, middle, high = (float(q) for q in np.quantile(control, [0.025, 0.5, 0.975]))
    interval = Interval(area, max(0.0, area - (high - 0.5)), min(1.0, area + 0.5 - low))
    sizes = (len(members), len(held_out))
    test = Test("loss gap", interval, 0.5, _p(control, area), sizes)
    return test, Interval(middle, low, high)


@dataclass(frozen=True)
class Copies:
    """The shares of samples that the detector calls copies, each with its interval over cases.

    ``training``: from training label maps; ``control``: from held-out ones, where the own case
    stands in for a training case, as it does there; ``held_out``: from held-out label maps, against
    training cases alone; ``real``: held-out real cases against training cases, 5 % by construction.
    """

    training: Interval
    control: Interval
    held_out: Interval
    real: Interval


def copies(evidence: Evidence, detector: Detector, seed: int) -> tuple[Test, Copies, Floats]:
    """The excess of copies over what is no copy; the shares; and of each sample whether it is one.

    The excess is the share among samples from training label maps less the control's.
    """
    cases, samples = evidence.cases, evidence.samples
    of_member = cases.is_member[samples.cases]
    similarity = correlations(samples.features, cases.features)
    members = np.broadcast_to(cases.is_member, similarity.shape)
    # A case is compared with its own patient's cases, as a copy of it would be.
    flagged = detector.flags(similarity, members, seed)
    with_own = _with_own(members, samples.cases, cases, detector.size, seed)
    control = detector.flags(similarity, with_own, seed)
    held_out = np.flatnonzero(~cases.is_member)
    real = detector.flags(
        correlations(cases.features[held_out], cases.features),
        cases.is_member & cases.of_others(held_out),
        seed,
    )
    one = per_case(flagged[of_member], samples.cases[of_member])[1]
    other = per_case(control[~of_member], samples.cases[~of_member])[1]
    plain = per_case(flagged[~of_member], samples.cases[~of_member])[1]
    shares = Copies(_share(one), _share(other), _share(plain), _share(real))
    return _excess(shares, len(one), len(other)), shares, flagged


def _with_own(
    members: NDArray[np.bool_],
    own: NDArray[np.int64],
    cases: Cases,
    size: int,
    seed: int,
) -> NDArray[np.bool_]:
    """Training cases ``[k, n]`` of which some gave way to the own case, ``size`` in all."""
    random = np.random.default_rng(seed)
    order = np.where(members, random.random(members.shape), 2.0)
    result = np.zeros(members.shape, bool)
    rows = np.arange(len(own))
    others = np.argsort(order, axis=1)[:, : size - 1]
    result[rows[:, None], others] = True
    result &= members
    result[rows, own] = True
    return result


def _excess(shares: Copies, trained: int, held_out: int) -> Test:
    """The difference of two shares, with Newcombe's interval (1998, method 10) over cases."""
    one, other = shares.training, shares.control
    excess = one.estimate - other.estimate
    low = excess - np.hypot(one.estimate - one.low, other.high - other.estimate)
    high = excess + np.hypot(one.high - one.estimate, other.estimate - other.low)
    pooled = (trained * one.estimate + held_out * other.estimate) / (trained + held_out)
    error = np.sqrt(pooled * (1 - pooled) * (1 / trained + 1 / held_out))
    p = float(ndtr(-excess / error)) if error > 0 else 0.5
    interval = Interval(excess, float(low), float(high))
    return Test("excess of copies", interval, 0.0, p, (trained, held_out))


def _share(each: Floats) -> Interval:
    """A mean share over cases; Wilson's interval of as many answers as there are cases."""
    share = float(each.mean())
    return Interval(share, *wilson(share, len(each), _CRITICAL))


def per_case(values: Floats, cases: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """The cases that occur, and the mean value of each."""
    numbers, place = np.unique(cases, return_inverse=True)
    return numbers, np.bincount(place, values) / np.bincount(place)


def _p(by_chance: Floats, found: float) -> float:
    """The share of figures by chance that are at least as great, with the found one among them."""
    return float((1 + (by_chance >= found - 1e-12).sum()) / (1 + len(by_chance)))
