"""What the command says on stderr: sentences, and one line of progress on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .synthesis import Step
    from .training.log import Report


def say(text: str) -> None:
    """Print a sentence to stderr."""
    print(f"meddiffusion: {text}", file=sys.stderr, flush=True)


class ProgressLine:
    """One line on stderr, rewritten in place, when stderr is a terminal; else silence."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.shown = sys.stderr.isatty()

    def step(self, step: Step) -> None:
        """Show a step of a synthesis."""
        self._show(f"{self.prefix} sample {step.sample + 1}, step {step.step}/{step.steps}")

    def report(self, report: Report) -> None:
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
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _show(self, text: str) -> None:
        if self.shown:
            sys.stderr.write(f"\r\033[K{text.strip()}")
            sys.stderr.flush()
