"""Files read within bounds, and written whole or not at all; and the folder that is the user's."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

TEMPORARY = r"\.meddiffusion-[0-9a-f]{16}(\..*)?"
"""What the name of a temporary file is like: no other program's is."""
_CHUNK = 2**20
_LONGEST_SUFFIX = len(".safetensors")
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def user_folder() -> Path | None:
    """The user's folder: ``MEDDIFFUSION_HOME``, or ``.meddiffusion`` in the home folder.

    None where there is no home folder, as in a container whose user is unknown.
    """
    if chosen := os.environ.get("MEDDIFFUSION_HOME"):
        return Path(chosen)
    try:
        return Path.home() / ".meddiffusion"
    except RuntimeError:
        return None


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file (or a link to one) for reading; raises OSError for all else.

    A device has no end, and whoever opens a FIFO may wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes; raises OSError for all else."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
    return content


def refuse_overlap(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Raise UserError for the first path to be written that is a file to be read.

    Also by another name: through a link, or in other letters where the file system takes them for
    the same. What does not exist overlaps with nothing.
    """
    inputs = {_identity(path) for path in read} - {None}
    for path in written:
        if _identity(path) in inputs:
            raise UserError(
                "is read, and would be written over",
                "choose another name for the output",
                path=path,
                code="output-is-input",
            )


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise UserError for the first of the paths that is there, be it a link that leads nowhere."""
    for path in paths:
        if os.path.lexists(path):
            raise UserError(
                "exists",
                "allow it to be replaced, or choose another name",
                path=path,
                code="output-exists",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def file_sha256(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal; raises OSError."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffixes) that replaces it when the block succeeds.

    On any exception, Ctrl-C included, the temporary file is removed and ``path`` is untouched.
    Raises OSError where the folder cannot be written.
    """
    with atomic_together([path]) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """A temporary path beside each path, as :func:`atomic` gives it; all replaced, or none.

    They replace the paths in their order, once all are whole and on the disk.
    """
    with contextlib.ExitStack() as stack:
        temporaries = []
        for path in paths:
            temporary = _temporary(path)
            stack.callback(temporary.unlink, missing_ok=True)
            temporary.touch(exist_ok=False)
            temporaries.append(temporary)
        yield temporaries
        for temporary in temporaries:
            with temporary.open("rb+") as file:
                # A power failure must not leave the name without the content.
                os.fsync(file.fileno())
        with _interrupted_later():
            for temporary, path in zip(temporaries, paths, strict=True):
                temporary.replace(path)


def _temporary(path: Path) -> Path:
    # Writers choose the format by it, in small letters; a long one is none, and the name must not
    # become too long.
    suffixes = "".join(s.lower() for s in path.suffixes[-2:] if len(s) <= _LONGEST_SUFFIX)
    return path.with_name(f".meddiffusion-{secrets.token_hex(8)}{suffixes}")


@contextlib.contextmanager
def _interrupted_later() -> Iterator[None]:
    """Let Ctrl-C wait until a block that takes no time is done."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    for number in pressed[:1]:
        signal.raise_signal(number)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically, UTF-8; raises ValueError for NaN and infinite numbers."""
    text = json_bytes(content)
    with atomic(path) as temporary:
        temporary.write_bytes(text)


def json_bytes(content: Any) -> bytes:
    """Readable JSON in UTF-8; raises ValueError for NaN and infinite numbers."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A name of a file that is not UTF-8 has such characters; they are kept as escapes.
    return text.encode("utf-8", errors="backslashreplace")
