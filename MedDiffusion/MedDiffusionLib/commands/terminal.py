"""What the command says: results on stdout, sentences and a line of progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from ..compute.errors import UserError

if TYPE_CHECKING:
    from ..synthesis.synthesizer import Step
    from ..training.loop.log import TrainingReport


def tell(result: object) -> None:
    """Print a result to stdout."""
    _write(sys.stdout, f"{result}\n")


def say(text: str) -> None:
    """Print a sentence to stderr."""
    _write(sys.stderr, f"meddiffusion: {text}\n")


def say_error(error: UserError, remedies: Mapping[str, str]) -> None:
    """Print an error's sentence to stderr, with a front end's own remedies."""
    say(f"error: {error.sentence(remedies)}")


def _write(stream: TextIO, text: str) -> None:
    # In one piece, which print() does not: several processes may write to one terminal or pipe.
    stream.write(text)
    stream.flush()


class ProgressLine:
    """One line on stderr, rewritten in place, when stderr is a terminal; else silence."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.shown = sys.stderr.isatty()

    def step(self, step: Step) -> None:
        """Show a step of a synthesis."""
        self._show(f"{self.prefix} sample {step.sample + 1}, step {step.step}/{step.steps}")

    def report(self, report: TrainingReport) -> None:
        """Show where a training stands; its notes are said as sentences."""
        if report.note:
            self.close()
            say(report.note)
            return
        text = f"{report.stage}, {report.progress:.1%}"
        if report.iteration:
            text += f", iteration {report.iteration}, loss {report.loss:.4f}"
        if report.seconds_left is not None:
            text += f", {report.seconds_left / 60:.1f} min left"
        self._show(text)

    def close(self) -> None:
        """Clear the line."""
        if self.shown:
            _write(sys.stderr, "\r\033[K")

    def _show(self, text: str) -> None:
        if self.shown:
            _write(sys.stderr, f"\r\033[K{text.strip()}")
