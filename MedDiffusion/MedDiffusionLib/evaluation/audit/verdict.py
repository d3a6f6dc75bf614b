"""The verdict of an audit: passed, failed or inconclusive, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..figures.intervals import Interval
from .detector import LEVEL, Detector, Found, make_detector, prove
from .evidence import Evidence, Floats
from .gaps import Copies, Test, copies, loss_gap, nearest_share, outside_gap, own_case_gap

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
_FALSE_ALARMS = 0.05
"""The chance of "failed" for a model that memorized nothing, over all tests."""
_BLIND = 0.25
"""By how much a figure may lie above its null and not be seen, in an audit that is passed."""
_WIDEST = 0.2
"""How far an interval may reach above what was found there; 0.10 with 180 and 40 cases."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A verdict with all that it rests on.

    ``sentences``: why; ``tests`` with each p raised for their number (Holm) in ``raised``;
    ``loss_control``: median and band of the loss gap between training cases; ``flagged`` ``[k]``:
    of each sample, whether it is called a copy.
    """

    verdict: str
    sentences: tuple[str, ...]
    detector: Detector
    proof: Mapping[str, Found]
    tests: tuple[Test, ...]
    raised: tuple[float, ...]
    copies: Copies
    loss_control: Interval
    flagged: Floats


def judge(evidence: Evidence, seed: int) -> Judged:
    """The verdict on a model; a function of the evidence and the seed alone.

    Failed where a test finds more than chance gives (all together 5 % of false alarms). Else
    inconclusive where the detector does not find what was planted, or a figure could be much above
    its null without being seen. Raises ValueError as :func:`.detector.make_detector` does.
    """
    detector = make_detector(evidence.cases, seed)
    proof = prove(detector, evidence, seed)
    loss, control = loss_gap(evidence.cases, seed)
    excess, shares, flagged = copies(evidence, detector, seed)
    tests = (own_case_gap(evidence), nearest_share(evidence, seed), outside_gap(evidence), loss,
             excess)  # fmt: skip
    raised = holm([test.p for test in tests])
    positive = [t for t, p in zip(tests, raised, strict=True) if p < _FALSE_ALARMS]
    unproved = [kind for kind, found in proof.items() if not found.is_proof]
    unknown = [test for test in tests if np.isnan(test.not_seen)]
    blind = [t for t in tests if t.not_seen - t.null > _BLIND or t.half_width > _WIDEST]
    if positive:
        verdict = FAILED
    elif unproved or unknown or blind:
        verdict = INCONCLUSIVE
    else:
        verdict = PASSED
    known = [test for test in tests if test not in unknown]
    said = (*_positive(positive), *_unproved(proof, unproved), *_unknown(unknown),
            *_blind(blind, positive), _limits(known))  # fmt: skip
    return Judged(verdict, said, detector, proof, tests, raised, shares, control, flagged)


def holm(ps: list[float]) -> tuple[float, ...]:
    """p values raised for their number (Holm 1979); NaN counts as 1."""
    known = np.where(np.isnan(ps), 1.0, ps)
    order = np.argsort(known)
    steps = [min(1.0, (len(ps) - n) * known[place]) for n, place in enumerate(order)]
    raised = np.empty(len(ps))
    raised[order] = np.maximum.accumulate(steps)
    return tuple(float(p) for p in raised)


def _positive(tests: list[Test]) -> list[str]:
    return [
        f"The {test.name} is {_shown(test.found)}, and {test.null:g} without memorization "
        f"(p {test.p:.2g})."
        for test in tests
    ]


def _unproved(proof: Mapping[str, Found], kinds: list[str]) -> list[str]:
    return [
        f"Of copies of the kind {kind} the detector found {proof[kind].found} of "
        f"{proof[kind].planted}: too few to say that there are none."
        for kind in kinds
    ]


def _blind(tests: list[Test], positive: list[Test]) -> list[str]:
    return [
        f"With {test.counts[0]} training and {test.counts[1]} held-out cases the {test.name} could "
        f"be {test.null + test.half_width:.2f} and not be told from {test.null:g}: give more "
        "held-out cases, or more samples."
        for test in tests
        if test not in positive
    ]


def _unknown(tests: list[Test]) -> list[str]:
    return [
        f"The {test.name} could not be measured: the label maps leave too little of the volumes."
        for test in tests
    ]


def _limits(tests: list[Test]) -> str:
    seen = ", ".join(f"{test.name} up to {test.not_seen:.2f}" for test in tests)
    trained, held_out = tests[0].counts
    return (
        f"What {trained} training and {held_out} held-out cases cannot rule out (upper ends of the "
        f"{1 - LEVEL:.0%} intervals): {seen}."
    )


def _shown(found: Interval) -> str:
    return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"
