"""Runs one of this project's commands in a process of its own, and hears what it says.

Standard library only, no threads and nothing that blocks: the owner calls :meth:`Command.poll`
often.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..compute.parsing import printable
from .client import child_environment, end_tree

CANCEL_SECONDS = 5.0
"""A command that is told to stop undoes what it has begun; one that does not is ended."""
_ERROR = "meddiffusion: error: "
_SAID = "meddiffusion: "


class Command:
    """``meddiffusion ARGUMENTS``, running. ``python``: the command of the interpreter.

    Raises OSError where it cannot be started.
    """

    def __init__(self, python: Sequence[str], arguments: Sequence[str], folder: Path) -> None:
        """``folder``: the place for temporary files."""
        self.cancelled = False
        self.progress = ""
        """Where it stands, in its own words."""
        self._kill_at: float | None = None
        self._files = tempfile.TemporaryDirectory(prefix="meddiffusion-", dir=folder)
        paths = [Path(self._files.name) / name for name in ("out", "err")]
        self._out, self._err = paths
        package = __package__.split(".")[0] if __package__ else ""
        try:
            with self._out.open("wb") as out, self._err.open("wb") as err:
                # A session of its own: its whole tree can be ended, as PythonSlicer starts a child.
                self._process = subprocess.Popen(
                    [*python, "-m", package, *arguments], stdin=subprocess.DEVNULL, stdout=out,
                    stderr=err, env={**child_environment(), "MEDDIFFUSION_PROGRESS": "1"},
                    start_new_session=os.name == "posix",
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )  # fmt: skip
        except BaseException:
            self._files.cleanup()
            raise

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def poll(self) -> bool:
        """Hear where it stands; whether it has ended."""
        ended = self.code is not None
        if self._kill_at is not None and time.monotonic() > self._kill_at and not ended:
            end_tree(self._process)
        parts = [part.strip() for part in re.split(r"\r\x1b\[K|\n", self._text(self._err))]
        running = [part for part in parts if part and not part.startswith(_SAID)]
        self.progress = printable(running[-1]) if running else ""
        return ended

    def cancel(self) -> None:
        """Let it stop, and undo what it has begun."""
        self.cancelled = True
        self._kill_at = time.monotonic() + CANCEL_SECONDS
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGINT)
        else:
            end_tree(self._process)

    def close(self) -> None:
        """End it where it still runs, and remove its files."""
        if self.code is None:
            end_tree(self._process)
        self._files.cleanup()

    @property
    def results(self) -> list[str]:
        """The lines that it wrote to stdout."""
        return self._text(self._out).splitlines()

    @property
    def sentences(self) -> list[str]:
        """What it said, without its progress; an error is the last."""
        lines = re.split(r"\r\x1b\[K|\n", self._text(self._err))
        said = [line.strip() for line in lines if line.startswith(_SAID)]
        return [line.removeprefix(_ERROR).removeprefix(_SAID) for line in said]

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_bytes().decode("utf-8", "replace")
