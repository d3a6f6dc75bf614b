"""The front end's side of the worker: starts it, queues jobs, reads events, ends it.

Standard library and numpy only, no threads and nothing that blocks: Slicer's Qt event loop starves
Python threads, so the owner calls :meth:`WorkerClient.poll` often (from a timer, or in a loop),
and every callback is called from there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.parsing import shortened
from ..compute.threads import wait_passively
from .protocol import ENDINGS, PROTOCOL, decode_event, encode, put_error

START_SECONDS = 120.0
"""A worker that is not ready by then never will be; a cold disk and an antivirus take a minute."""
CANCEL_SECONDS = 0.7
"""A job that does not stop within its current step by then is stopped with its process."""
_LONGEST_DETAIL = 200
"""Characters of what another program said."""

Event = dict[str, Any]


@dataclass(eq=False)
class Job:
    """A request on its way; ``on_event`` receives its events, the last being one of ``ENDINGS``."""

    number: int
    request: dict[str, Any]
    on_event: Callable[[Event], None]
    folder: Path
    ended: bool = False
    heard: bool = field(default=False, init=False)
    kill_at: float | None = field(default=None, init=False)


class WorkerClient:
    """Runs jobs one after the other in one worker process, which stays warm between them.

    ``python`` is the command of the interpreter (``["PythonSlicer"]``), ``folder`` the place for
    temporary files. Nothing is started before the first job.
    """

    def __init__(self, python: Sequence[str], folder: Path) -> None:
        self._command = [*python, "-m", __package__]
        self._folder = folder
        self._jobs: deque[Job] = deque()
        self._next = 1
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._started_at = 0.0
        self._errors: Path | None = None
        self._unread = b""
        atexit.register(self.close)

    @property
    def busy(self) -> bool:
        """Whether jobs are running or waiting."""
        return bool(self._jobs)

    @property
    def process_id(self) -> int | None:
        """The worker's process id while it lives."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process else None

    def submit(
        self, make_request: Callable[[Path], Event], on_event: Callable[[Event], None]
    ) -> Job:
        """Queue a job; ``make_request`` receives the job's folder and returns its request.

        Raises OSError when the temporary files cannot be written.
        """
        folder = Path(tempfile.mkdtemp(prefix="meddiffusion-", dir=self._folder))
        try:
            request = {**make_request(folder), "job": self._next, "folder": str(folder)}
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        job = Job(self._next, request, on_event, folder)
        self._next += 1
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._start_job()
        return job

    def cancel(self, job: Job, patience: float | None = None) -> None:
        """End a job: at once where it waits, else within its step or, later, with its process.

        ``patience``: how many seconds a step may take, before its process is ended; None: the
        usual ``CANCEL_SECONDS``.
        """
        if job.ended or job.kill_at is not None:
            return
        if job is not self._jobs[0]:
            self._end(job, {"event": "cancelled"})
            return
        seconds = CANCEL_SECONDS if patience is None else patience
        job.kill_at = time.monotonic() + seconds
        self._send({"do": "cancel", "job": job.number})

    def cancel_all(self) -> None:
        """Cancel every job, the waiting ones first."""
        for job in reversed(list(self._jobs)):
            self.cancel(job)

    def poll(self) -> None:
        """Read what the worker has said and pass it on; never waits."""
        if self._process is None:
            return
        ended = self._process.poll() is not None
        for line in self._lines():
            try:
                event = decode_event(line)
            except ValueError:
                said = line[:60].decode(errors="replace")
                self._fail(
                    UserError(
                        "The synthesis process answered what was not understood",
                        "it was ended, try again",
                        code="worker-answer",
                        detail=repr(said),
                    )
                )
                return
            self._take(event)
            if self._process is None:
                return
        now = time.monotonic()
        job = self._jobs[0] if self._jobs else None
        if job is not None and job.kill_at is not None and now > job.kill_at:
            self._stop_process()
            self._end(job, {"event": "cancelled"})
        elif ended:
            self._process_ended()
        elif not self._ready and now > self._started_at + START_SECONDS:
            self._fail(
                UserError(
                    "The synthesis process was not ready in time",
                    "restart Slicer and try again",
                    code="worker-late",
                    detail=f"{START_SECONDS:.0f} s",
                )
            )

    def rest(self) -> None:
        """End a worker that has nothing to do; the next job starts another."""
        if not self._jobs:
            self._stop_process()

    def close(self) -> None:
        """End all jobs and the worker with its whole process tree, and remove its files."""
        atexit.unregister(self.close)
        self._stop_process()
        while self._jobs:
            self._end(self._jobs[-1], {"event": "cancelled"})

    def _take(self, event: Event) -> None:
        if event["event"] == "ready":
            if event.get("protocol") != PROTOCOL:
                self._fail(
                    UserError(
                        "MedDiffusion was updated while Slicer ran",
                        "restart Slicer",
                        code="worker-updated",
                    )
                )
            self._ready = True
        elif event["event"] == "unusable":
            self._fail(
                UserError(
                    "PyTorch, or another package that synthesis needs, cannot be loaded",
                    "install it anew",
                    code="packages-broken",
                    detail=shortened(str(event.get("message")), _LONGEST_DETAIL),
                )
            )
        elif self._jobs and event.get("job") == self._jobs[0].number:
            job = self._jobs[0]
            job.heard = True
            if event["event"] in ENDINGS:
                self._end(job, event)
            elif job.kill_at is None:
                job.on_event(event)

    def _process_ended(self) -> None:
        code = self._process.returncode if self._process else 0
        reason = self._last_error()
        job = self._jobs[0] if self._jobs else None
        idle_end = code == 0 and job is not None and not job.heard and self._ready
        self._stop_process()
        if idle_end and job is not None:  # it went to rest just when the job came
            job.heard = True
            self._start_job()
        elif job is not None and job.kill_at is not None:
            self._end(job, {"event": "cancelled"})
        elif job is not None:
            killed = code in (-signal.SIGTERM, -9)
            if killed:
                error = UserError(
                    "The synthesis process was ended by the system, most likely for lack of memory",
                    "close other programs or crop the label map",
                    code="worker-memory",
                )
            else:
                error = UserError(
                    "The synthesis process ended unexpectedly",
                    "try again",
                    code="worker-ended",
                    detail=reason or f"exit code {code}",
                )
            self._end(job, {"event": "failed", **put_error(error)})

    def _fail(self, error: UserError) -> None:
        self._stop_process()
        if self._jobs:
            self._end(self._jobs[0], {"event": "failed", **put_error(error)})

    def _end(self, job: Job, event: Event) -> None:
        """Take a job off the queue, start the next, and only then tell."""
        was_first = job is self._jobs[0]
        job.ended = True
        self._jobs.remove(job)
        if was_first and self._jobs:
            self._start_job()
        try:
            job.on_event(event)
        finally:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _start_job(self) -> None:
        job = self._jobs[0]
        try:
            if self.process_id is None:
                self._start_process()
            self._send(job.request)
        except OSError as error:
            self._stop_process()
            failed = UserError(
                "The synthesis process does not start",
                "try again",
                code="worker-start",
                detail=str(error),
            )
            self._end(job, {"event": "failed", **put_error(failed)})

    def _start_process(self) -> None:
        self._stop_process()
        handle, errors = tempfile.mkstemp(prefix="meddiffusion-", suffix=".log", dir=self._folder)
        self._errors = Path(errors)
        with os.fdopen(handle, "wb") as stderr:
            # A session of its own: its whole tree can be ended, as PythonSlicer starts a child.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                env=child_environment(), bufsize=0, start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._ready, self._unread, self._started_at = False, b"", time.monotonic()

    def _stop_process(self) -> None:
        process, self._process, self._unread = self._process, None, b""
        if process is not None:
            end_tree(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        if self._errors is not None:
            self._errors.unlink(missing_ok=True)
            self._errors = None

    def _send(self, request: Event) -> None:
        if self._process is not None and self._process.stdin is not None:
            # Where the pipe is broken, poll finds that the process has ended, and why.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(encode(request))

    def _lines(self) -> list[bytes]:
        """The whole lines that have come."""
        assert self._process is not None and self._process.stdout is not None
        while True:
            try:
                part = os.read(self._process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                break
            if not part:
                break
            self._unread += part
        *lines, self._unread = self._unread.split(b"\n")
        return [line for line in lines if line.strip()]

    def _last_error(self) -> str:
        text = self._errors.read_text(errors="replace") if self._errors else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return shortened(lines[-1], _LONGEST_DETAIL) if lines else ""


def child_environment() -> dict[str, str]:
    """The environment of a process of ours: it finds this library, and writes UTF-8."""
    package_root = Path(__file__).parents[2]
    paths = [str(package_root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}
    wait_passively(environment)
    return environment


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
    process.wait()
