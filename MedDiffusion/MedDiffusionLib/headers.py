"""Headers of single-file volumes (MGH, GIPL, MetaImage) and the voxels behind any such header.

Headers are parsed here rather than by a library because they must be checked before memory is
allocated, and because SimpleITK fills what a cut or corrupt file lacks with zeros or noise and
reports success. All functions raise ValueError for a damaged header or file, and UserError for
one that is sound but cannot be used.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from .errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
_ANY_ZLIB_WRAPPER = 47
_CHUNK = 2**20
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

_MGH = np.dtype(
    [
        ("version", ">i4"),
        ("dims", ">i4", (4,)),
        ("type", ">i4"),
        ("dof", ">i4"),
        ("good_ras", ">i2"),
        ("delta", ">f4", (3,)),
        ("axes", ">f4", (3, 3)),
        ("centre", ">f4", (3,)),
    ]
)
_MGH_OFFSET = 284
_MGH_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_MGH_DEFAULT_AXES = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])

_GIPL = np.dtype(
    [
        ("dims", ">u2", (4,)),
        ("type", ">u2"),
        ("spacing", ">f4", (4,)),
        ("text", "S80"),
        ("matrix", ">f4", (20,)),
        ("flags", "u1", (2,)),
        ("range", ">f8", (2,)),
        ("origin", ">f8", (4,)),
        ("calibration", ">f4", (4,)),
        ("magic", ">u4"),
    ]
)
_GIPL_MAGIC = (719555000, 4026526128)
_GIPL_TYPES = {
    7: ">i1",
    8: ">u1",
    15: ">i2",
    16: ">u2",
    31: ">u4",
    32: ">i4",
    64: ">f4",
    65: ">f8",
}

_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_META_MAX_LINES = 10_000


@dataclass(frozen=True)
class Header:
    """What a file says of its volume before any voxel is read.

    ``shape`` is i, j, k and any further axes, ``affine`` 4 x 4 RAS in mm. Values are ``slope``
    times the stored number plus ``intercept``. Voxels start at byte ``offset`` of the opened
    file, or of the separate file ``data``; ``deflated`` voxels are one zlib stream.
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
    """The voxels ``[i, j, k]`` behind a header, scaled; read-only where the file is not scaled."""
    if header.data is not None:
        with opened(header.data) as data:
            content = _voxel_bytes(data, header)
    else:
        content = _voxel_bytes(stream, header)
    stored = np.frombuffer(content, header.dtype).reshape(header.shape[:3], order="F")
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return stored * header.slope + header.intercept


def scaled_axes(axes: NDArray, spacing: NDArray, origin: NDArray) -> NDArray[np.float64]:
    """The affine of unit axes (columns), voxel edge lengths in mm and the first voxel's centre.

    Raises UserError for a spacing that is not positive, which an affine could no longer tell.
    """
    if not (np.asarray(spacing) > 0).all():
        raise UserError("has a zero, negative or undefined voxel spacing: correct its header.")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, float) * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return affine
