"""The page of an evaluation, section by section: what was found first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ...compute.parsing import printable
from ...reports import plots
from ...reports.page import html_page
from ...reports.pictures import picture_source
from ...reports.tables import Cell, Section, shown, table
from ...statistics.estimate import Estimate
from ..figure import DIFFERS, INCONCLUSIVE, TOO_EASY, Figure
from ..figures.intervals import Interval
from ..results import Results
from ..subjects import SUBJECTS
from ..subjects.label_fidelity import MARGIN
from .pictures import Shown

_DIGITS = 16
"""Of a hash, as the page shows it."""
_MOST_SAID = 12


def page(
    content: Mapping[str, Any], figures: Sequence[Figure], shown_cases: Sequence[Shown]
) -> str:
    """The page of an evaluation, as HTML that needs nothing else."""
    results = Results(dict(content))
    patients = len(set(results.patient_numbers))
    parts = [_summary(content, figures), _facts(content, patients)]
    for name in content["settings"]["subjects"]:
        own = [figure for figure in figures if figure.subject == name]
        if own:
            parts.append(_subject(name, own, patients))
    parts += [_pictures(shown_cases), _cases(results)]
    return html_page(f"Evaluation of {content['inputs']['model']}", parts)


def _summary(content: Mapping[str, Any], figures: Sequence[Figure]) -> Section:
    judged = [figure for figure in figures if figure.verdict]
    said = []
    for verdict in (DIFFERS, TOO_EASY, INCONCLUSIVE):
        names = [figure.name for figure in judged if figure.verdict == verdict]
        if names:
            more = f" and {len(names) - _MOST_SAID} more" if len(names) > _MOST_SAID else ""
            said.append(f"{verdict.capitalize()}: {', '.join(names[:_MOST_SAID])}{more}.")
    rest = sum(figure.verdict not in (DIFFERS, TOO_EASY, INCONCLUSIVE) for figure in judged)
    said.insert(0, f"Of {len(judged)} figures with a verdict, {rest} are as real.")
    if content["settings"]["part"] != "validation":
        said.append(
            "These are cases that the model was trained on, at least in part: nothing here says "
            "how good it is on others."
        )
    return Section("What was found", (*said, *content["missing"], *content["findings"]))


def _facts(content: Mapping[str, Any], patients: int) -> Section:
    inputs, settings, computed = content["inputs"], content["settings"], content["computed"]
    rows: list[tuple[str, Cell]] = [
        ("model", f"{inputs['model']} {inputs['model_version']}"),
        ("SHA-256 of its weights", inputs["weights_sha256"][:_DIGITS]),
        ("cases", len(content["cases"])),
        ("patients", patients),
        ("part of the split, and half", f"{settings['part']}, {settings['half']}"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("sampler, steps, guidance",
         f"{settings['sampler']}, {settings['steps']}, {settings['guidance']:g}"),
        ("training cases of the segmenters", settings["training_cases"]),
        *((f"segmenter {name}", key[:_DIGITS]) for name, key in inputs["segmenters"].items()),
        ("computed with", f"{computed['device']}, {computed['precision']}, torch "
         f"{computed['torch']}, scipy {computed['scipy']}"),
    ]  # fmt: skip
    said = (
        "Numbers in brackets are 95 % intervals over patients. The row beside a figure is the same "
        "figure between real cases, or of the real volumes. A verdict may be inconclusive: more "
        "cases would tell.",
    )
    return Section("What was judged", said, (), (table("facts", "Facts", ("what", ""), rows),))


def _subject(name: str, figures: Sequence[Figure], patients: int) -> Section:
    subject = SUBJECTS[name]
    rows: list[list[Cell]] = []
    for figure in figures:
        seeds = "  ".join(shown(seed) for seed in figure.seeds)
        rows.append([
            figure.name.removeprefix(f"{name}/"), _estimate(figure.value, patients),
            None if figure.real is None else _estimate(figure.real, patients), seeds,
            figure.verdict,
        ])  # fmt: skip
    differences = [
        (figure.name.removeprefix(f"{name}/").removesuffix("/difference"),
         _estimate(figure.value, patients))
        for figure in figures if figure.name.endswith("/difference")
    ]  # fmt: skip
    pictures: tuple[str, ...] = ()
    if name == "label-fidelity":
        pictures = (plots.intervals(
            differences, "Dice, synthetic - real", chance=0.0, margin=MARGIN, limits=None
        ),)  # fmt: skip
    columns = ("figure", "synthetic", "real", "by seed", "verdict")
    meaning = tuple(f"{part}." for part in subject.meaning.rstrip(".").split(". "))
    tables = (table(name, subject.title, columns, rows),)
    return Section(subject.title, (" ".join(meaning),), pictures, tables)


def _pictures(cases: Sequence[Shown]) -> Section:
    said = (
        "The best, the median and the worst case by the segmenters' Dice, synthetic - real (by "
        "name where nothing was segmented); the synthetic volume is that of the first seed.",
    )
    return Section("Cases", said if cases else (), tuple(_figure(case) for case in cases))


def _figure(case: Shown) -> str:
    images = "".join(
        f'<p>{words}</p><img alt="{words}" src="{picture_source(png)}">'
        for words, png in (("real", case.real), ("synthetic", case.synthetic))
    )
    title = escape(printable(f"{case.words}: {case.name}"))
    return f"<figure><figcaption>{title}</figcaption>{images}</figure>"


def _cases(results: Results) -> Section:
    columns = ["case"]
    for segmenter in results.segmenters:
        columns += [f"{segmenter}, real", *(f"{segmenter}, seed {s}" for s in results.seeds)]
    rows: list[list[Cell]] = []
    for case in results.content["cases"]:
        row: list[Cell] = [case["name"]]
        for segmenter in results.segmenters:
            for volume in (case["real"], *case["synthetic"]):
                row.append(_mean(volume.get("dice", {}).get(segmenter, [])))
        rows.append(row)
    said = ("Mean Dice over labels. The JSON beside this page has all numbers of each case.",)
    return Section("Each case", said, (), (table("cases", "Cases", columns, rows),))


def _mean(dice: Sequence[float | None]) -> float | None:
    known = [value for value in dice if value is not None]
    return float(np.mean(known)) if known else None


def _estimate(interval: Interval, count: int) -> Estimate:
    return Estimate(interval.estimate, interval.low, interval.high, n=count)
