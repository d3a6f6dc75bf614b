"""The page of an audit: the verdict and why, then what it rests on, and the nearest pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reports.page import html_page
from ...reports.pictures import picture_source, png
from ...reports.tables import Cell, Section, shown_text, table
from ...statistics.estimate import Estimate
from .audit import Measured
from .verdict import FAILED, INCONCLUSIVE, PASSED, Judged

PAGE_NAME = "report.html"
_PAIRS = 12
_MOST_NAMED = 12
_HEIGHT = 200
"""Pixels of a picture, about."""
_MEANS = {
    PASSED: "no test found more than chance gives, and the detector finds what was planted",
    FAILED: "the model gives back more of its training cases than of cases that it has not seen",
    INCONCLUSIVE: "nothing was found, and it cannot be said that there is nothing",
}


def page(content: Mapping[str, Any], measured: Measured, judged: Judged) -> str:
    """The page of ``audit.json``'s content, as HTML that needs nothing else."""
    model = content["model"]
    parts = [
        Section(
            "What was found",
            (
                f"{judged.verdict.capitalize()}: {_MEANS[judged.verdict]}.",
                *judged.sentences,
                "This page shows slices of real scans: do not pass it on further than these.",
            ),
        ),
        _facts(content),
        _proof(content),
        _tests(content),
        _copies(content),
        *_reidentification(content),
        _pairs(content, measured, judged),
    ]
    title = f"Audit of {model['name']} {model['version']}: does it copy its training cases?"
    return html_page(title, parts)


def _facts(content: Mapping[str, Any]) -> Section:
    cases, made = content["cases"], content["settings"]
    trained = sum(case["part"] == "training" for case in cases)
    rows: list[tuple[str, Cell]] = [
        ("training cases", trained),
        ("held-out cases", len(cases) - trained),
        ("patients", len({case["patient"] for case in cases})),
        ("samples", len(content["samples"])),
        ("sampler, steps, guidance",
         f"{made['sampler']}, {made['steps']}, {made['guidance']:g}"),
        ("seed", content["seed"]),
        ("date", content["date"]),
        ("SHA-256 of the weights", content["model"]["weights_sha256"]),
        ("SHA-256 of the data", content["data_sha256"]),
    ]  # fmt: skip
    return Section("What was audited", (), (), (table("facts", "Facts", ("what", ""), rows),))


def _proof(content: Mapping[str, Any]) -> Section:
    detector = content["detector"]
    rows: list[tuple[Cell, ...]] = [
        (kind, row["found"], row["of"], "yes" if row["proved"] else "no")
        for kind, row in detector["planted_copies_found"].items()
    ]
    said = [
        "Copies of training cases were planted. The detector learned from a part of the cases what "
        "views of one scan have in common. It calls a copy what is nearer to a training case than "
        f"{detector['distance']:.3f} (correlation distance). 59 of 60 found, or 49 of 50, prove "
        "that at least 90 % of such copies are."
    ]
    if pairs := content["real_cases_that_are_alike"]:
        named = ", ".join(" and ".join(pair["cases"]) for pair in pairs[:_MOST_NAMED])
        more = f", and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
        said.append(
            f"Real cases that the detector takes for copies of each other: {named}{more}. Where "
            "they are of one patient, as left and right side or two scans are, say so by a group "
            "pattern or a table's column group: else they make the threshold too lenient."
        )
    columns = ("kind of copy", "found", "of", "proved")
    tables = (table("planted", "Planted copies", columns, rows),)
    return Section("Does the detector find copies?", tuple(said), (), tables)


def _tests(content: Mapping[str, Any]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (test["name"], _estimate(test), test["null"], _number(test["p_holm"]), test["training"],
         test["held_out"])
        for test in content["tests"]
    ]  # fmt: skip
    control = content["loss_gap_between_training_cases"]
    rows.append(("loss gap between training cases (control)", _estimate(control), 0.5, None, None,
                 None))  # fmt: skip
    said = (
        "Compared are training cases and held-out cases. Numbers in brackets are 95 % intervals; p "
        "is raised for the number of tests (Holm).",
    )
    columns = ("test", "found", "without memorization", "p", "training", "held out")
    tables = (table("tests", "Tests", columns, rows),)
    return Section("Are training cases favoured?", said, (), tables)


def _copies(content: Mapping[str, Any]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (name, _estimate(share)) for name, share in content["copies"].items()
    ]
    said = (
        "5 % of real volumes that are no copies are called so by construction. A sample is like "
        "the case whose label map it has: what counts is the share from training label maps beyond "
        "that from held-out ones with their own case among the compared.",
    )
    tables = (table("copies", "Shares of copies", ("samples", "share"), rows),)
    return Section("How many samples are called copies", said, (), tables)


def _reidentification(content: Mapping[str, Any]) -> list[Section]:
    rows: list[tuple[Cell, ...]] = [
        (maps, way, _estimate(found["rank_1"]), found["by_chance"], _estimate(found["area"]),
         found["volumes"])
        for maps, ways in content["reidentification"].items()
        for way, found in ways.items()
    ]  # fmt: skip
    if not rows:
        return []
    said = (
        "Who has the real scans looks for the one that a synthetic volume belongs to. Rank 1: how "
        "often it is the first. Area: how often it comes before another; 0.5 by guessing.",
    )
    columns = ("made from", "compared by", "rank 1", "by guessing", "area", "volumes")
    tables = (table("reidentification", "Re-identification", columns, rows),)
    return [Section("Whose is it?", said, (), tables)]


def _pairs(content: Mapping[str, Any], measured: Measured, judged: Judged) -> Section:
    place = {case["name"]: n for n, case in enumerate(content["cases"])}
    samples = content["samples"]
    figures = []
    for n in sorted(range(len(samples)), key=lambda n: samples[n]["distance"])[:_PAIRS]:
        sample = samples[n]
        nearest = sample["nearest_training_case"]
        said = (
            f"sample of {sample['case']} (seed {sample['seed']}), and {nearest}; distance "
            f"{sample['distance']:.3f}{', called a copy' if judged.flagged[n] > 0.5 else ''}"
        )
        pictures = [measured.sample_planes[n], measured.case_planes[place[nearest]]]
        shown = " ".join(f'<img alt="" src="{_picture(each)}">' for each in pictures)
        figures.append(f"<figure><figcaption>{shown_text(said)}</figcaption>{shown}</figure>")
    said_first = (
        "The samples that are nearest to a training case, and that case: middle slices of the "
        "first contrast.",
    )
    return Section("The nearest pairs", said_first, tuple(figures))


def _picture(panels: Sequence[NDArray[np.uint8]]) -> str:
    """Three planes beside each other as the address of a PNG that holds them."""
    height = max(panel.shape[0] for panel in panels)
    row = np.concatenate([np.pad(p, ((0, height - p.shape[0]), (0, 2))) for p in panels], 1)
    scale = max(1, _HEIGHT // height)
    picture = row.repeat(scale, 0).repeat(scale, 1)
    return picture_source(png(picture))


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(_number(found["estimate"]), _number(found["low"]), _number(found["high"]))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
