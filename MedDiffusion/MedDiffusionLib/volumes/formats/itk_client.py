"""The reading process as seen from here: started on first need, kept warm, ended when in doubt.

It belongs to processes of Python's: the command, the CLI modules, the worker and scripts. Slicer's
own process, whose interpreter cannot be started again, reads no file by this library.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from .content import MAX_VOXELS

_LONGEST_REPLY = 2**16
_KILLED = -getattr(signal, "SIGKILL", 0) or None
"""The return code of a process that the system ended, for lack of memory."""
_ONE_THREAD = dict.fromkeys(
    ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)
"""Reading takes one; each other one would take address space, which is limited."""
_PACKAGE_FOLDER = Path(__file__).parents[3]
"""From where the library can be imported. The process works in there, so that no file of the
user's current folder is taken for a Python module."""

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def ask(request: dict[str, Any], path: Path) -> tuple[dict[str, Any], NDArray | None]:
    """What the reading process says to a request (see :mod:`.itk_process`), and the voxels.

    There are none where it says that a file is ``damaged``. Raises UserError that names ``path``
    where there is no such process, or for what it refuses; ValueError, EOFError or OSError where
    the process did not survive the file.
    """
    with _lock:
        process = _running(path)
        try:
            facts, array = _answer(process, request)
        except BaseException as error:
            # Whatever is left in the pipes would be taken for the next answer.
            end()
            if process.returncode == _KILLED and isinstance(error, EOFError):
                raise UserError(
                    "cannot be read in the free memory of this machine",
                    "close other programs, or crop it",
                    path=path,
                    code="out-of-memory",
                ) from error
            raise
    if "refused" in facts:
        raise UserError(*facts["refused"], path=path)
    return facts, array


def end() -> None:
    """End the reading process if there is one; the next file gets another."""
    global _process
    process, _process = _process, None
    if process is not None:
        _end(process)


def _forget() -> None:
    """A fork has a reading process of its own: this one's answers would go to both."""
    global _process, _lock
    _process, _lock = None, threading.Lock()


atexit.register(end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _running(path: Path) -> subprocess.Popen[bytes]:
    """The reading process, started where it is not running."""
    global _process
    if _process is None or _process.poll() is not None:
        end()
        _process = _started(path)
    return _process


def _started(path: Path) -> subprocess.Popen[bytes]:
    command = [_python(path), "-m", f"{__package__}.itk_process"]
    paths = [str(_PACKAGE_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_PACKAGE_FOLDER,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise _unstartable(error.strerror or "no reason is known", path) from error
    try:
        _said(process)
    except BaseException as error:
        _end(process)
        if isinstance(error, EOFError):
            raise _unstartable("SimpleITK cannot be loaded", path) from error
        raise
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()


def _python(path: Path) -> str:
    """The interpreter that runs this, or the one beside a program that has Python within."""
    own = sys.executable or ""
    python = own if Path(own).name.lower().startswith("py") else shutil.which("PythonSlicer")
    if not python:
        raise _unstartable("there is no Python interpreter beside this program", path)
    return python


def _unstartable(why: str, path: Path) -> UserError:
    return UserError(
        f"cannot be read, since the process that reads it does not start ({why})",
        "close other programs, or install SimpleITK again",
        path=path,
        code="reading-process",
    )


def _answer(
    process: subprocess.Popen[bytes], request: dict[str, Any]
) -> tuple[dict[str, Any], NDArray | None]:
    """The answer to a request; the voxels come straight into the array that they are for."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    facts = _said(process)
    if "dtype" not in facts:
        return facts, None
    if math.prod(facts["shape"]) > MAX_VOXELS:
        raise ValueError("more voxels than any file may have")
    array = np.empty(facts["shape"], np.dtype(facts["dtype"]))
    rest = memoryview(array).cast("B")
    while rest:
        count = process.stdout.readinto(rest)  # type: ignore[union-attr]
        if not count:
            raise EOFError("the reading process ended")
        rest = rest[count:]
    return facts, array


def _said(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline(_LONGEST_REPLY)
    if not line.endswith(b"\n"):
        raise EOFError("the reading process ended")
    said: dict[str, Any] = json.loads(line)
    return said
