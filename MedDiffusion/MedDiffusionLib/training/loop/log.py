"""What a run says of itself: a report a step, and a log file of one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compute.files import atomic, read_regular
from ...compute.parsing import parse_json
from ...compute.schema import Schema, validate
from .chart import Curve, write_chart
from .names import CURVE_NAME, LOG_NAME

_MOST_BYTES = 2**30
_LINE: Schema = {
    "type": "object",
    "required": ["iteration"],
    "properties": {
        "iteration": {"type": "integer", "minimum": 0},
        "loss": {"type": "number"},
        "validation_loss": {"type": "number"},
    },
}


@dataclass(frozen=True)
class TrainingReport:
    """What the progress callback receives.

    ``stage`` is "checking", "reading", "training", "validating", "encoding" or "writing";
    ``progress`` runs from 0 to 1, in the first two over the cases and else over the whole run.
    """

    stage: str
    progress: float
    iteration: int = 0
    images: int = 0
    """Training samples seen so far."""
    loss: float = math.nan
    learning_rate: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    note: str = ""
    """A sentence about something out of the ordinary; empty in most reports."""
    part: str = ""
    """What is trained, of a run that trains one thing after the other; its iterations count anew.
    Empty where a run has but one."""

    @property
    def words(self) -> str:
        """The stage and, where there are several, what of."""
        return f"{self.stage} {self.part}" if self.part else self.stage


class TrainingLog:
    """Appends to ``log.jsonl`` in a run's folder and draws ``loss.png`` from it.

    A line averages the losses since the line before, which is ``interval`` seconds or more ago;
    ``figures`` are what else is said of the training then.
    """

    def __init__(
        self,
        folder: Path,
        interval: float,
        figures: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._figures = figures
        self._path = folder / LOG_NAME
        self._curve = folder / CURVE_NAME
        self._interval = interval
        self._written = -math.inf
        self._losses: list[float] = []
        self._last: TrainingReport | None = None

    def cut(self, iteration: int) -> None:
        """Drop the lines after an iteration, which will come again, and a last half line."""
        self._losses, self._last = [], None
        if not self._path.exists():
            return
        kept = [line for line in self._lines() if line["iteration"] <= iteration]
        with atomic(self._path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def add(self, report: TrainingReport) -> None:
        """Take in a training step."""
        self._losses.append(report.loss)
        self._last = report
        if report.seconds - self._written >= self._interval:
            self.flush()

    def flush(self, **more: float) -> None:
        """Write the steps since the last line, with ``more`` (a validation loss) beside them."""
        if self._last is None:
            return
        report = self._last
        line: dict[str, Any] = {"iteration": report.iteration, "images": report.images}
        if self._losses:
            line["loss"] = sum(self._losses) / len(self._losses)
            line |= self._figures()
        elif not more:
            return
        line |= {"learning_rate": report.learning_rate, "seconds": round(report.seconds, 2)}
        if report.seconds_left is not None:
            line["seconds_left"] = round(report.seconds_left, 1)
        self._append({**line, **more})
        self._losses, self._written = [], report.seconds

    def note(self, iteration: int, sentence: str) -> None:
        """Write a sentence."""
        self._append({"iteration": iteration, "note": sentence})

    def draw(self) -> None:
        """Draw the loss curves into ``loss.png``."""
        lines = self._lines() if self._path.exists() else []
        curves = []
        for key, name in (("loss", "TRAINING"), ("validation_loss", "VALIDATION")):
            points = [(line["iteration"], line[key]) for line in lines if key in line]
            curves.append(Curve(name, [x for x, _ in points], [y for _, y in points]))
        write_chart(self._curve, "ITERATION", "LOSS", curves)

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            finite = {k: v for k, v in line.items() if isinstance(v, str) or math.isfinite(v)}
            file.write(json.dumps(finite) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        """What is a line of the log; all else in the file is passed over."""
        lines = []
        for text in read_regular(self._path, _MOST_BYTES).splitlines():
            try:
                line = parse_json(text)
            except ValueError:
                continue
            if validate(line, _LINE) is None:
                lines.append(line)
        return lines
