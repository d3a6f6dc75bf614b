"""The page of an experiment: what was found first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...reports import plots
from ...reports.page import html_page
from ...reports.tables import Cell, Section, table
from ...statistics.estimate import Estimate
from ..figures.intervals import Interval
from ..json_arrays import array
from ..subjects.label_fidelity import ALL, POOR, nanmean
from .arms import REAL
from .gains import GAIN, HARM, NONE, Gain

_DIGITS = 16
"""Of a hash, as the page shows it."""
_ARMS = {
    "real": "real cases alone",
    "synthetic": "synthetic volumes alone",
    "both": "real and synthetic, mixed",
    "pretrained": "synthetic first, then real",
}


def page(content: Mapping[str, Any], gains: Sequence[Gain]) -> str:
    """The page of an experiment, as HTML that needs nothing else."""
    parts = [
        Section("What was found", tuple(sentences(content, gains))),
        _gains(content, gains),
        _labels(content, gains),
        _facts(content),
        _cells(content),
        _meaning(content),
    ]
    return html_page("Do synthetic volumes help a segmenter?", parts)


def sentences(content: Mapping[str, Any], gains: Sequence[Gain]) -> list[str]:
    """What was found, in words: verdict by verdict, and what could have been seen."""
    whole = [gain for gain in gains if gain.label == ALL]
    said = []
    if content["open cells"]:
        said.append(
            f"{content['open cells']} cells are not finished: this is what the others tell so far."
        )
    for words in (GAIN, HARM, NONE):
        found = [gain for gain in whole if gain.verdict == words]
        if found:
            said.append(f"{words.capitalize()} ({len(found)} of {len(whole)}): "
                        + "; ".join(_words(gain, words) for gain in found) + ".")  # fmt: skip
    judged = [gain for gain in whole if gain.verdict]
    if len(judged) > 1:
        kept = sum(gain.holm < 0.05 and gain.verdict == GAIN for gain in judged)
        said.append(
            f"Of {len(judged)} comparisons without any effect, "
            f"{0.025 * len(judged):.1f} would be called a gain by chance; {kept} are a gain even "
            "with p values raised for their number (Holm)."
        )
    for size in dict.fromkeys(gain.size for gain in whole):
        real = next(gain.real.estimate for gain in whole if gain.size == size)
        if real < POOR:
            said.append(
                f"With n = {size} real cases segmenters find the labels poorly (Dice {real:.2f}): "
                "see whether they are trained long enough before a verdict means anything."
            )
    if not judged:
        said.append("There is no verdict yet: each needs the arm and real cases in 2 seeds.")
    return [*said, *content["findings"]]


def _words(gain: Gain, verdict: str) -> str:
    estimate = gain.trainings
    more = f", where {gain.seeable:.3f} would have been seen" if verdict == NONE else ""
    return (
        f"n = {gain.size}, {_arm(gain)} {estimate.estimate:+.3f} "
        f"[{estimate.low:+.3f}, {estimate.high:+.3f}]{more}"
    )


def _gains(content: Mapping[str, Any], gains: Sequence[Gain]) -> Section:
    whole = [gain for gain in gains if gain.label == ALL]
    patients = len({case["patient"] for case in content["held-out cases"].values()})
    rows: list[list[Cell]] = []
    for gain in whole:
        rows.append([
            gain.size, gain.arm, gain.maps, _estimate(gain.dice, patients),
            _estimate(gain.real, patients), gain.trainings, gain.verdict, gain.seeable,
            "  ".join(f"{seed:+.3f}" for seed in gain.seeds), gain.trainings.p, gain.holm,
            _estimate(gain.both, patients), _estimate(gain.patients, patients),
        ])  # fmt: skip
    columns = ("real cases", "arm", "label maps", "Dice", "Dice, real alone", "gain", "verdict",
               "could have been seen", "by seed", "p", "Holm",
               "bootstrap: patients and seeds", "bootstrap: patients")  # fmt: skip
    difference = plots.intervals(
        [(f"n = {gain.size}, {_arm(gain)}", gain.trainings) for gain in whole],
        "Gain in Dice over real cases alone, 95 % intervals for trainings like these",
        chance=0.0, limits=None,
    )  # fmt: skip
    said = (
        "All labels together; each arm beside the segmenters that were trained on the same real "
        "cases alone, with as many optimizer steps.",
    )
    tables = (table("gains", "Gains", columns, rows),)
    return Section("Gains", said, (difference, _dice_plot(content, whole, patients)), tables)


def _dice_plot(content: Mapping[str, Any], whole: Sequence[Gain], patients: int) -> str:
    """Dice of all arms, from few real cases to many; the line is the best of real cases alone."""
    rows: list[tuple[str, Estimate]] = []
    for size in content["settings"]["sizes"]:
        own = [gain for gain in whole if gain.size == size]
        if own:
            rows.append((f"n = {size}, {REAL}", _estimate(own[0].real, patients)))
        rows += [(f"n = {size}, {_arm(gain)}", _estimate(gain.dice, patients)) for gain in own]
    if not rows:
        return ""
    best = max(gain.real.estimate for gain in whole)
    title = "Dice on held-out real cases, 95 % intervals over patients; line: best of real alone"
    return plots.intervals(rows, title, chance=best, limits=None)


def _labels(content: Mapping[str, Any], gains: Sequence[Gain]) -> Section:
    patients = len({case["patient"] for case in content["held-out cases"].values()})
    rows: list[list[Cell]] = [
        [gain.label, gain.size, gain.arm, gain.maps, _estimate(gain.dice, patients),
         _estimate(gain.real, patients), gain.trainings, gain.trainings.p, gain.holm, gain.verdict]
        for gain in gains if gain.label != ALL
    ]  # fmt: skip
    columns = ("label", "real cases", "arm", "label maps", "Dice", "Dice, real alone", "gain", "p",
               "Holm", "verdict")  # fmt: skip
    return Section("By label", (), (), (table("labels", "Gains by label", columns, rows),))


def _facts(content: Mapping[str, Any]) -> Section:
    settings, computed = content["settings"], content["computed"]
    rows: list[tuple[str, Cell]] = [
        ("numbers of real cases", ", ".join(map(str, settings["sizes"]))),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("cases to draw from", len(content["training cases"])),
        ("held-out cases", len(content["held-out cases"])),
        ("segmenter", f"{settings['segmenter']}, {settings['segmenter_iterations']} optimizer "
         "steps in each arm"),
        *_generator_facts(content),
        ("computed with", f"{computed['device']}, {computed['precision']}, torch "
         f"{computed['torch']}, scipy {computed['scipy']}"),
    ]  # fmt: skip
    return Section("What was done", (), (), (table("facts", "Facts", ("what", ""), rows),))


def _generator_facts(content: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    settings, given = content["settings"], content["generator"]
    if not settings["maps"]:
        return []
    if given is None:
        minutes, steps = settings["generator_minutes"], settings["generator_iterations"]
        length = f"{minutes:g} min" if minutes is not None else f"{steps} iterations"
        said = f"trained anew on the n real cases of each seed alone, {length}"
    else:
        seen = "an unknown number of" if given["images"] is None else given["images"]
        said = (
            f"{given['name']} {given['version']} (weights {given['weights_sha256'][:_DIGITS]}), "
            f"trained on {seen} images, whatever n is"
        )
    rows: list[tuple[str, Cell]] = [
        ("generator", said),
        ("synthetic volumes", f"{settings['volumes']} of each generator and kind of label maps"),
        ("label maps", ", ".join(settings["maps"])),
        ("sampler, steps, guidance",
         f"{settings['sampler']}, {settings['steps']}, {settings['guidance']:g}"),
        ("synthetic samples in the arm both", f"{settings['share']:.0%}"),
        ("steps of pre-training", f"{settings['pretraining']:.0%}"),
    ]  # fmt: skip
    if "varied" in settings["maps"]:
        rows.append(("strength of varied label maps", f"{settings['strength']:g}"))
    return rows


def _cells(content: Mapping[str, Any]) -> Section:
    given = content["generator"]
    columns = ["real cases", "seed", "arm", "label maps", "Dice", *content["labels"], "steps",
               "seconds", "cases of the generator"]  # fmt: skip
    by_draw = {(draw["seed"], draw["cases"]): draw["names"] for draw in content["draws"]}
    rows: list[list[Cell]] = []
    for cell in content["cells"]:
        dice = np.stack([array(each) for each in cell["dice"].values()])
        names = by_draw[(cell["seed"], cell["cases"])]
        rows.append([
            cell["cases"], cell["seed"], cell["arm"], cell["maps"],
            float(nanmean(nanmean(dice, 1), 0)), *map(float, nanmean(dice, 0)),
            " + ".join(map(str, cell["steps"])), float(cell["seconds"]),
            _seen(given, names) if cell["maps"] else "",
        ])  # fmt: skip
    said = ("Means over cases. The JSON beside this page has the Dice of each case and label.",)
    return Section("Each cell", said, (), (table("cells", "Cells", columns, rows),))


def _seen(given: Mapping[str, Any] | None, names: Sequence[str]) -> str:
    """Which cases a cell's generator was trained on, beside the cell's own."""
    if given is None:
        return "the same"
    if given["seen"] is None:
        return "unknown"
    own = len(set(given["seen"]) & set(names))
    return f"{own} of the same, {given['images']} images in all"


def _meaning(content: Mapping[str, Any]) -> Section:
    arms = content["settings"]["arms"]
    said = (
        "Arms: " + "; ".join(f"{arm}: {_ARMS.get(arm, arm)}" for arm in arms) + ".",
        "The real cases of a seed are nested: those of a smaller n are among those of a larger "
        "one. All arms begin with the same network weights of a seed.",
        "The gain's interval is for trainings and patients like these: both are random effects of "
        "an analysis of variance, with few degrees of freedom where there are few seeds. The "
        "bootstraps draw patients alone (other patients, just these trainings), or patients and "
        "seeds; of three seeds the latter is too narrow.",
        "Could have been seen: the true gain that four of five such experiments would have called "
        "a gain. A gain that was not seen is no proof that there is none.",
        "Holm's p values are raised for the number of comparisons of one label.",
    )
    return Section("What the figures mean", said)


def _arm(gain: Gain) -> str:
    return f"{gain.arm}, {gain.maps}" if gain.maps else gain.arm


def _estimate(interval: Interval, count: int) -> Estimate:
    return Estimate(interval.estimate, interval.low, interval.high, n=count)
