"""What a command-line module of Slicer's has to say: progress, values it returns, one sentence.

Slicer starts such a module as a process of its own, reads the tags below from its stdout, takes
whatever comes on stderr for an error, and reads the returned values from a file.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..compute.errors import Cancelled, UserError, unexpected
from ..compute.parsing import printable
from ..compute.threads import wait_passively
from .interrupts import CANCELLED
from .parsers import Parser
from .terminal import is_debugged, say, say_error
from .wording import MODULE

_SHORTEST_PAUSE = 0.1
_PAUSE_SHARE = 1 / 500


class ModuleParser(Parser):
    """Long flags as Slicer spells them."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)
        self.add_argument("--returnparameterfile", type=Path, metavar="FILE",
                          help="where to write the values that are returned")  # fmt: skip

    def add(self, name: str, **options: Any) -> None:
        """Add ``--name``; where it has several words they are joined by ``_`` or, also, ``-``.

        Slicer accepts no hyphen in a flag.
        """
        self.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]), **options)


class SlicerProgress:
    """A context manager that prints how far the work is.

    Slicer keeps all that was printed to the end and then takes the tags out one by one, which must
    not take long after days of training: a report comes at most ten times a second, and at most
    once in a 500th of the time so far.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stage = ""

    def __enter__(self) -> SlicerProgress:
        self._start = self._printed = time.monotonic()
        self._print("<filter-start>", _tag("name", self._name), "</filter-start>")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = f"{time.monotonic() - self._start:.1f}"
        self._print(
            "<filter-end>", _tag("name", self._name), _tag("time", seconds), "</filter-end>"
        )

    def show(self, progress: float, stage_progress: float, stage: str, comment: str = "") -> None:
        """Print a report, both fractions from 0 to 1, unless the last one was but now.

        The first report of a ``stage`` and one of the end are always printed.
        """
        now = time.monotonic()
        pause = max(_SHORTEST_PAUSE, _PAUSE_SHARE * (now - self._start))
        if stage == self._stage and progress < 1 and now - self._printed < pause:
            return
        self._stage, self._printed = stage, now
        words = f"{stage}, {comment}" if comment else stage
        self._print(
            _tag("progress", f"{progress:.4f}"),
            _tag("stage-progress", f"{stage_progress:.4f}"),
            _tag("comment", words),
        )

    def note(self, sentence: str) -> None:
        """Print a sentence that is to be read after the end, too."""
        self._print(sentence)

    def _print(self, *lines: str) -> None:
        if sys.stdout is None:
            return
        try:
            print(*lines, sep="\n", flush=True)
        except OSError:
            # Slicer is gone, and would not know of this process if it were started again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            signal.raise_signal(signal.SIGTERM)


class Ended(Exception):
    """The work ended before its time and with an exit code of its own; the message says how."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_module(
    parser: ModuleParser,
    work: Callable[[argparse.Namespace], Mapping[str, object]],
    arguments: Sequence[str] | None,
) -> int:
    """Do a module's work and write down the values it returns; returns the exit code.

    0 done, 1 bad input, 2 bad usage (by SystemExit), 130 cancelled; one sentence on stderr unless
    it is 0. ``work`` may raise :class:`Ended` for another code.
    """
    wait_passively()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # On Windows a pipe has another encoding, which lacks most letters of file names.
        stream.reconfigure(encoding="utf-8", errors="replace")
    options = parser.parse_args(arguments)
    try:
        if importlib.util.find_spec("torch") is None:
            raise UserError(
                "PyTorch is not installed",
                "open the module MedDiffusion in Slicer, which installs it",
            )
        values = work(options)
        if options.returnparameterfile:
            _write_values(options.returnparameterfile, values)
    except UserError as error:
        say_error(error, MODULE)
        return 1
    except Ended as end:
        say(str(end))
        return end.code
    except (KeyboardInterrupt, Cancelled):
        say(CANCELLED)
        return 130
    except Exception as error:
        if is_debugged():
            traceback.print_exc()
        say_error(unexpected(error), MODULE)
        return 1
    return 0


def _write_values(path: Path, values: Mapping[str, object]) -> None:
    try:
        path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()), "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", "choose a place where you may write", path=path
        ) from error


def _tag(name: str, text: str) -> str:
    """A tag in the form that Slicer finds: no other tag inside, and in one line."""
    return f"<filter-{name}>{printable(text).replace('<', '(')}</filter-{name}>"
