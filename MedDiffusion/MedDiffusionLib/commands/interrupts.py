"""Ctrl-C at any moment: before there is anything to undo it ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

CANCELLED = "cancelled; no file was left half-written."
"""What is said of it."""
_stderr = 2


def end_at_once() -> None:
    """Let Ctrl-C end the process with its sentence and code 130.

    While libraries are loaded Python's own way would be a traceback out of the midst of them, or
    whatever they make of it. A process that does not hear Ctrl-C stays so.
    """
    global _stderr
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(OSError):
            # The terminal's, whatever becomes of the number 2.
            _stderr = os.dup(2)
        signal.signal(signal.SIGINT, _end)


def undo_first() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, so that what has begun is undone."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(_stderr, f"meddiffusion: {CANCELLED}\n".encode())
    os._exit(130)
