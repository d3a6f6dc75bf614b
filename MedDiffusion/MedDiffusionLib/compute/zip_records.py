"""The records of a zip file in which nothing is compressed: names, places and sizes checked.

Python's zipfile module reads the directory; what the directory says is believed only as far as the
local headers and the file's length agree, and as no record lies over another.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from .files import open_regular
from .parsing import shortened

MOST_READ = 2**20
"""Bytes read at once; the directory of a checkpoint is far smaller."""
_LOCAL = struct.Struct("<4s5H3I2H")
"""A local header (APPNOTE.TXT, 4.3.7)."""
ENCRYPTED = 0x1 | 0x40 | 0x2000
_LONGEST_NAME = 512
DAMAGE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError, struct.error,
    zlib.error,
)  # fmt: skip
"""What the zip module raises, beside ValueError, at files that are not as they should be."""


class Bounded(io.BufferedReader):
    """A file of which no more than some bytes are read at once, whatever is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        asked = MOST_READ if size is None or size < 0 else size
        return super().read(min(asked, MOST_READ))


@dataclass(frozen=True)
class ZipRecord:
    """Where a record's bytes lie in the file, and their CRC-32."""

    name: str
    start: int
    size: int
    crc: int

    def read(self, file: BinaryIO) -> bytearray:
        """The bytes; raises ValueError where they are not what they were."""
        file.seek(self.start)
        content = bytearray(file.read(self.size))
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise ValueError(f"its record {shortened(self.name)} is damaged (wrong CRC)")
        return content


def read_records(path: Path, look: Callable[[Sequence[str]], None]) -> list[ZipRecord]:
    """All records of a zip file, each of them read once against its CRC.

    ``look`` is shown the names that the directory has before all else, and may raise. Raises
    OSError, and ValueError with a clause for a file that is not whole, or has compressed,
    encrypted, repeated, overlapping or oddly named records.
    """
    # The zip module reads the directory at once, however large it says that it is.
    raw = cast(io.BufferedReader, open_regular(path)).detach()
    with Bounded(raw) as file:
        length = file.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(cast(BinaryIO, file)) as archive:
                entries = archive.infolist()
                look([entry.orig_filename for entry in entries])
                records = [_record(file, entry) for entry in entries]
                end = archive.start_dir
        except DAMAGE as error:
            raise ValueError(f"it is no whole zip file: {shortened(str(error))}") from error
        _check_places(records, min(end, length))
        for record in records:
            _check_crc(file, record)
    return records


def _record(file: BinaryIO, entry: zipfile.ZipInfo) -> ZipRecord:
    """The record of an entry of the directory; raises ValueError unless its header agrees."""
    shown = shortened(entry.orig_filename)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"its record {shown} is compressed, which torch.save never does")
    if entry.flag_bits & ENCRYPTED:
        raise ValueError(f"its record {shown} is encrypted")
    parts = entry.orig_filename.split("/")
    odd = any(part in ("", ".", "..") for part in parts) or not entry.orig_filename.isprintable()
    if odd or "\\" in entry.orig_filename or len(entry.orig_filename) > _LONGEST_NAME:
        raise ValueError(f"it has a record of the odd name {shown}")
    file.seek(entry.header_offset)
    signature, _, _, method, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    text = "utf-8" if entry.flag_bits & 0x800 else "cp437"
    name = file.read(name_length).decode(text, errors="replace")
    if (signature, method, name) != (b"PK\x03\x04", zipfile.ZIP_STORED, entry.orig_filename):
        raise ValueError(f"its record {shown} is not where the directory says")
    start = entry.header_offset + _LOCAL.size + name_length + extra_length
    return ZipRecord(entry.orig_filename, start, entry.file_size, entry.CRC)


def _check_places(records: list[ZipRecord], end: int) -> None:
    """Raise ValueError for records of one name, over each other, or outside of the file."""
    if len({record.name for record in records}) != len(records):
        raise ValueError("it has two records of one name")
    free = 0
    for record in sorted(records, key=lambda record: record.start):
        if record.start < free or record.start + record.size > end:
            raise ValueError(f"its record {shortened(record.name)} is not within the file")
        free = record.start + record.size


def _check_crc(file: BinaryIO, record: ZipRecord) -> None:
    file.seek(record.start)
    crc, left = 0, record.size
    while left and (part := file.read(min(left, MOST_READ))):
        crc, left = zlib.crc32(part, crc), left - len(part)
    if left or crc != record.crc:
        raise ValueError(f"its record {shortened(record.name)} is damaged (wrong CRC)")
