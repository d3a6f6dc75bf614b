"""MetaImage, by ITK in the reading process; its header is looked at here."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import BinaryIO

from ...compute.errors import UserError
from ...compute.files import open_regular
from ...compute.parsing import parse_integer, parse_number
from .content import Content, check_shape, unusable_origin, unusable_spacing
from .itk import Promise, read_itk
from .stored import (
    MAX_HEADER_BYTES,
    check_deflated,
    check_inflated,
    check_stored,
    data_beside,
)

_VOXEL_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG", "MET_ULONG"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
_POSITIONS = ("Offset", "Origin", "Position", "TransformMatrix", "Rotation", "Orientation")
_LAST = "ElementDataFile"
"""The header's last field: the voxels follow it, or are in the file that it names."""

Fields = dict[str, str]


def read_metaimage(path: Path) -> Content:
    """A MetaImage file; refuses what SimpleITK mends or guesses in silence.

    Raises UserError for a size or spacing that is none, ValueError, EOFError or zlib.error for
    damaged voxels, and what :func:`read_itk` raises.
    """
    with open_regular(path) as file:
        fields = _fields(file)
        size = _size(fields)
        channels = parse_integer(fields.get("ElementNumberOfChannels", "1"))
        if channels != 1:
            raise UserError(
                "has several values per voxel", "give one scalar volume per file", path=path
            )
        check_shape(size, path)
        _check_numbers(fields, len(size), path)
        needed = math.prod(size) * _VOXEL_BYTES[fields["ElementType"]]
        name = fields[_LAST]
        if name.upper() == "LOCAL":
            _check_voxels(fields, file, needed)
            return read_itk(path, "MetaImageIO", Promise(needed))
    data = data_beside(path, name)
    with open_regular(data) as file:
        _check_voxels(fields, file, needed)
    return read_itk(path, "MetaImageIO", Promise(needed, data))


def _fields(file: BinaryIO) -> Fields:
    """The header's fields; the file is left where voxels would follow."""
    content = file.read(MAX_HEADER_BYTES)
    last = re.search(rb"^[ \t]*" + _LAST.encode() + rb"[ \t]*[=:]([^\n]*)\n?", content, re.M)
    if last is None:
        raise ValueError("no MetaImage header")
    file.seek(last.end())
    fields = {}
    for line in content[: last.start()].splitlines():
        key, value = re.fullmatch(rb"([^=:]*)[=:]?(.*)", line, re.S).groups()  # type: ignore[union-attr]
        fields[os.fsdecode(key.strip())] = os.fsdecode(value.strip())
    return {**fields, _LAST: os.fsdecode(last[1].strip())}


def _size(fields: Fields) -> tuple[int, ...]:
    size = tuple(parse_integer(word) for word in fields.get("DimSize", "").split())
    if not size or len(size) != parse_integer(fields.get("NDims", "")) or min(size) < 1:
        raise ValueError("no sizes")
    return size


def _check_numbers(fields: Fields, axes: int, path: Path) -> None:
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize") or " ".join("1" * axes)
    numbers = [parse_number(word) for word in spacing.split()]
    if len(numbers) < axes or min(numbers) <= 0:
        raise unusable_spacing(path)
    try:
        for name in _POSITIONS:
            list(map(parse_number, fields.get(name, "").split()))
    except ValueError as error:
        raise unusable_origin(path) from error


def _check_voxels(fields: Fields, file: BinaryIO, needed: int) -> None:
    """Compare what is stored from a file's current place on with what the voxels need."""
    if not _is_true(fields.get("BinaryData", "True")):
        raise ValueError("voxels as text")
    stored = os.fstat(file.fileno()).st_size - file.tell()
    header = parse_integer(fields.get("HeaderSize", "0"))
    if _is_true(fields.get("CompressedData", "False")):
        check_deflated(stored, needed)
        check_inflated(file, needed)
    elif header < 0:
        # The voxels are the end of the file, whatever comes before.
        check_stored(min(stored, needed), needed)
    else:
        check_stored(stored, header + needed)


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")
