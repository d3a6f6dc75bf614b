"""What a file stores, looked at within bounds before any library reads it.

A header says how many bytes the voxels take; what the file has is compared with that, so that
neither a damaged nor a hostile file takes memory or time for what is not there.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from ...compute.files import open_regular

MAX_HEADER_BYTES = 2**22
"""Of a header that is text."""
_DEFLATE_RATIO = 1032
"""The most bytes that one byte of a deflate stream becomes."""
_SLACK = 2**16
"""Bytes that may follow the voxels: padding, a line end."""
_CHUNK = 2**18
GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_OR_GZIP = 47
"""Window bits that let zlib take either kind of stream."""


@contextmanager
def open_stored(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """A regular file's content, unpacked where it is gzip, and whether it is; raises OSError."""
    with open_regular(path) as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        if packed:
            with _Unpacked(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked), True
        else:
            yield file, False


class _Unpacked(gzip.GzipFile):
    def readinto(self, buffer: Any) -> int:
        """Fill a buffer in parts; gzip's own way holds all of it a second time."""
        view = memoryview(buffer).cast("B")
        done = 0
        while part := self.read(min(len(view) - done, _CHUNK)):
            view[done : done + len(part)] = part
            done += len(part)
        return done


def check_stored(stored: int, needed: int) -> None:
    """Raise EOFError for fewer bytes than voxels need, ValueError for many more."""
    if stored < needed:
        raise EOFError("voxels are missing")
    if stored > needed + _SLACK:
        raise ValueError("there are more voxels than the sizes say")


def check_deflated(stored: int, needed: int) -> None:
    """Raise EOFError where so few bytes cannot be unpacked to as many as are needed."""
    if stored * _DEFLATE_RATIO < needed:
        raise EOFError("voxels are missing")


def check_inflated(file: IO[bytes], needed: int) -> None:
    """Raise unless the rest of a file is a whole zlib or gzip stream of the bytes needed.

    EOFError where it is cut, ValueError where it holds more, zlib.error where it is corrupt. No
    more than the bytes needed is unpacked, and nothing of it is kept.
    """
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    unpacked = 0
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(_CHUNK)):
        unpacked += len(inflater.decompress(chunk, _CHUNK))
        if unpacked > needed + _SLACK:
            raise ValueError("there are more voxels than the sizes say")
    if not inflater.eof or unpacked < needed:
        raise EOFError("the compressed voxels are cut off")


def skip(file: IO[bytes], needed: int) -> None:
    """Read so many bytes and keep none; raises EOFError where there are fewer."""
    while needed > 0:
        count = len(file.read(min(needed, _CHUNK)))
        if count == 0:
            raise EOFError("voxels are missing")
        needed -= count


def data_beside(header: Path, name: str) -> Path:
    """The path of the voxels' file that a header names; raises ValueError unless it lies with it.

    A header that came from elsewhere must not make other files of this machine into a volume:
    neither by an absolute name, nor by ``..``, nor by a link that leads out of its folder.
    """
    folder = Path(os.path.realpath(header.parent))
    path = header.parent / name
    if not name or not Path(os.path.realpath(path)).is_relative_to(folder):
        raise ValueError("the voxels are not beside their header")
    return path
