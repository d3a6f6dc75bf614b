"""Runs commands within bounds of time and memory, and says how they ended."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_SECONDS = 20.0
"""A command may take so long, without the time in which it waited for a busy CPU."""
MOST_KIB = 2 * 2**20
"""Resident memory of one process."""
_ADDRESS_BYTES = 64 * 2**30
"""Far above what is judged: it only keeps a runaway from taking the machine before it is seen."""
_PAUSE = 0.01
_PATIENCE = 10.0
"""Seconds that processes of a command may outlive it."""


class Skipped(Exception):
    """An input that cannot be tried on this machine, and why."""


def command_program() -> list[str]:
    """The installed command; without one, the library as a program."""
    script = Path(sys.executable).with_name("meddiffusion")
    return [str(script)] if script.exists() else [sys.executable, "-m", "MedDiffusionLib"]


def program_of_others() -> tuple[list[str], dict[str, str]] | None:
    """The command for a user who may not go where our interpreter lies; None where there is none.

    With variables that it needs. Another interpreter of the same version does where ours is in a
    folder of our own.
    """
    script = Path(command_program()[0])
    if _is_open_to_all(script) and _is_open_to_all(Path(sys.executable)):
        return command_program(), {}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    other = shutil.which(version, path="/usr/local/bin:/usr/bin:/bin")
    if other is None or not _is_open_to_all(Path(other)):
        return None
    library = importlib.util.find_spec("MedDiffusionLib")
    assert library and library.submodule_search_locations
    package = Path(library.submodule_search_locations[0])
    folders = [package.parent, *map(Path, site.getsitepackages()), *map(Path, sys.path)]
    paths = [str(f) for f in folders if f.is_dir() and _is_open_to_all(f)]
    return [other, "-m", "MedDiffusionLib"], {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _is_open_to_all(path: Path) -> bool:
    """Whether anyone may reach and use a file or folder, by its permissions."""
    real = path.resolve()
    return all(place.stat().st_mode & 0o001 for place in (real, *real.parents))


@dataclass
class Streams:
    """Where the standard streams go: a path each, None for a closed one."""

    stdin: str | None
    stdout: str | None
    stderr: str | None


@dataclass
class Surroundings:
    """What a process finds beside its arguments.

    ``real``: the installed command as a program, else a fork with the same modules in it.
    """

    folder: Path
    environment: Mapping[str, str]
    streams: Streams
    real: bool = False
    user: int | None = None
    file_bytes: int | None = None
    most_seconds: float = MOST_SECONDS


@dataclass
class Running:
    """A command that was started, and what is known of it so far."""

    pid: int
    most_seconds: float = MOST_SECONDS
    begun: float = field(default_factory=time.monotonic)
    kib: int = 0
    cpu: float = 0.0
    own_cpu: float = 0.0
    """CPU seconds of its first thread so far."""
    waited: float = 0.0
    code: int | None = None
    stopped: str = ""
    """Why it was ended from here: a promise that it broke."""
    left_processes: bool = False

    @property
    def seconds(self) -> float:
        """Time since its start, less what it waited for a CPU."""
        return time.monotonic() - self.begun - self.waited

    def look(self) -> None:
        """Measure it, and end it where it has gone beyond the bounds."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace")
            peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
            schedule = Path(f"/proc/{self.pid}/schedstat").read_text().split()
        except (OSError, IndexError):
            return
        self.kib = max(self.kib, *map(int, peak), 0) if peak else self.kib
        self.own_cpu, self.waited = (int(word) / 1e9 for word in schedule[:2])
        if self.kib > MOST_KIB:
            self.stop(f"over {MOST_KIB >> 20} GB of memory")
        elif self.seconds > self.most_seconds:
            self.stop(f"not done after {self.most_seconds:g} s")

    def stop(self, reason: str) -> None:
        """End all of its processes."""
        self.stopped = self.stopped or reason
        self.kill_all()

    def kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to the command alone, where it still runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Launcher:
    """A fork server of its own; for one thread."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forkserver.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        assert self._server.stdout
        self._answers = self._server.stdout.fileno()
        self._running: dict[int, Running] = {}
        self._pending = b""
        self._started: list[int] = []
        assert "ready" in self._next()

    def close(self) -> None:
        """End the server, and what it still runs."""
        for running in self._running.values():
            running.kill_all()
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()

    def start(self, arguments: Sequence[object], around: Surroundings) -> Running:
        """Start a command."""
        request: dict[str, Any] = {
            "arguments": [str(word) for word in arguments],
            "folder": str(around.folder),
            "environment": dict(around.environment),
            "streams": [around.streams.stdin, around.streams.stdout, around.streams.stderr],
            "address_bytes": _ADDRESS_BYTES,
        }
        request |= {"program": command_program()} if around.real else {}
        if around.user is not None:
            found = program_of_others() if os.geteuid() == 0 else None
            if found is None:
                raise Skipped("another user cannot be had, or cannot reach the interpreter")
            request["user"], request["program"] = around.user, found[0]
            request["environment"] |= found[1]
        request |= {"file_bytes": around.file_bytes} if around.file_bytes is not None else {}
        assert self._server.stdin
        self._server.stdin.write((json.dumps(request) + "\n").encode())
        while not self._started:
            self._take(self._next())
        running = Running(self._started.pop(), around.most_seconds)
        self._running[running.pid] = running
        return running

    def wait(self, running: Running, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the end of a command; returns whether ``until`` came true before.

        Whatever of the command's processes outlives it is ended.
        """
        while running.code is None:
            if until():
                return True
            for one in list(self._running.values()):
                one.look()
            if b"\n" in self._pending or select.select([self._answers], [], [], _PAUSE)[0]:
                self._take(self._next())
        self._end_rest(running)
        return False

    def _end_rest(self, running: Running) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                os.killpg(running.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(_PAUSE)
        running.left_processes = True
        running.kill_all()

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            content = os.read(self._answers, 65536)
            if not content:
                raise RuntimeError("the fork server ended")
            self._pending += content
        line, self._pending = self._pending.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _take(self, answer: dict[str, Any]) -> None:
        if "started" in answer:
            self._started.append(answer["started"])
            return
        running = self._running.pop(answer["ended"])
        running.code, running.cpu = answer["code"], answer["cpu"]
        running.kib = max(running.kib, answer["kib"])
