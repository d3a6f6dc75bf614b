"""What a report says, section by section: sentences, tables and plots of an analysis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compute.parsing import shortened
from ..reports import plots
from ..reports.tables import Cell, Section, Table, shown, table
from ..statistics.equivalence import Equivalence
from ..statistics.estimate import Estimate
from ..statistics.roc import roc_curve
from .analysis import Analysis, Criterion, Reality
from .judged import Judged, is_about_reality
from .report_consistency import agreement, comments, effects, left_out
from .results import BOOTSTRAP, OTHERS, Result, pooled_rows


def sections(analysis: Analysis) -> list[Section]:
    """All sections that the study has something for, the verdicts first."""
    found = [_summary(analysis), _study(analysis)]
    found += [_reality(reality) for reality in analysis.realities]
    if analysis.criteria:
        found.append(_criteria(analysis.criteria))
    found += [_verdicts(analysis), agreement(analysis), effects(analysis), left_out(analysis)]
    found += comments(analysis)
    return [*found, _meaning(analysis)]


def verdict_sentences(analysis: Analysis) -> list[str]:
    """A sentence for each figure that the study's margin is for."""
    return [_verdict_sentence(asked, result) for asked, result in analysis.results
            if result.verdicts]  # fmt: skip


def _verdict_sentence(asked: Judged, result: Result) -> str:
    who = OTHERS if OTHERS in result.verdicts else asked.readers[0]
    found = result.verdicts[who]
    inner = found.interval
    said = {
        "equivalent": ", the whole interval is within the margin",
        "different": ", not what chance gives",
        "inconclusive": "",
    }[found.verdict]
    return (
        f"{result.name} ({shortened(asked.question.text, 80)}), {who}: {shown(inner.estimate)}, "
        f"90 % interval {shown(inner.low)} to {shown(inner.high)}, against "
        f"{result.chance:g} ± {found.margin:g}: {found}{said}."
    )


def _summary(analysis: Analysis) -> Section:
    said = []
    if analysis.gathered.key.example:
        said.append("Both arms are synthetic: this study is only for learning how it works.")
    said += verdict_sentences(analysis) or [
        f"The study's margin of {analysis.gathered.study.margin:g} is as wide as chance itself: "
        "whether the arms are told apart is not judged."
    ]
    return Section("What was found", (*said, *analysis.notes))


def _study(analysis: Analysis) -> Section:
    gathered = analysis.gathered
    study = gathered.study
    arms = [truth.arm for case in study.cases for truth in gathered.truth(case.id)]
    rows: list[tuple[str, Cell]] = [
        ("study", study.title),
        ("id", study.id),
        ("protocol", f"{study.protocol.title} ({study.protocol.id})"),
        ("cases", len(study.cases)),
        ("real volumes", arms.count("real")),
        ("synthetic volumes", arms.count("synthetic")),
        ("readers who answered", ", ".join(gathered.readers)),
        ("answers that count", len(gathered.answers)),
        ("repeats, percent", study.repeats_percent),
        ("margin, fixed before any answer", study.margin),
        ("SHA-256 of the key, fixed before any answer", study.key_sha256),
    ]
    return Section("The study", (), (), (table("study", "Facts", ("what", "value"), rows),))


def _reality(reality: Reality) -> Section:
    asked = reality.judged
    name = asked.question.id
    rows: list[list[Cell]] = []
    for reader, right in reality.right.items():
        exact, told = right.exact, right.detection
        row: list[Cell] = [reader, round(right.score.estimate * right.score.n)
                           if right.score.n else 0, right.score.n, right.score, exact,
                           right.score.p]  # fmt: skip
        if told is not None:
            row += [told.sensitivity, told.specificity, right.d_prime, told.criterion]
        else:
            row.append(right.d_prime)
        rows.append(row)
    columns = ["reader", "right", "of", "share (Wilson)", "share (exact)", "p (exact)"]
    columns += (
        ["sensitivity", "specificity", "d'", "c"]
        if is_about_reality(asked) and asked.synthetic.any()
        else ["d'"]
    )
    pooled: list[list[Cell]] = []
    for result in reality.results:
        pooled += [[result.name, who, found, found.p, found.standard_error,
                    None if who == BOOTSTRAP else found.freedom]
                   for who, found in pooled_rows(result)]  # fmt: skip
    pictures = [
        plots.intervals(
            pooled_rows(r),
            f"{r.name}, 95 % intervals",
            chance=r.chance,
            margin=_margin(r),
            limits=None if r.name == "d'" else (0.0, 1.0),
        )
        for r in reality.results
    ]
    if asked.synthetic.any():
        pictures.append(plots.curves(_rates(asked), "ROC curves"))
    return Section(
        asked.question.text,
        (
            "Each case counts by its first showing. Of several readers the mean is given for these "
            "readers alone, for readers like these (Obuchowski and Rockette), and by a bootstrap "
            "over readers and cases.",
        ),
        tuple(pictures),
        (
            table(f"{name}-readers", "By reader", columns, rows),
            table(f"{name}-pooled", "Figures by reader and pooled",
                  ("figure", "who", "estimate", "p (against chance)", "standard error",
                   "degrees of freedom"), pooled),
            _components(name, reality.results),
        ),
    )  # fmt: skip


def _components(name: str, results: Sequence[Result]) -> Table:
    return table(
        f"{name}-components",
        "Where the error comes from (Obuchowski and Rockette)",
        ("figure", "readers", "mean square between readers", "variance over cases",
         "covariance of two readers"),
        [(r.name, r.parts.readers, r.parts.between, r.parts.variance,
          r.parts.covariance) for r in results],
    )  # fmt: skip


def _rates(asked: Judged) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for reader, row in zip(asked.readers, -asked.answers, strict=True):
        arms = row[asked.synthetic], row[~asked.synthetic]
        if all(np.isfinite(arm).any() for arm in arms):
            false, true = roc_curve(*arms)
            found[reader] = (false.tolist(), true.tolist())
    return found


def _margin(result: Result) -> float | None:
    """The margin that a result was judged by; None where it was not."""
    return next((found.margin for found in result.verdicts.values()), None)


def _criteria(criteria: Sequence[Criterion]) -> Section:
    pictures, shares, grading, counts, missing = [], [], [], [], []
    for criterion in criteria:
        asked, text = criterion.judged, criterion.judged.question.text
        options = sorted(asked.question.options, key=lambda option: option.value)
        bars = []
        for arm, part in (("real", ~asked.synthetic), ("synthetic", asked.synthetic)):
            for reader, row in zip(asked.readers, asked.answers[:, part], strict=True):
                given = [int((row == option.value).sum()) for option in options]
                bars.append((f"{reader}, {arm}", given))
                counts += [(text, reader, arm, option.text, count)
                           for option, count in zip(options, given, strict=True)]  # fmt: skip
            missing += [(text, reader, arm, int(row.sum()))
                        for reader, row in zip(asked.readers, asked.not_judged[:, part],
                                               strict=True) if row.any()]  # fmt: skip
        pictures.append(plots.stacked(bars, [o.text for o in options], f"Answers: {text}"))
        pictures.append(
            plots.intervals(
                pooled_rows(criterion.grading),
                f"Visual grading: {text}, 95 % intervals",
                chance=0.5,
                margin=_margin(criterion.grading),
            )
        )
        for (who, arm), found in criterion.shares.items():
            shares += [(text, who, arm, option.text, share)
                       for option, share in zip(options[1:], found, strict=True)]  # fmt: skip
        grading += [_grading_row(criterion, who, found)
                    for who, found in pooled_rows(criterion.grading)]  # fmt: skip
    tables = [
        table("grading", "Visual grading: P(synthetic better) + P(equal)/2; 0.5: neither is better",
              ("criterion", "who", "estimate", "p (against 0.5)", "Holm", "pairs of one label map",
               "p (Wilcoxon)", "Holm (Wilcoxon)"), grading),
        table("at-or-above", "Share of answers at or above each",
              ("criterion", "who", "arm", "at or above", "share"), shares),
        table("answers-given", "Answers given, first showings",
              ("criterion", "reader", "arm", "answer", "count"), counts),
    ]  # fmt: skip
    if missing:
        tables.append(table("not-judged", "Cases that could not be judged",
                            ("criterion", "reader", "arm", "count"), missing))  # fmt: skip
    said = (
        "Higher answers are better. Ranks alone count in visual grading, no distances between "
        "answers. Holm's p values are raised for the number of criteria.",
    )
    return Section("Ratings by criterion", said, tuple(pictures), tuple(tables))


def _grading_row(criterion: Criterion, who: str, found: Estimate) -> tuple[Cell, ...]:
    raised = criterion.grading_holm.get(who)
    paired = criterion.paired.get(who)
    wilcoxon = (paired.pairs, paired.p, paired.holm) if paired else (None, None, None)
    return (criterion.judged.question.text, who, found, found.p, raised, *wilcoxon)


def _verdicts(analysis: Analysis) -> Section:
    rows, pictures = [], []
    for asked, result in analysis.results:
        if not result.verdicts:
            continue
        for who, found in result.verdicts.items():
            rows.append((result.name, asked.question.text, who, found.interval, found.interval.p,
                         found.p_different, result.chance, found.margin, str(found)))  # fmt: skip
        pictures.append(_verdict_plot(asked, result))
    said = (
        "Two one-sided tests, each at 0.05: equivalent is what has its 90 % interval within the "
        "margin, which was fixed when the study was made. A difference that was not found is no "
        "equivalence. How many more cases: for a verdict with power 0.8, were the estimate true.",
    )
    columns = ("figure", "question", "who", "estimate (90 %)", "p (equivalence)",
               "p (difference)", "chance", "margin", "verdict")  # fmt: skip
    tables = (table("equivalence", "Verdicts", columns, rows),) if rows else ()
    return Section("Equivalence", said, tuple(pictures), tables)


def _verdict_plot(asked: Judged, result: Result) -> str:
    found: dict[str, Equivalence] = dict(result.verdicts)
    return plots.intervals(
        [(who, verdict.interval) for who, verdict in found.items()],
        f"{result.name} ({asked.question.text}), 90 % intervals and margin",
        chance=result.chance,
        margin=_margin(result),
    )


def _meaning(analysis: Analysis) -> Section:
    said = (
        "Numbers in brackets are 95 % intervals unless said otherwise. What the answers do not "
        "determine is a dash. In plots the dashed line is chance, the band the study's margin.",
        "Sensitivity: of the synthetic volumes, those called synthetic; specificity: of the real "
        "ones, those called real. d' is 0 where they are told apart as by a coin; c is above 0 for "
        "who is inclined to say real.",
        "The area under the ROC curve is the chance that of a synthetic and a real volume the "
        "synthetic one is thought more likely to be synthetic; its error is DeLong's.",
        "These readers: what is known of cases like these if just these readers judge. Readers "
        "like these: what is known of other readers as well; two or three readers tell little "
        "about others. By chance the second interval can be the shorter one, where the readers "
        "differ less than their cases let expect; verdicts take a more cautious one.",
        "Volumes of one label map, where there are several, count as one cluster in all intervals "
        "of pooled figures, areas and verdicts; intervals of Wilson, exact ones, and d' and c by "
        "reader take cases as independent. In the tables' files n is the number of independent "
        "cases or label maps.",
    )
    return Section("What the figures mean", said)
