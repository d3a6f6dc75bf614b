"""How a run is asked to stop: a file named ``stop`` in its folder, SIGTERM, or Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from .names import STOP_NAME

_SAME_KEY = 2.0
"""Seconds in which two SIGINTs are one Ctrl-C."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopWatch:
    """Notes a request to stop, to be honored between two steps; a second Ctrl-C stops at once.

    A context manager: inside it the two signals only leave a note.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._signal: signal.Signals | None = None
        self._impatient_after = math.inf
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopWatch:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def file(self) -> Path | None:
        """The stop file that is looked for."""
        return self._file

    @property
    def reason(self) -> str | None:
        """``SIGINT``, ``SIGTERM`` or ``stop file``; None while nobody asked."""
        if self._signal is not None:
            return self._signal.name
        return "stop file" if self._file and _is_regular(self._file) else None

    @property
    def is_obstructed(self) -> bool:
        """Whether something lies in the stop file's place that is none, and stops nothing."""
        file = self._file
        return file is not None and os.path.lexists(file) and not _is_regular(file)

    @contextmanager
    def file_in(self, folder: Path) -> Iterator[None]:
        """Look for the stop file of a folder that is the training's own, while the block runs.

        One that is there was meant for another run: it is removed, and again at the end.
        """
        self._file = folder / STOP_NAME
        try:
            self._remove_file()
            yield
        finally:
            self._remove_file()
            self._file = None

    def _remove_file(self) -> None:
        # Where the folder cannot be written, others say so.
        with suppress(OSError):
            if self._file and _is_regular(self._file):
                self._file.unlink()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes on a Ctrl-C that the terminal already sent: only a later one is another.
        now = time.monotonic()
        if number == signal.SIGINT and now > self._impatient_after:
            raise KeyboardInterrupt
        if self._signal is None:
            self._impatient_after = now + _SAME_KEY
        self._signal = signal.Signals(number)


def _is_regular(path: Path) -> bool:
    """Whether there is a regular file: no link, folder or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
