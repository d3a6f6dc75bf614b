"""The analysis of a study: all figures of the answers, once the key is opened. Needs scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..statistics import ratings
from ..statistics.estimate import Estimate
from ..statistics.figures import Auc, DPrime, Figure, MeanAnswer
from ..statistics.proportions import Detection, choice_d_prime, detection, proportion
from .consistency import Agreement, Effect, Times, agreements_of, effect_of, times_of
from .judged import Floats, Gathered, Judged, is_about_reality, judged, only_pairs, synthetic_said
from .results import OTHERS, THESE, Result, mean, result_of


@dataclass(frozen=True)
class Right:
    """How often one reader was right. ``score`` and ``exact`` are one proportion with Wilson's and
    with the exact interval; p is the exact one."""

    score: Estimate
    exact: Estimate
    detection: Detection | None
    """None of a choice."""
    d_prime: Estimate


@dataclass(frozen=True)
class Reality:
    """What was found of a question which volumes are real."""

    judged: Judged
    right: Mapping[str, Right]
    """By reader."""
    results: tuple[Result, ...]
    """Accuracy, and of ratings the area under the ROC curve and d'."""


@dataclass(frozen=True)
class Paired:
    """Wilcoxon's test of the pairs of volumes that show one label map."""

    pairs: int
    p: float
    holm: float
    """Raised for the number of criteria."""


@dataclass(frozen=True)
class Criterion:
    """What was found of one criterion with ordered answers, higher ones better."""

    judged: Judged
    shares: Mapping[tuple[str, str], tuple[Estimate, ...]]
    """By reader (or pooled) and arm: of each answer but the lowest, the share at or above it."""
    grading: Result
    """Visual grading: P(synthetic > real) + P(equal)/2."""
    grading_holm: Mapping[str, float]
    """p of visual grading, raised for the number of criteria."""
    paired: Mapping[str, Paired]
    """Empty where no label map is shown in both arms."""


@dataclass(frozen=True)
class Analysis:
    """All that was found in a study."""

    gathered: Gathered
    questions: tuple[Judged, ...]
    criteria: tuple[Criterion, ...]
    realities: tuple[Reality, ...]
    agreements: Mapping[str, tuple[Agreement, ...]]
    """By question."""
    effects: tuple[Effect, ...]
    times: tuple[Times, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is missing."""
        there = {asked.question.id for asked in self.questions}
        given = {answer.question for answer in self.gathered.answers}
        left = [q.text for q in self.gathered.study.protocol.questions if q.id in given - there]
        alone = [f"Left out, since it was answered of one arm only: {text}" for text in left]
        return (*self.gathered.notes, *alone)

    @property
    def results(self) -> list[tuple[Judged, Result]]:
        """All figures with the question that they are of."""
        found = [(reality.judged, result) for reality in self.realities
                 for result in reality.results]  # fmt: skip
        return [*found, *((c.judged, c.grading) for c in self.criteria)]


def analyse(gathered: Gathered) -> Analysis:
    """Compute all figures of a study. Raises UserError where only one arm was judged."""
    questions = judged(gathered)
    margin = gathered.study.margin
    is_choice = gathered.study.protocol.kind == "choice"
    criteria = [q for q in questions if not is_choice and not is_about_reality(q)]
    realities = [
        _choice(q, gathered, margin) if is_choice else _reality(q, margin)
        for q in questions
        if is_choice or is_about_reality(q)
    ]
    effects = [effect_of(f"right answers, {r.judged.question.text}", r.judged, _right(r, gathered))
               for r in realities]  # fmt: skip
    effects += [effect_of(f"answer, {q.question.text}", q, q.answers) for q in criteria]
    # All questions of a part are answered on one showing: the first stands for its time.
    parts = [
        next(q for q in questions if q.phase == n) for n in sorted({q.phase for q in questions})
    ]
    effects += [effect_of(f"seconds per case, part {q.phase + 1}", q, q.seconds) for q in parts]
    return Analysis(
        gathered,
        tuple(questions),
        _criteria(criteria, margin),
        tuple(realities),
        {q.question.id: agreements_of(q, is_choice) for q in questions},
        tuple(effects),
        tuple(times_of(q, is_choice) for q in parts),
    )


def _reality(asked: Judged, margin: float) -> Reality:
    said = synthetic_said(asked.question, asked.answers)
    truth = asked.synthetic.astype(float)
    right = np.where(np.isnan(said), math.nan, said == truth)
    found = {}
    for reader, row, own in zip(asked.readers, said, right, strict=True):
        arms = [row[arm & ~np.isnan(row)] for arm in (asked.synthetic, ~asked.synthetic)]
        told = detection(int(arms[0].sum()), arms[0].size, int(arms[1].sum()), arms[1].size)
        found[reader] = Right(*_proportions(own, 0.5), told, told.d_prime)
    arms_ = asked.synthetic
    results = (
        result_of("Accuracy", asked, right, lambda v: MeanAnswer(v, arms_), margin=margin,
                  exact=True),
        # Higher answers are surer that a volume is real.
        result_of("Area under the ROC curve", asked, -asked.answers, lambda v: Auc(v, arms_),
                  margin=margin),
        result_of("d'", asked, said, lambda v: DPrime(v, arms_)),
    )  # fmt: skip
    return Reality(asked, found, results)


def _choice(asked: Judged, gathered: Gathered, margin: float) -> Reality:
    alternatives = gathered.study.protocol.alternatives
    right = _chosen_right(asked, gathered)
    found = {}
    for reader, own in zip(asked.readers, right, strict=True):
        given = own[~np.isnan(own)]
        told = choice_d_prime(int(given.sum()), given.size, alternatives)
        found[reader] = Right(*_proportions(own, 1 / alternatives), None, told)
    result = result_of(
        "Real one chosen", asked, right, lambda v: MeanAnswer(v, chance=1 / alternatives),
        margin=margin, exact=True,
    )  # fmt: skip
    return Reality(asked, found, (result,))


def _chosen_right(asked: Judged, gathered: Gathered) -> Floats:
    truth = np.array([gathered.key.chosen_right(case) for case in asked.cases], float)
    return np.where(np.isnan(asked.answers), math.nan, asked.answers == truth)


def _right(reality: Reality, gathered: Gathered) -> Floats:
    asked = reality.judged
    if gathered.study.protocol.kind == "choice":
        return _chosen_right(asked, gathered)
    said = synthetic_said(asked.question, asked.answers)
    return np.where(np.isnan(said), math.nan, said == asked.synthetic.astype(float))


def _proportions(right: Floats, chance: float) -> tuple[Estimate, Estimate]:
    given = right[~np.isnan(right)]
    count, n = int(given.sum()), given.size
    return proportion(count, n, chance), proportion(count, n, chance, interval="exact")


def _criteria(asked: list[Judged], margin: float) -> tuple[Criterion, ...]:
    gradings = [
        result_of("Visual grading", q, q.answers, _grading(q), margin=margin) for q in asked
    ]
    tests = [_wilcoxon(q) for q in asked]
    rows = [grading.rows for grading in gradings]
    raised = _holm([{who: found.p for who, found in row.items()} for row in rows])
    of_pairs = _holm([{who: p for who, (_, p) in test.items()} for test in tests])
    return tuple(
        Criterion(
            q, _shares(q), gradings[n], raised[n],
            {who: Paired(*test, of_pairs[n][who]) for who, test in tests[n].items()},
        )
        for n, q in enumerate(asked)
    )  # fmt: skip


def _holm(families: list[dict[str, float]]) -> list[dict[str, float]]:
    """Holm's p values over the criteria, for each of who is there."""
    names = {name: None for each in families for name in each}
    raised = {
        name: ratings.holm(np.array([each.get(name, math.nan) for each in families]))
        for name in names
    }
    return [{name: float(raised[name][n]) for name in each} for n, each in enumerate(families)]


def _grading(asked: Judged) -> Callable[[Floats], Figure]:
    return lambda values: Auc(values, asked.synthetic)


def _wilcoxon(asked: Judged) -> dict[str, tuple[int, float]]:
    """Pairs and p by reader and pooled; empty where no label map is shown in both arms."""
    if asked.clusters is None:
        return {}
    columns = []
    for number in np.unique(asked.clusters):
        part = asked.clusters == number
        arms = [asked.answers[:, part & arm] for arm in (asked.synthetic, ~asked.synthetic)]
        if all(arm.shape[1] for arm in arms):
            means = [[mean(row) for row in arm] for arm in arms]
            columns.append(np.subtract(np.array(means[0]), np.array(means[1])))
    if not columns:
        return {}
    differences = np.stack(columns, 1)
    together = np.array([mean(column) for column in differences.T])
    rows = dict(zip(asked.readers, differences, strict=True))
    if len(asked.readers) > 1:
        rows[THESE] = together
    return {
        name: (int((~np.isnan(row)).sum()), ratings.wilcoxon_p(row, np.zeros(row.size)))
        for name, row in rows.items()
    }


def _shares(asked: Judged) -> dict[tuple[str, str], tuple[Estimate, ...]]:
    found = {}
    values = sorted(option.value for option in asked.question.options)[1:]
    for arm, part in (("synthetic", asked.synthetic), ("real", ~asked.synthetic)):
        for reader, row in zip(asked.readers, asked.answers[:, part], strict=True):
            given = row[~np.isnan(row)]
            found[reader, arm] = tuple(
                proportion(int((given >= value).sum()), given.size) for value in values
            )
        for name, readers in ((THESE, "fixed"), (OTHERS, "random")):
            if len(asked.readers) > 1:
                found[name, arm] = tuple(
                    ratings.at_or_above(
                        asked.answers[:, part], values,
                        readers="fixed" if readers == "fixed" else "random",
                        clusters=only_pairs(asked.clusters, part),
                    )
                )  # fmt: skip
    return found
