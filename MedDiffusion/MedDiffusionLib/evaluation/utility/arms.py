"""Arms: what a segmenter is trained on, phase by phase."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

REAL = "real"
"""The arm that others are compared with."""


@dataclass(frozen=True)
class Shares:
    """``synthetic``: of the samples, where real and synthetic ones are mixed; ``pretraining``: of
    the optimizer steps."""

    synthetic: float = 0.5
    pretraining: float = 0.5


@dataclass(frozen=True)
class Phase:
    """A part of a segmenter's training: its share of the steps, and of synthetic samples in it."""

    steps: float
    synthetic: float


Arm = Callable[[Shares], tuple[Phase, ...]]

ARMS: Mapping[str, Arm] = {
    REAL: lambda shares: (Phase(1.0, 0.0),),
    "synthetic": lambda shares: (Phase(1.0, 1.0),),
    "both": lambda shares: (Phase(1.0, shares.synthetic),),
    "pretrained": lambda shares: (
        Phase(shares.pretraining, 1.0),
        Phase(1.0 - shares.pretraining, 0.0),
    ),
}
"""By name. The shares of steps in an arm add up to 1: all arms take as many."""


def needs_synthetic(arm: str) -> bool:
    """Whether an arm sees synthetic volumes."""
    return any(phase.synthetic > 0 for phase in ARMS[arm](Shares()))


def steps_of(phases: tuple[Phase, ...], steps: int) -> list[int]:
    """The optimizer steps of each phase, which are ``steps`` together."""
    ends = [0]
    for number, phase in enumerate(phases, start=1):
        most = steps - (len(phases) - number)
        ends.append(min(ends[-1] + max(1, round(phase.steps * steps)), most))
    return [end - start for start, end in itertools.pairwise([*ends[:-1], steps])]
