"""Starts commands: by a fork of this process, which has imported what they need, or as programs.

It reads requests from its standard input, a JSON object a line, and answers each with the process
that it started, and later with how that ended. It never computes anything itself: threads and locks
of a library at work would not survive a fork.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import signal
import sys
import traceback
from typing import Any, NoReturn

MODULES = (
    "nibabel",
    "SimpleITK",
    "torch.optim",
    "MedDiffusionLib.commands.cli",
    "MedDiffusionLib.synthesis.batch",
    "MedDiffusionLib.synthesis.synthesizer",
    "MedDiffusionLib.bundles.shape_model",
    "MedDiffusionLib.volumes.preview",
    "MedDiffusionLib.training.request",
)


def serve() -> None:
    """Answer requests until the standard input ends."""
    for module in MODULES:
        __import__(module)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    _answer({"ready": True})
    pending, running = b"", set[int]()
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(running)
        if 0 in ready:
            content = os.read(0, 65536)
            if not content:
                # Whoever asked is gone: nothing runs on.
                for pid in running:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                return
            *lines, pending = (pending + content).split(b"\n")
            for line in lines:
                pid = _start(json.loads(line))
                running.add(pid)
                _answer({"started": pid})


def _answer(content: dict[str, Any]) -> None:
    os.write(1, (json.dumps(content) + "\n").encode())


def _reap(running: set[int]) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        running.discard(pid)
        _answer({
            "ended": pid,
            "code": os.waitstatus_to_exitcode(status),
            "kib": usage.ru_maxrss,
            "cpu": usage.ru_utime + usage.ru_stime,
        })  # fmt: skip


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become(request)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    return pid


def _become(request: dict[str, Any]) -> NoReturn:
    """The child: its surroundings, then the command; never returns."""
    signal.set_wakeup_fd(-1)
    # As a shell's foreground job has them.
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.umask(0o022)
    os.chdir(request["folder"])
    _redirect(request["streams"])
    if "file_bytes" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (request["address_bytes"],) * 2)
    if user := request.get("user"):
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if program := request.get("program"):
        os.execve(program[0], [*program, *_words(request)], request["environment"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _run([os.fsdecode(word) for word in _words(request)])


def _words(request: dict[str, Any]) -> list[bytes]:
    """The arguments; JSON carries names that are not UTF-8 as Python's escapes."""
    return [os.fsencode(word) for word in request["arguments"]]


def _redirect(streams: list[str | None]) -> None:
    """Give the child its standard streams: a path each, or None for a closed one."""
    modes = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
    for number, (path, mode) in enumerate(zip(streams, modes, strict=True)):
        os.close(number)
        if path is not None:
            opened = os.open(path, mode)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(opened, number)
                os.close(opened)


def _run(words: list[str]) -> NoReturn:
    """As the interpreter does with the installed command, up to its end."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        file = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(number, "w")), before.encoding, before.errors,
            line_buffering=name == "stderr",
        )  # fmt: skip
        setattr(sys, name, file)
    sys.argv = ["meddiffusion", *words]
    from MedDiffusionLib.__main__ import main

    code: Any = 1
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    serve()
