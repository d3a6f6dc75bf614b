"""Sections of a report on whether answers hold: agreement, order, time, leave-outs; comments."""

from __future__ import annotations

import numpy as np

from ..compute.parsing import shortened
from ..reports.tables import Cell, Section, table
from .analysis import Analysis
from .consistency import BETWEEN
from .results import pooled_rows

_MOST_COMMENTS = 200
_LONGEST_COMMENT = 300


def agreement(analysis: Analysis) -> Section:
    """Agreement between readers and with oneself."""
    texts = {q.question.id: q.question.text for q in analysis.questions}
    between: list[tuple[Cell, ...]] = []
    within: list[tuple[Cell, ...]] = []
    for question, several in analysis.agreements.items():
        for each in several:
            rows = between if each.who == BETWEEN else within
            rows += [(texts[question], each.who, each.cases, name, found)
                     for name, found in each.statistics.items()]  # fmt: skip
    said = (
        "Where nothing can be told apart kappa near 0 is expected, so percent agreement and AC1 "
        "stand beside it. Agreement with oneself is of cases that came twice.",
    )
    columns = ("question", "who", "cases", "statistic", "estimate")
    tables = [
        table(name, title, columns, rows)
        for name, title, rows in (
            ("agreement-between", "Agreement between readers", between),
            ("agreement-within", "Agreement of readers with themselves", within),
        )
        if rows
    ]
    return Section("Agreement", said, (), tuple(tables))


def effects(analysis: Analysis) -> Section:
    """Changes over the session, and times."""
    changes = [
        (effect.what, who, slope, slope.p, effect.halves[who], effect.halves[who].p)
        for effect in analysis.effects
        for who, slope in effect.slope.items()
    ]
    seconds = [
        (times.part, reader, arm, *quartiles, times.slices[reader, arm])
        for times in analysis.times
        for (reader, arm), quartiles in times.quartiles.items()
    ]
    longer = [
        (times.part, who, found, found.p)
        for times in analysis.times
        if times.longer is not None
        for who, found in pooled_rows(times.longer)
    ]
    tables = [
        table("order", "Change over the session",
              ("what", "who", "last less first", "p (last less first)",
               "second less first half", "p (halves)"), changes),
        table("seconds", "Seconds per case",
              ("part", "reader", "arm", "lower quartile", "median", "upper quartile",
               "slices seen (median)"), seconds),
    ]  # fmt: skip
    if longer:
        tables.append(table("seconds-by-arm", "P(a synthetic case takes longer) + P(equal)/2",
                            ("part", "who", "estimate", "p (against 0.5)"), longer))  # fmt: skip
    said = ("Values other than 0 show fatigue or learning. A reader's order is drawn at random, so "
            "that neither favours an arm.",)  # fmt: skip
    return Section("Time and order", said, (), tuple(tables))


def left_out(analysis: Analysis) -> Section:
    """All figures with a reader or a case left out."""
    rows: list[tuple[Cell, ...]] = []
    extremes: list[tuple[Cell, ...]] = []
    for asked, result in analysis.results:
        text = asked.question.text
        rows += [(result.name, text, reader, result.these.estimate, value)
                 for reader, value in result.without_reader.items()]  # fmt: skip
        cases = {case: v for case, v in result.without_case.items() if not np.isnan(v)}
        if cases:
            low, high = min(cases, key=cases.__getitem__), max(cases, key=cases.__getitem__)
            extremes.append((result.name, text, result.these.estimate, cases[low], low,
                             cases[high], high))  # fmt: skip
    tables = [table("without-case", "With one case left out: the lowest and the highest",
                    ("figure", "question", "with all", "lowest", "without", "highest",
                     "without (highest)"), extremes)]  # fmt: skip
    if rows:
        tables.insert(0, table("without-reader", "With one reader left out",
                               ("figure", "question", "without", "with all", "then"),
                               rows))  # fmt: skip
    return Section("Does one reader or case make the result?", (), (), tuple(tables))


def comments(analysis: Analysis) -> list[Section]:
    """What readers wrote; none where they wrote nothing."""
    gathered = analysis.gathered
    given = [answer for answer in gathered.answers if answer.comment.strip()]
    if not given:
        return []
    texts = {q.id: q.text for q in gathered.study.protocol.questions}
    rows = [
        (answer.reader, answer.case, "/".join(t.arm for t in gathered.truth(answer.case)),
         texts[answer.question], shortened(answer.comment, _LONGEST_COMMENT))
        for answer in given[:_MOST_COMMENTS]
    ]  # fmt: skip
    said = (f"{len(given)} comments; all of them, in full, are in answers.csv.",)
    columns = ("reader", "case", "arm", "question", "comment")
    return [Section("Comments", said, (), (table("comments", "Comments", columns, rows),))]
