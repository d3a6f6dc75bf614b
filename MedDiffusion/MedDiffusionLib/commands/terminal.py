"""What the command says: results on stdout, sentences and a line of progress on stderr.

What cannot be said stops no work: stdout and stderr may be closed, full, or a pipe that nobody
reads any more. A caller learns by :func:`is_stdout_whole`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from ..compute.errors import UserError
from ..compute.parsing import printable

if TYPE_CHECKING:
    from ..synthesis.synthesis import Step
    from ..training.loop.log import TrainingReport

_ours: dict[str, TextIO] = {}
"""Streams that are this module's own, by name."""
_failed: set[str] = set()
"""The streams that could not be written."""


def claim_streams() -> None:
    """Keep stdout and stderr for what is said here: libraries, which print what they like wherever
    they like, are not heard any more. For a process of its own, and not where it is debugged."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # Closed. The next file to be opened would take its place, and get what is printed.
            _open_nothing(number)
        elif not is_debugged():
            _ours[name] = os.fdopen(os.dup(number), "w", encoding=getattr(sys, name).encoding)
            os.dup2(_nothing(), number)
    for name in ("stdout", "stderr"):
        stream = _stream(name)
        if isinstance(stream, io.TextIOWrapper):
            # Where the locale knows few letters, names have others.
            stream.reconfigure(errors="backslashreplace")


def is_debugged() -> bool:
    """Whether all that libraries print is wanted, and where an error came from."""
    return bool(os.environ.get("MEDDIFFUSION_DEBUG"))


def is_stdout_whole() -> bool:
    """Whether all that was told has reached stdout, or it was closed from the start."""
    return "stdout" not in _failed


def tell(result: object) -> None:
    """Print a result to stdout, as one line."""
    write("stdout", f"{printable(str(result))}\n")


def tell_text(text: str) -> None:
    """Print a text of several lines to stdout."""
    for line in text.split("\n"):
        tell(line)


def say(text: str) -> None:
    """Print a sentence to stderr, as one line."""
    write("stderr", f"meddiffusion: {printable(text)}\n")


def say_error(error: UserError, remedies: Mapping[str, str]) -> None:
    """Print an error's sentence to stderr, with a front end's own remedies."""
    say(f"error: {error.sentence(remedies)}")


def write(name: str, text: str) -> None:
    """Write to ``stdout`` or ``stderr``, as far as possible."""
    stream = _stream(name)
    if stream is None or name in _failed:
        return
    try:
        # In one piece, which print() does not: several processes may write to one terminal or pipe.
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        _failed.add(name)
        with contextlib.suppress(OSError, ValueError):
            # What is left in the buffer must not fail once more when the process ends.
            os.dup2(_nothing(), stream.fileno())


class ProgressLine:
    """One line on stderr, rewritten in place; silence where stderr is no terminal, but for a
    program that sets ``MEDDIFFUSION_PROGRESS`` and shows the line itself."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        stream = _stream("stderr")
        is_wanted = bool(os.environ.get("MEDDIFFUSION_PROGRESS"))
        self.shown = stream is not None and (is_wanted or stream.isatty())

    def step(self, step: Step) -> None:
        """Show a step of a synthesis."""
        self._show(f"{self.prefix} sample {step.sample + 1}, step {step.step}/{step.steps}")

    def report(self, report: TrainingReport) -> None:
        """Show where a training stands; its notes are said as sentences."""
        if report.note:
            self.close()
            say(report.note)
            return
        text = f"{report.words}, {report.progress:.1%}"
        if report.iteration:
            text += f", iteration {report.iteration}, loss {report.loss:.4f}"
        if report.seconds_left is not None:
            text += f", {report.seconds_left / 60:.1f} min left"
        self._show(text)

    def text(self, text: str) -> None:
        """Show where other work stands."""
        self._show(text)

    def close(self) -> None:
        """Clear the line."""
        if self.shown:
            write("stderr", "\r\033[K")

    def _show(self, text: str) -> None:
        if self.shown:
            write("stderr", f"\r\033[K{printable(text.strip())}")


def _stream(name: str) -> TextIO | None:
    stream: TextIO | None = _ours.get(name) or getattr(sys, name)
    return stream


def _nothing() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _open_nothing(number: int) -> None:
    descriptor = _nothing()
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
