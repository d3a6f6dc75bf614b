"""The design of an experiment: nested subsets of the real cases, and the cells to be filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...compute.errors import UserError
from ...training.data.cases import CaseFiles
from .arms import needs_synthetic
from .request import UtilityRequest


@dataclass(frozen=True)
class Draw:
    """So many real cases, as a seed draws them: what a generator is trained on."""

    seed: int
    size: int

    @property
    def folder(self) -> str:
        """Where what belongs to it lies in the experiment's folder."""
        return f"seed{self.seed}/n{self.size:04}"

    @property
    def words(self) -> str:
        return f"n = {self.size}, seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """A segmenter to be trained and tested; ``maps`` is empty where it sees no synthetic volume."""

    draw: Draw
    arm: str
    maps: str = ""

    @property
    def name(self) -> str:
        """The arm, and the kind of label maps."""
        return f"{self.arm}-{self.maps}" if self.maps else self.arm


def nested(cases: Sequence[CaseFiles], seed: int) -> list[CaseFiles]:
    """The cases in a seed's order, patient by patient: the first n are within the first m > n."""
    patients = sorted({case.group for case in cases})
    order = np.random.default_rng((seed, 7)).permutation(len(patients))
    place = {patients[number]: position for position, number in enumerate(order)}
    return sorted(cases, key=lambda case: (place[case.group], case.name))


def sizes_of(request: UtilityRequest, count: int) -> tuple[int, ...]:
    """The numbers of real cases, "all" counted; raises UserError where there are too few."""
    sizes = sorted({count if size is None else size for size in request.sizes})
    if sizes[-1] > count:
        raise UserError(
            f"{sizes[-1]} real cases are asked for, and the split has {count} to train on",
            "leave this size out, or give more cases",
            code="too-few-cases",
        )
    return tuple(sizes)


def cells_of(request: UtilityRequest, sizes: Sequence[int]) -> list[Cell]:
    """All cells, in the order in which they are worked on: whole seeds one after the other."""
    cells = []
    for seed in request.seeds:
        for size in sizes:
            draw = Draw(seed, size)
            for arm in request.all_arms:
                kinds = request.maps if needs_synthetic(arm) else ("",)
                cells += [Cell(draw, arm, maps) for maps in kinds]
    return cells
