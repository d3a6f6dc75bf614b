"""How a run is asked to stop: a file named ``stop`` in its folder, SIGTERM, or Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from .names import STOP_NAME

_SAME_KEY = 2.0
"""Seconds in which two SIGINTs are one Ctrl-C."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopWatch:
    """Notes a request to stop, to be honored between two steps; a second Ctrl-C stops at once.

    A context manager: inside it the two signals only leave a note. The stop file is removed on
    entering, since it was meant for another run, and on leaving.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / STOP_NAME
        self._signal: signal.Signals | None = None
        self._impatient_after = math.inf
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopWatch:
        self._remove_file()
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove_file()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def reason(self) -> str | None:
        """``SIGINT``, ``SIGTERM`` or ``stop file``; None while nobody asked."""
        if self._signal is not None:
            return self._signal.name
        return "stop file" if self._file.exists() else None

    def _remove_file(self) -> None:
        # Where the folder cannot be, or be written, others say so.
        with suppress(OSError):
            self._file.unlink()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes on a Ctrl-C that the terminal already sent: only a later one is another.
        now = time.monotonic()
        if number == signal.SIGINT and now > self._impatient_after:
            raise KeyboardInterrupt
        if self._signal is None:
            self._impatient_after = now + _SAME_KEY
        self._signal = signal.Signals(number)
