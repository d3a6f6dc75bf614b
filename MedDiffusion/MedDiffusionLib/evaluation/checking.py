"""A report's figures made anew and compared, and figures against bounds, as CI needs it."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.parsing import read_json
from ..compute.schema import Schema, validate
from .figure import Figure
from .results import Results
from .summary import summarize

_REMADE = 1e-6
"""Of a value, by which figures of the same numbers may differ."""
_MEASURED, _OF_INTERVAL, _OF_VALUE = 1e-3, 0.1, 0.01
"""By which figures that were measured anew may differ, on another machine perhaps: absolutely, as a
part of the interval's width, as a part of the value."""
_MOST_BYTES = 2**28
_REPORT: Schema = {
    "type": "object",
    "required": [
        "meddiffusion_evaluation", "inputs", "settings", "labels", "channels", "cases", "pairs",
        "figures", "missing",
    ],
    "properties": {
        "meddiffusion_evaluation": {"enum": [1]},
        "inputs": {"type": "object", "required": ["segmenters", "extractors", "weights_sha256"]},
        "settings": {"type": "object", "required": ["seeds", "subjects"]},
        "labels": {"type": "array"},
        "channels": {"type": "array"},
        "cases": {"type": "array", "items": {"type": "object"}},
        "pairs": {"type": "array", "items": {"type": "object"}},
        "figures": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip
_BOUND = {"type": "number"}
_GATE: Schema = {
    "type": "object",
    "additionalProperties": True,
}
_BOUNDS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"least": _BOUND, "most": _BOUND},
}


def read_report(path: Path) -> dict[str, Any]:
    """The content of a report's JSON; raises UserError for what is none."""
    try:
        content = read_json(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", "check the path",
                        path=path) from error  # fmt: skip
    except ValueError as error:
        raise _no_report(path, str(error)) from error
    if problem := validate(content, _REPORT, "it"):
        raise _no_report(path, problem)
    whole: dict[str, Any] = content
    return whole


def stated_figures(content: dict[str, Any], path: Path) -> list[Figure]:
    """The figures that a report states."""
    try:
        return [Figure.from_json(figure) for figure in content["figures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_report(path, "a figure of it is none") from error


def remade_figures(content: dict[str, Any], path: Path) -> list[Figure]:
    """The figures that follow from the numbers in a report."""
    try:
        return summarize(Results(content), content["settings"]["subjects"])[0]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _no_report(path, "its numbers are not whole") from error


def settings_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a request needs to measure anew what is in a report."""
    try:
        settings = content["settings"]
        names = ("steps", "sampler", "guidance", "part", "half", "segmenter_iterations")
        return {
            **{name: settings[name] for name in names},
            "seeds": tuple(settings["seeds"]),
            "subjects": tuple(settings["subjects"]),
            "segmenters": tuple(content["inputs"]["segmenters"]) or None,
            "cases": len(content["cases"]),
        }
    except (KeyError, TypeError) as error:
        raise _no_report(path, "its settings are not whole") from error


def other_inputs(stated: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A sentence for each input that is not the one of the report."""
    said = []
    if stated["inputs"]["weights_sha256"] != found["inputs"]["weights_sha256"]:
        said.append("The model's weights are others than those of the report.")
    if stated["inputs"]["segmenters"] != found["inputs"]["segmenters"]:
        said.append("The segmenters, or what they were trained on, are others.")
    before, now = ({case.get("digest") for case in each["cases"]} for each in (stated, found))
    if before != now:
        said.append(f"{len(now - before)} of {len(now)} cases are others, or have changed.")
    return said


def differences(
    stated: Sequence[Figure], found: Sequence[Figure], *, measured_anew: bool
) -> list[str]:
    """A sentence for each figure that is stated otherwise than it was found, or not at all."""
    before, now = ({figure.name: figure for figure in each} for each in (stated, found))
    said = [f"{name} is stated, and does not follow." for name in before if name not in now]
    said += [f"{name} is not stated, and follows." for name in now if name not in before]
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        width = new.value.high - new.value.low
        for words, a, b in _numbers(old, new):
            allowed = _REMADE * max(1.0, abs(b))
            if measured_anew:
                parts = _MEASURED, _OF_INTERVAL * abs(width), _OF_VALUE * abs(b)
                allowed = max(part for part in parts if not math.isnan(part))
            if math.isnan(a) != math.isnan(b) or abs(a - b) > allowed:
                said.append(f"{name}: {words} is stated as {a:g} and was found to be {b:g}.")
        if not measured_anew and old.verdict != new.verdict:
            said.append(
                f'{name}: the verdict is stated as "{old.verdict}" and was "{new.verdict}".'
            )
    return sorted(said)


def read_gate(path: Path) -> dict[str, dict[str, float]]:
    """Bounds by the figures' names; raises UserError."""
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", "check the path",
                        path=path) from error  # fmt: skip
    except ValueError as error:
        raise _no_gate(path, str(error)) from error
    if problem := validate(content, _GATE, "it"):
        raise _no_gate(path, problem)
    for name, bounds in content.items():
        if problem := validate(bounds, _BOUNDS, name):
            raise _no_gate(path, problem)
        if not bounds:
            raise _no_gate(path, f"{name} has no bound")
    gate: dict[str, dict[str, float]] = content
    return gate


def beyond(gate: dict[str, dict[str, float]], figures: Sequence[Figure]) -> list[str]:
    """A sentence for each figure beyond its bound, and for each name that is no figure's.

    A name may have * for any letters, as in ``label-fidelity/*/all labels/difference``.
    """
    said = []
    for pattern, bounds in gate.items():
        named = [figure for figure in figures if fnmatch.fnmatchcase(figure.name, pattern)]
        if not named:
            said.append(f"{pattern} is to be bounded, and there is no such figure.")
        for figure in named:
            value = figure.value.estimate
            if "least" in bounds and not value >= bounds["least"]:
                said.append(f"{figure.name} is {value:.4g}, below {bounds['least']:g}.")
            if "most" in bounds and not value <= bounds["most"]:
                said.append(f"{figure.name} is {value:.4g}, above {bounds['most']:g}.")
    return said


def _numbers(old: Figure, new: Figure) -> list[tuple[str, float, float]]:
    """What two figures of one name have to agree in."""
    rows = [
        ("it", old.value.estimate, new.value.estimate),
        ("its lower bound", old.value.low, new.value.low),
        ("its upper bound", old.value.high, new.value.high),
    ]
    if old.real is not None and new.real is not None:
        rows += [
            ("the real one", old.real.estimate, new.real.estimate),
            ("the real one's lower bound", old.real.low, new.real.low),
            ("the real one's upper bound", old.real.high, new.real.high),
        ]
    both = zip(old.seeds, new.seeds, strict=False)
    return rows + [(f"that of seed number {n}", a, b) for n, (a, b) in enumerate(both, start=1)]


def _no_report(path: Path, problem: str) -> UserError:
    return UserError(
        f"is no report of an evaluation ({problem})",
        "give the report.json of one",
        path=path,
        code="no-evaluation",
    )


def _no_gate(path: Path, problem: str) -> UserError:
    return UserError(
        f"is no file of bounds ({problem})",
        'it needs an object such as {"label-fidelity/unet/all labels/difference": '
        '{"least": -0.02}}',
        path=path,
    )
