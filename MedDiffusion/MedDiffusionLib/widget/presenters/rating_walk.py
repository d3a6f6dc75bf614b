"""The way through a study: which case stands at which step, and where a reader goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...studies.answer_lines import Answer
from ...studies.answers import next_presentation
from ...studies.protocols import Phase
from ...studies.study import Case, Study, order_of


@dataclass(frozen=True)
class Step:
    """A case at its place. ``position``: from 0, in its phase, or among the cases to practise on;
    ``count``: of how many. ``feedback``: what is said after a case to practise on; None of others.
    """

    phase: int
    position: int
    count: int
    presentation: str
    case: Case
    feedback: str | None = None

    @property
    def is_training(self) -> bool:
        return self.feedback is not None


def steps_of(study: Study, reader: str, session: int) -> list[Step]:
    """All steps of a session; those to practise on come before the first phase that is told."""
    steps: list[Step] = []
    first_told = _first_told(study.protocol.phases)
    for phase in range(len(study.protocol.phases)):
        if phase == first_told:
            count = len(study.training)
            steps += [
                Step(phase, n, count, each.case.id, each.case, each.feedback)
                for n, each in enumerate(study.training)
            ]
        order = order_of(study, reader, session, phase)
        steps += [
            Step(phase, n, len(order), shown, study.case(shown)) for n, shown in enumerate(order)
        ]
    return steps


def go_on_at(
    study: Study, steps: Sequence[Step], answers: Iterable[Answer], reader: str, session: int
) -> int:
    """The number of the first step that is to be done; ``len(steps)`` where none is left.

    Who has answered nothing yet of the phase that is practised for, practises (again).
    """
    place = next_presentation(study, answers, reader, session)
    if place is None:
        return len(steps)
    phase, position = place
    wanted = [
        number
        for number, step in enumerate(steps)
        if step.phase == phase and (position == 0 or not step.is_training)
    ]
    return wanted[position]


def _first_told(phases: Sequence[Phase]) -> int | None:
    return next((number for number, phase in enumerate(phases) if phase.told), None)
