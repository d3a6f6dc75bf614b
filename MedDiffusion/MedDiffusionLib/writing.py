"""Writing volumes as NIfTI, NRRD or MetaImage: whole or not at all, geometry exact.

The headers are written here, not by SimpleITK, because its NIfTI and NRRD writers report success
on a full disk. Voxels are gzip or zlib compressed everywhere but in .nii; the same volume gives
the same bytes.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .files import atomic
from .nifti import nifti_bytes
from .segments import segment_fields
from .volume import LPS_TO_RAS, Grid, Kind, Volume

_COMPRESSION = 6
"""Level of zlib; gzip's default, 9, takes three times as long to save a percent."""
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_NRRD_TYPES = {"u1": "uint8", "u2": "uint16", "u4": "uint32", "f4": "float"}
_META_TYPES = {"u1": "MET_UCHAR", "u2": "MET_USHORT", "u4": "MET_UINT", "f4": "MET_FLOAT"}


def write_volume(
    path: Path, volume: Volume, metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write a volume in the format that the file name ends with (``WRITABLE_SUFFIXES``).

    Intensities are stored as float32, labels as the smallest unsigned integer that holds them; a
    .seg.nrrd also names its segments. ``metadata`` goes into the header: NRRD key/values,
    MetaImage fields, a NIfTI comment; its keys are made of letters, digits and ``_ . -``. A file
    of that name is replaced.

    Raises UserError for another suffix, intensities in a .seg.nrrd, a folder that does not exist
    or may not be written, and a full disk; ValueError for labels below 0 or other keys.
    """
    suffix = next((s for s in WRITABLE_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise UserError(
            f"{path} has no format that can be written: use {', '.join(WRITABLE_SUFFIXES)}."
        )
    if suffix == ".seg.nrrd" and volume.kind is not Kind.LABEL:
        raise UserError(f"{path} is named like a segmentation: name an image .nrrd.")
    wrong = [key for key in metadata if not _KEY.fullmatch(key)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} cannot be a metadata key")
    content = _FORMATS[suffix](volume, metadata)
    with _sentences(path), atomic(path) as temporary:
        temporary.write_bytes(content)


def check_writable(path: Path) -> None:
    """Raise UserError unless a file of this name could be made: the folder exists and lets us."""
    with _sentences(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder: give a file name.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"The folder {path.parent} does not exist: make it first.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): choose a place where you may write and "
            "there is room."
        ) from error


def _nifti(volume: Volume, metadata: Mapping[str, str]) -> bytes:
    voxels = _stored(volume)
    header = nifti_bytes(volume.grid.size, volume.affine, voxels.dtype, metadata)
    return header + voxels.tobytes("F")


def _nifti_gz(volume: Volume, metadata: Mapping[str, str]) -> bytes:
    return gzip.compress(_nifti(volume, metadata), _COMPRESSION, mtime=0)


def _nrrd(volume: Volume, metadata: Mapping[str, str]) -> bytes:
    voxels = _stored(volume)
    steps, origin = _lps(volume.grid)
    lines = [
        "NRRD0005",
        f"type: {_NRRD_TYPES[voxels.dtype.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {_joined(volume.grid.size)}",
        "space directions: " + " ".join(_nrrd_vector(s) for s in steps),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_nrrd_vector(origin)}",
        *(f"{key}:={_nrrd_escaped(value)}" for key, value in metadata.items()),
    ]
    header = "\n".join(lines) + "\n\n"
    return header.encode("utf-8") + gzip.compress(voxels.tobytes("F"), _COMPRESSION, mtime=0)


def _seg_nrrd(volume: Volume, metadata: Mapping[str, str]) -> bytes:
    return _nrrd(volume, {**segment_fields(volume), **metadata})


def _mha(volume: Volume, metadata: Mapping[str, str]) -> bytes:
    voxels = _stored(volume)
    data = zlib.compress(voxels.tobytes("F"), _COMPRESSION)
    steps, origin = _lps(volume.grid)
    spacing = volume.grid.spacing
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {len(data)}",
        f"TransformMatrix = {_joined((steps / spacing[:, None]).ravel())}",
        f"Offset = {_joined(origin)}",
        f"ElementSpacing = {_joined(spacing)}",
        f"DimSize = {_joined(volume.grid.size)}",
        # A value is one line.
        *(f"{key} = {' '.join(value.split())}" for key, value in metadata.items()),
        f"ElementType = {_META_TYPES[voxels.dtype.str[1:]]}",
        "ElementDataFile = LOCAL",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8") + data


_FORMATS: dict[str, Callable[[Volume, Mapping[str, str]], bytes]] = {
    ".nii.gz": _nifti_gz,
    ".nii": _nifti,
    ".seg.nrrd": _seg_nrrd,
    ".nrrd": _nrrd,
    ".mha": _mha,
}
WRITABLE_SUFFIXES = tuple(_FORMATS)


def _stored(volume: Volume) -> NDArray:
    """The array in the type in which it is stored, little-endian."""
    if volume.kind is Kind.INTENSITY:
        return volume.array.astype("<f4")
    low, high = int(volume.array.min()), int(volume.array.max())
    if low < 0:
        raise ValueError(f"{low} is no label")
    return volume.array.astype(np.min_scalar_type(high).newbyteorder("<"))


def _lps(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps of i, j, k (one a row) and the first voxel's centre, in mm and LPS."""
    return (LPS_TO_RAS @ grid.affine[:3, :3]).T, LPS_TO_RAS @ grid.origin


def _joined(numbers: NDArray[np.float64] | tuple[int, ...], separator: str = " ") -> str:
    """The shortest texts that read back as the same numbers; -0 is 0."""
    return separator.join(str(number + 0) for number in numbers)


def _nrrd_vector(numbers: NDArray[np.float64]) -> str:
    return f"({_joined(numbers, ',')})"


def _nrrd_escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
