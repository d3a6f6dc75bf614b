"""MetaImage, by SimpleITK."""

from __future__ import annotations

import zlib
from pathlib import Path

from .content import Content, unusable_spacing
from .itk import read_itk

_ZLIB_OR_GZIP = 47
"""Window bits that let zlib take either kind of stream."""


def read_metaimage(path: Path) -> Content:
    """A MetaImage file; refuses what SimpleITK mends in silence.

    Raises UserError for a spacing that is not positive, ValueError, EOFError or zlib.error for
    damaged voxels, and what :func:`read_itk` raises.
    """
    fields, data = _parts(path)

    def check(voxel_bytes: int) -> None:
        _check_spacing(fields, path)
        _check_voxels(fields, data, voxel_bytes)

    return read_itk(path, check)


def _parts(path: Path) -> tuple[dict[str, list[str]], bytes]:
    """The header's fields, each split into words, and the voxels as they are stored."""
    text, separator, rest = path.read_bytes().partition(b"ElementDataFile")
    where, _, data = rest.partition(b"\n")
    if not separator:
        raise ValueError("no MetaImage header")
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    fields = {key.strip(): value.split() for key, _, value in lines}
    if not fields.get("DimSize"):
        raise ValueError("no sizes")
    name = where.decode("utf-8").strip(" =\r")
    return fields, data if name == "LOCAL" else (path.parent / name).read_bytes()


def _check_spacing(fields: dict[str, list[str]], path: Path) -> None:
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize") or ["1"]
    if min(map(float, spacing)) <= 0:
        raise unusable_spacing(path)


def _check_voxels(fields: dict[str, list[str]], data: bytes, voxel_bytes: int) -> None:
    if fields.get("BinaryData", ["True"])[0].lower() not in ("true", "1"):
        raise ValueError("voxels as text")
    if fields.get("CompressedData", [""])[0].lower() in ("true", "1"):
        inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
        data = inflater.decompress(data)
        if not inflater.eof:
            raise EOFError("the compressed voxels are cut off")
    if len(data) < voxel_bytes:
        raise EOFError("voxels are missing")
