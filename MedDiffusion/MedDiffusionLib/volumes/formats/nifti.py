"""NIfTI and MGH: headers and numbers by nibabel, out of files that are looked at here.

nibabel is Python: damaged content raises an exception, and it reads what its header says and no
more. So it works in this process, behind a look at the sizes that the header gives. It gets the
fixed part of the header alone, since extensions can be of any size and kind.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...compute.errors import UserError
from .content import Content, check_affine, check_shape, unusable_spacing
from .stored import check_deflated, open_stored

_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""Of metres and micrometres, by NIfTI's number of the unit; all else is taken for mm."""
_MAX_OFFSET = 2**24
"""Bytes before the voxels: label tables, DICOM headers and histories take less."""
_HEADER_BYTES, _HEADER_BYTES_2, _MGH_HEADER_BYTES = 348, 540, 90
_GOOD_RAS = slice(28, 30)
"""Where MGH says whether it knows how the voxels lie."""


def read_nifti(path: Path) -> Content:
    """A NIfTI file. Raises UserError, or ValueError, EOFError, OSError for a damaged file."""
    with _by_nibabel(path), open_stored(path) as (file, packed):
        make = _header_class(raw := file.read(_HEADER_BYTES_2))
        header = make(raw[: make.template_dtype.itemsize], check=False)
        _check_shape(header, path)
        # With an sform the spacing is the sform's, whatever else the header says.
        if not header["sform_code"] and not (header["pixdim"][1:4] > 0).all():
            raise unusable_spacing(path)
        if not header["qform_code"] and not header["sform_code"]:
            raise _without_orientation("its qform and sform codes are 0", path)
        if not 0 <= float(header["vox_offset"]) <= _MAX_OFFSET:
            raise ValueError("the voxels begin nowhere")
        header = make(header.binaryblock, header.endianness)
        affine = np.array(header.get_best_affine(), float)
        affine[:3] *= _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
        return _content(header, affine, file, packed, path)


def read_mgh(path: Path) -> Content:
    """A FreeSurfer file, MGH or MGZ; raises as :func:`read_nifti` does."""
    with _by_nibabel(path), open_stored(path) as (file, packed):
        from nibabel.freesurfer.mghformat import MGHHeader

        header = MGHHeader(raw := file.read(_MGH_HEADER_BYTES))
        _check_shape(header, path)
        # nibabel has already put a guess in place of what is missing.
        if raw[_GOOD_RAS] != b"\0\1":
            raise _without_orientation("its goodRASFlag is not 1", path)
        if not (header["delta"] > 0).all():
            raise unusable_spacing(path)
        return _content(header, np.array(header.get_affine(), float), file, packed, path)


def nifti_extensions(path: Path) -> Iterator[bytes]:
    """The content of each extension of a NIfTI file that :func:`read_nifti` reads."""
    with open_stored(path) as (file, _):
        raw = file.read(_HEADER_BYTES_2)
        make = _header_class(raw)
        header = make(raw[: make.template_dtype.itemsize], check=False)
        file.seek(0)
        before = file.read(min(int(header["vox_offset"]), _MAX_OFFSET))
    start = make.template_dtype.itemsize + 4
    while start + 8 <= len(before):
        (size,) = struct.unpack_from(f"{header.endianness}i", before, start)
        if size < 8:
            return
        yield before[start + 8 : start + size]
        start += size


def _content(header: Any, affine: np.ndarray, file: IO[bytes], packed: bool, path: Path) -> Content:
    """What follows a header of nibabel's, once its sizes have been compared with the file's."""
    shape, number = _check_shape(header, path), header.get_data_dtype()
    check_affine(affine, path)
    if number.names or number.kind == "c":
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    needed = header.get_data_offset() + math.prod(shape) * number.itemsize
    stored = path.stat().st_size
    if packed:
        check_deflated(stored, needed)
    elif stored < needed:
        raise EOFError("voxels are missing")
    from nibabel.arrayproxy import ArrayProxy

    # Not mapped: another program that shortens the file would end this process.
    array = np.asanyarray(ArrayProxy(file, header, mmap=False))
    return array.reshape(shape, order="F"), affine, []


def _check_shape(header: Any, path: Path) -> tuple[int, ...]:
    """The shape that a header gives, without axes of one voxel at its end; it is a volume's."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if min(shape) < 1:
        raise ValueError("no sizes")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(shape, path)
    return shape


def _header_class(raw: bytes) -> Any:
    """The kind of header that the first bytes of a file are; raises ValueError for none."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(raw) >= _HEADER_BYTES and raw[344:348] == b"n+1\0":
        return Nifti1Header
    if len(raw) >= _HEADER_BYTES_2 and raw[4:8] == b"n+2\0":
        return Nifti2Header
    raise ValueError("no NIfTI header")


def _without_orientation(why: str, path: Path) -> UserError:
    return UserError(
        f"does not say how it lies in the body ({why})",
        "open it in 3D Slicer, check left and right, and save it again",
        path=path,
    )


@contextmanager
def _by_nibabel(path: Path) -> Iterator[None]:
    """nibabel without its warnings, and with ValueError for whatever it raises.

    Raises UserError where it is not installed.
    """
    try:
        from nibabel import imageglobals
    except ImportError as error:
        raise UserError(
            "needs the Python package nibabel", "install it, or save the file as .nrrd", path=path
        ) from error
    logger: logging.Logger = imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except (UserError, EOFError, OSError, MemoryError):
        raise
    except Exception as error:
        # Any exception can come out of a library that meets what its authors never saw.
        raise ValueError(str(error)) from error
    finally:
        logger.disabled = before
