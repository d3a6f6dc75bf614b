"""What checks and trainings leave in files, read: how far a run is, what a check has found."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundles.names import MANIFEST_NAME
from ...compute.errors import UserError
from ...compute.files import read_regular
from ...compute.parsing import parse_json, read_json
from ...training.loop.names import (
    CHECKPOINT_NAME,
    DISTILLATION_NAME,
    LOG_NAME,
    REPRESENTATION_NAME,
    STOP_NAME,
)
from ...worker.protocol import take_error
from ..wording import _, plain, rich
from .card import table

MOST_LOG_BYTES = 2**27
COLUMNS = ("case", "sentence", "remedy")
"""What the table of findings shows of each."""


class TrainingFolder:
    """The folder of a training: its checkpoint, log, pictures, and in the end its model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT_NAME).is_file()

    @property
    def has_model(self) -> bool:
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def first_stage(self) -> bool:
        """Whether a representation is being learned: nothing is known of the denoiser yet."""
        learns = (self.path / REPRESENTATION_NAME).is_dir()
        return learns and not (self.path / LOG_NAME).is_file()

    @property
    def stage(self) -> Path:
        """The folder with the log and the pictures of what is being trained."""
        last = self.path / DISTILLATION_NAME
        if (last / LOG_NAME).is_file():
            return last
        return self.path / REPRESENTATION_NAME if self.first_stage else self.path

    def ask_to_stop(self) -> None:
        """The training looks for this file after every step."""
        (self.path / STOP_NAME).touch()

    def describe(self) -> str:
        """Iteration, loss and time left, by the last line of the log; empty before there is one."""
        line = next(self._lines(newest_first=True), {})
        try:
            iteration, loss = int(line["iteration"]), float(line["loss"])
            minutes = max(0.0, float(line.get("seconds_left") or 0.0)) / 60
        except (KeyError, TypeError, ValueError):
            return plain(str(line.get("note", "")))
        left = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        text = _("Iteration {iteration}, loss {loss}, {left} left")
        if self.first_stage:
            text = _("The representation first: iteration {iteration}, loss {loss}, {left} left")
        return text.format(iteration=iteration, loss=f"{loss:.4f}", left=left)

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """The losses by name, each as points (iteration, loss); what the log does not have is
        empty."""
        lines = list(self._lines())
        names = {"loss": _("training"), "validation_loss": _("validation")}
        return {name: list(_points(lines, key)) for key, name in names.items()}

    def _lines(self, newest_first: bool = False) -> Iterator[dict[str, Any]]:
        """The lines of the log that are whole."""
        try:
            texts = read_regular(self.stage / LOG_NAME, MOST_LOG_BYTES).splitlines()
        except OSError:
            return
        for text in reversed(texts) if newest_first else texts:
            try:
                line = parse_json(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


@dataclass(frozen=True)
class Cell:
    text: str
    tip: str


@dataclass(frozen=True)
class CheckReport:
    """What a check has found: a table, the plan below it, and all of it in a sentence."""

    rows: tuple[tuple[Cell, ...], ...]
    plan: str
    """Rich text."""
    summary: str


def read_error(path: Path) -> UserError | None:
    """The error in a training's report; None where it left none."""
    try:
        return take_error(read_json(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_check_report(path: Path) -> CheckReport | None:
    """The report that a check wrote; None where it found no data to look at."""
    try:
        report = read_json(path)
    except (OSError, ValueError):
        return None
    findings = report["findings"]
    rows = tuple(
        tuple(_cell(finding[key], finding["file"]) for key in COLUMNS) for finding in findings
    )
    if report["usable"]:
        text = _("{good} of {cases} cases can be trained on.")
    else:
        text = _("{errors} problems stand in the way: see to them, or leave out bad cases.")
    summary = text.format(
        good=report["cases"] - len(report["bad_cases"]),
        cases=report["cases"],
        errors=sum(finding["severity"] == "error" for finding in findings),
    )
    return CheckReport(rows, plan_table(report["plan"]), summary)


def plan_table(plan: str) -> str:
    """A plan, whose lines are a name and what is planned, as rich text in columns."""
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in plan.splitlines()]
    pairs = [cells if len(cells) == 2 else ["", cells[0]] for cells in lines]
    rows = [(rich(name), rich(value)) for name, value in pairs]
    return table(rows) if rows else ""


def _cell(text: str, file: str) -> Cell:
    return Cell(plain(text), plain(file or text))


def _points(lines: list[dict[str, Any]], key: str) -> Iterator[tuple[float, float]]:
    for line in lines:
        try:
            point = float(line["iteration"]), float(line[key])
        except (KeyError, TypeError, ValueError):
            continue
        if all(map(math.isfinite, point)):
            yield point
