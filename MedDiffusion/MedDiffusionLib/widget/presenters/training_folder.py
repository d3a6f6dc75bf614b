"""What checks and trainings leave in files, read: how far a run is, what a check has found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...bundles.names import MANIFEST_NAME
from ...training.loop.names import CHECKPOINT_NAME, LOG_NAME, STOP_NAME
from ..wording import _

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

    def ask_to_stop(self) -> None:
        """The training looks for this file after every step."""
        (self.path / STOP_NAME).touch()

    def describe(self) -> str:
        """Iteration, loss and time left, by the last line of the log; empty before there is one."""
        try:
            *_before, last = (self.path / LOG_NAME).read_text("utf-8").splitlines()
            line = json.loads(last)
        except (OSError, ValueError):
            return ""
        if "loss" not in line:
            return str(line.get("note", ""))
        minutes = max(0.0, line["seconds_left"] or 0.0) / 60
        left = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        text = _("Iteration {iteration}, loss {loss}, {left} left")
        return text.format(iteration=line["iteration"], loss=f"{line['loss']:.4f}", left=left)


@dataclass(frozen=True)
class Cell:
    text: str
    tip: str


@dataclass(frozen=True)
class CheckReport:
    """What a check has found: a table, the plan below it, and all of it in a sentence."""

    rows: tuple[tuple[Cell, ...], ...]
    plan: str
    summary: str


def read_check_report(path: Path) -> CheckReport | None:
    """The report that a check wrote; None where it found no data to look at."""
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    findings = report["findings"]
    rows = tuple(
        tuple(Cell(finding[key], finding["file"] or finding[key]) for key in COLUMNS)
        for finding in findings
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
    return CheckReport(rows, report["plan"], summary)
