"""NRRD, by ITK in the reading process; its header is looked at here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...compute.errors import UserError
from ...compute.files import open_regular
from ...compute.parsing import parse_integer, parse_number, shortened
from .content import Content, check_shape, unusable_origin, unusable_spacing
from .itk import Promise, read_itk
from .stored import GZIP_MAGIC, MAX_HEADER_BYTES, check_deflated, check_stored, data_beside

_SPATIAL_AXES = 3
_MAX_FIELDS = 10_000
_MAX_SEGMENTS = 256
_VOXEL_BYTES = {
    name: size
    for size, names in {
        1: "signed char,int8,int8_t,uchar,unsigned char,uint8,uint8_t",
        2: "short,short int,signed short,signed short int,int16,int16_t,"
        "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        4: "int,signed int,int32,int32_t,uint,unsigned int,uint32,uint32_t,float",
        8: "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t,"
        "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t,double",
    }.items()
    for name in names.split(",")
}
_MILLIMETRES = {"", "mm", "millimeter", "millimeters", "millimetre", "millimetres", "???"}
_ALONG_SPACE = {"", "domain", "space", "time", "???", "none"}
"""Kinds of axes along which voxels lie; along others lie the several values of a voxel."""
_ALIASES = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}

Fields = dict[str, str]


def read_nrrd(path: Path) -> Content:
    """An NRRD file; refuses what SimpleITK mends or guesses in silence.

    Raises UserError for a size, spacing or unit that is none, ValueError or EOFError for a damaged
    file, and what :func:`read_itk` raises.
    """
    with open_regular(path) as file:
        fields, metadata, end = _header(file.read(MAX_HEADER_BYTES))
        sizes = _sizes(fields)
        _check_segments(metadata, path)
        _check_shape(sizes, fields.get("kinds", "").split(), "Segment0_ID" in metadata, path)
        _check_spacings(fields, path)
        _check_units(fields, path)
        name = fields.get("data file", "")
        if not name:
            file.seek(end)
            needed = _check_voxels(fields, sizes, file)
            return read_itk(path, "NrrdImageIO", Promise(needed, None, metadata))
    data = data_beside(path, name)
    with open_regular(data) as file:
        needed = _check_voxels(fields, sizes, file)
    return read_itk(path, "NrrdImageIO", Promise(needed, data, metadata))


def _header(content: bytes) -> tuple[Fields, dict[str, str], int]:
    """The header's fields, by lower-case name; its metadata; where the voxels may begin."""
    if not content.startswith(b"NRRD"):
        raise ValueError("no NRRD header")
    blank = re.search(rb"\n\r?\n", content)
    if blank is None and len(content) == MAX_HEADER_BYTES:
        raise ValueError("the header does not end")
    end = blank.end() if blank else len(content)
    lines = content[:end].splitlines()
    fields: Fields = {}
    metadata: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith(b"#") or not line:
            continue
        key, separator, value = line.partition(b":=")
        if separator:
            metadata[key.decode("utf-8", "replace")] = _unescaped(value.decode("utf-8", "replace"))
            continue
        key, _, value = line.partition(b":")
        name = os.fsdecode(key.strip()).lower()
        fields[_ALIASES.get(name, name)] = os.fsdecode(value.strip())
    return fields, metadata, end


def _sizes(fields: Fields) -> tuple[int, ...]:
    sizes = tuple(parse_integer(word) for word in fields["sizes"].split())
    if len(sizes) != parse_integer(fields["dimension"]) or min(sizes) < 1:
        raise ValueError("no sizes")
    return sizes


def _unescaped(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda match: "\n" if match[1] == "n" else "\\", text)


def _check_segments(metadata: dict[str, str], path: Path) -> None:
    count = sum(bool(re.fullmatch(r"Segment\d+_ID", key)) for key in metadata)
    if count > _MAX_SEGMENTS:
        raise UserError(
            f"has {count:,} segments", f"give at most {_MAX_SEGMENTS}, or a label map", path=path
        )
    if len(metadata) > _MAX_FIELDS:
        raise ValueError("the header has too many fields")


def _check_shape(sizes: tuple[int, ...], kinds: list[str], has_segments: bool, path: Path) -> None:
    if len(kinds) != len(sizes):
        kinds = [""] * len(sizes)
    shape = tuple(n for n, kind in zip(sizes, kinds, strict=True) if kind.lower() in _ALONG_SPACE)
    several = math.prod(sizes) // math.prod(shape)
    if several > 1 and not has_segments:
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    check_shape(shape, path, several)


def _check_spacings(fields: Fields, path: Path) -> None:
    for spacings in _spacings(fields):
        # Undefined is the spacing of an axis that is not one of space, such as that of layers.
        undefined = sum(map(math.isnan, spacings))
        if undefined > max(0, len(spacings) - _SPATIAL_AXES):
            raise unusable_spacing(path)
        if any(spacing <= 0 or math.isinf(spacing) for spacing in spacings):
            raise unusable_spacing(path)
    try:
        list(map(parse_number, re.findall(r"[^\s(),]+", fields.get("space origin", ""))))
    except ValueError as error:
        raise unusable_origin(path) from error


def _spacings(fields: Fields) -> Iterator[list[float]]:
    """The spacing of each axis that has one, by each of the two fields that give spacings."""
    if "spacings" in fields:
        yield [float(word) for word in fields["spacings"].split()]
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
        yield [math.hypot(*map(float, vector.split(","))) for vector in vectors]


def _check_units(fields: Fields, path: Path) -> None:
    for name in ("space units", "units"):
        for unit in re.findall(r'"([^"]*)"', fields.get(name, "")):
            if unit.strip().lower() not in _MILLIMETRES:
                raise UserError(f"has its spacing in {shortened(unit)}", "save it in mm", path=path)


def _check_voxels(fields: Fields, sizes: tuple[int, ...], file: BinaryIO) -> int:
    """The bytes that the voxels need, compared with what is stored from the file's place on."""
    count = math.prod(sizes)
    needed = count * _VOXEL_BYTES[fields["type"].lower()]
    stored = os.fstat(file.fileno()).st_size - file.tell()
    encoding = fields["encoding"].lower()
    skipped = parse_integer(fields.get("byte skip", "0"))
    lines = parse_integer(fields.get("line skip", "0"))
    if not 0 <= lines <= _MAX_FIELDS or skipped < -1:
        raise ValueError("the voxels begin nowhere")
    if encoding == "raw":
        if lines or skipped == -1:
            # The voxels are the end of the file, or begin somewhere in it.
            stored, skipped = min(stored, needed), 0
        check_stored(stored, needed + skipped)
    elif encoding in ("gzip", "gz"):
        # What is not packed ITK takes as it is.
        if not lines and file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
            raise ValueError("the voxels are not packed")
        check_deflated(stored, needed)
    elif encoding in ("ascii", "text", "txt", "hex"):
        # A digit, and a space between two numbers; two hexadecimal digits a byte.
        least = 2 * needed if encoding == "hex" else 2 * count - 1
        check_stored(min(stored, least), least)
    else:
        raise ValueError("an encoding that is not known")
    return needed
