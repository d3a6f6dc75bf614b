"""Headers of MGH, GIPL and MetaImage files, and the voxels behind any such header.

They are parsed here, not by SimpleITK, because headers must be checked before memory is allocated,
and because SimpleITK reports success on cut or corrupt files of these formats (and of NIfTI, see
:mod:`nifti`) and fills what is missing with zeros or noise.

All functions raise ValueError, EOFError, OSError or zlib.error for what is damaged, and UserError
for what is sound but of no use here.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UserError
from .volume import LPS_TO_RAS

_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_OR_GZIP = 47
_CHUNK = 2**20

_MGH = np.dtype([
    ("version", ">i4"), ("shape", ">i4", (4,)), ("type", ">i4"), ("dof", ">i4"),
    ("has_geometry", ">i2"), ("spacing", ">f4", (3,)), ("axes", ">f4", (3, 3)),
    ("centre", ">f4", (3,)),
])  # fmt: skip
_MGH_OFFSET = 284
_MGH_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}

_GIPL = np.dtype([
    ("shape", ">u2", (4,)), ("type", ">u2"), ("spacing", ">f4", (4,)), ("text", "S80"),
    ("matrix", ">f4", (20,)), ("flags", "u1", (2,)), ("range", ">f8", (2,)),
    ("origin", ">f8", (4,)), ("calibration", ">f4", (4,)), ("magic", ">u4"),
])  # fmt: skip
_GIPL_MAGIC = (719555000, 4026526128)
_GIPL_TYPES = {7: ">i1", 8: ">u1", 15: ">i2", 16: ">u2", 31: ">u4", 32: ">i4", 64: ">f4", 65: ">f8"}

_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_META_MAX_LINE = 2**16
_META_MAX_LINES = 1000


@dataclass(frozen=True)
class Header:
    """What a file says of its volume before any voxel is read.

    ``shape`` is i, j, k and any further axes; ``affine`` is 4 x 4, RAS, in mm. A value is the
    stored number times ``slope`` plus ``intercept``. Voxels start at byte ``offset`` of the opened
    file or of the separate file ``data``; ``deflated`` voxels are one zlib stream.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    dtype: np.dtype
    offset: int
    slope: float = 1.0
    intercept: float = 0.0
    data: Path | None = None
    deflated: bool = False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed where it is a gzip file, whatever its name says."""
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if compressed else file


def read_voxels(stream: BinaryIO, header: Header) -> NDArray:
    """The voxels ``[i, j, k]`` behind a header, complete or an exception."""
    if header.data is None:
        content = _voxel_bytes(stream, header)
    else:
        with opened(header.data) as data:
            content = _voxel_bytes(data, header)
    stored = np.frombuffer(content, header.dtype).reshape(header.shape[:3], order="F")
    stored = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return stored * header.slope + header.intercept


def affine_from(
    axes: NDArray, spacing: ArrayLike, origin: ArrayLike, path: Path
) -> NDArray[np.float64]:
    """The affine of unit axes (columns), voxel edge lengths and the centre of the first voxel.

    Raises UserError for a spacing that is not positive: from the affine it could not be told.
    """
    if not (np.asarray(spacing) > 0).all():
        raise UserError(
            f"{path} has a zero, negative or undefined voxel spacing: correct its header."
        )
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, float) * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return affine


def no_geometry(path: Path) -> UserError:
    """For a file without axes: programs disagree on its left and right, front and back."""
    return UserError(
        f"{path} does not say how it lies in the body: open it in 3D Slicer, check left and right, "
        "and save it again."
    )


def record(stream: BinaryIO, layout: np.dtype) -> np.void:
    """The binary header of this layout at the start of the stream."""
    content = stream.read(layout.itemsize)
    if len(content) < layout.itemsize:
        raise EOFError("the header is cut off")
    return cast(np.void, np.frombuffer(content, layout)[0])


def mgh_header(stream: BinaryIO, path: Path) -> Header:
    """The header of a FreeSurfer .mgh or .mgz file."""
    fields = record(stream, _MGH)
    if fields["version"] != 1 or int(fields["type"]) not in _MGH_TYPES:
        raise ValueError("no MGH header")
    shape = tuple(int(n) for n in fields["shape"])
    shape = shape[:3] if shape[3] == 1 else shape
    if fields["has_geometry"] != 1:
        raise no_geometry(path)
    affine = affine_from(fields["axes"].T, fields["spacing"], np.zeros(3), path)
    affine[:3, 3] = fields["centre"] - affine[:3, :3] @ (np.array(shape[:3]) / 2)
    return Header(shape, affine, np.dtype(_MGH_TYPES[int(fields["type"])]), _MGH_OFFSET)


def gipl_header(stream: BinaryIO, path: Path) -> Header:
    """The header of a GIPL file; its axes are taken for left, posterior, superior as ITK does."""
    fields = record(stream, _GIPL)
    if fields["magic"] not in _GIPL_MAGIC or int(fields["type"]) not in _GIPL_TYPES:
        raise ValueError("no GIPL header")
    shape = tuple(int(n) for n in fields["shape"])
    shape = shape[:3] if shape[3] <= 1 else shape
    origin = LPS_TO_RAS @ fields["origin"][:3]
    affine = affine_from(LPS_TO_RAS, fields["spacing"][:3], origin, path)
    return Header(shape, affine, np.dtype(_GIPL_TYPES[int(fields["type"])]), _GIPL.itemsize)


def metaimage_header(stream: BinaryIO, path: Path) -> Header:
    """The header of a .mha or .mhd file whose voxels are binary and lie in one file."""
    fields = _metaimage_fields(stream)
    _check_metaimage_layout(fields, path)
    shape = tuple(int(n) for n in fields["DimSize"].split())
    size = len(shape)
    if size != int(fields["NDims"]):
        raise ValueError("DimSize does not fit NDims")
    spacing = _numbers(fields, "ElementSpacing ElementSize", np.ones(size))
    origin = _numbers(fields, "Offset Origin Position", np.zeros(size))
    # One line of the matrix is one axis.
    matrix = _numbers(fields, "TransformMatrix Orientation Rotation", np.eye(size).ravel())
    if size >= 3:
        axes = LPS_TO_RAS @ matrix.reshape(size, size).T[:3, :3]
        affine = affine_from(axes, spacing[:3], LPS_TO_RAS @ origin[:3], path)
    else:
        affine = np.eye(4)
    big = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    dtype = np.dtype(("<", ">")[big] + _META_TYPES[fields["ElementType"]])
    where = fields["ElementDataFile"]
    local = where.upper() == "LOCAL"
    return Header(
        shape=shape[:3] if size == 4 and shape[3] == 1 else shape,
        affine=affine,
        dtype=dtype,
        offset=stream.tell() if local else 0,
        data=None if local else path.parent / where,
        deflated=_flag(fields, "CompressedData"),
    )


def _voxel_bytes(stream: BinaryIO, header: Header) -> bytes:
    count = math.prod(header.shape[:3]) * header.dtype.itemsize
    stream.seek(header.offset)
    if header.deflated:
        inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
        content = inflater.decompress(stream.read(), count)
        # Only the end of the stream carries its checksum.
        inflater.decompress(inflater.unconsumed_tail, 1)
        complete = len(content) == count and inflater.eof
    else:
        content = stream.read(count)
        # Reading on to the end lets gzip verify its checksum.
        while stream.read(_CHUNK):
            pass
        complete = len(content) == count
    if not complete:
        raise EOFError("voxels are missing")
    return content


def _metaimage_fields(stream: BinaryIO) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_META_MAX_LINES):
        line = stream.readline(_META_MAX_LINE).decode("utf-8", "replace")
        key, separator, value = line.partition("=")
        if not separator:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields
    raise ValueError("no MetaImage header")


def _check_metaimage_layout(fields: dict[str, str], path: Path) -> None:
    missing = {"NDims", "DimSize", "ElementType"} - fields.keys()
    if missing:
        raise ValueError(f"the header lacks {missing}")
    if int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise UserError(f"{path} has several values per voxel: give one scalar volume per file.")
    where = fields["ElementDataFile"]
    several = where.startswith("LIST") or "%" in where
    text = not _flag(fields, "BinaryData", default=True)
    if several or text or int(fields.get("HeaderSize", "0")):
        raise UserError(
            f"{path} keeps its voxels in several files, as text or behind a foreign header: save "
            "it again as one .mha or .nrrd file."
        )


def _numbers(fields: dict[str, str], keys: str, default: NDArray) -> NDArray[np.float64]:
    for key in keys.split():
        if key in fields:
            numbers = np.array(fields[key].split(), float)
            if numbers.size != default.size:
                raise ValueError(f"{key} does not fit NDims")
            return numbers
    return default


def _flag(fields: dict[str, str], key: str, default: bool = False) -> bool:
    return fields[key].lower() in ("true", "1") if key in fields else default
