"""The file formats of the field: arrays, affines and segments out of files.

A format is a function that reads it and its suffixes here. Each looks at the header itself before
any library does: only regular files, numbers that are finite, sizes within bounds and no larger
than what is stored. NIfTI and MGH are then read by nibabel in this process (:mod:`.nifti` says
why); NRRD, MetaImage, GIPL and DICOM by ITK in another (:mod:`.itk` says why).
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from ...compute.errors import UserError
from ...compute.files import open_regular
from .content import MAX_FILE_BYTES, Content
from .dicom import read_dicom
from .gipl import read_gipl
from .metaimage import read_metaimage
from .nifti import read_mgh, read_nifti
from .nrrd import read_nrrd

_READERS: dict[str, Callable[[Path], Content]] = {
    ".seg.nrrd": read_nrrd,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
    ".mgz": read_mgh,
    ".mgh": read_mgh,
    ".gipl.gz": read_gipl,
    ".gipl": read_gipl,
}
SUFFIXES = tuple(_READERS)


def image_suffix(path: Path) -> str:
    """The longest image suffix that the file name ends with, or nothing."""
    return max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default="")


def read_file(path: Path) -> Content:
    """What is in a file, or in a folder that is one DICOM series.

    Raises UserError for what cannot be read whole or is no single 3D volume on a regular grid.
    """
    is_folder = _check_openable(path)
    read = read_dicom if is_folder else _READERS.get(image_suffix(path))
    if read is None:
        raise UserError(
            "has no known image format", f"use {', '.join(SUFFIXES)} or a DICOM folder", path=path
        )
    try:
        if not is_folder and path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("larger than any volume")
        return read(path)
    except PermissionError as error:  # a part of it: the voxels of a header, a slice
        raise _unopenable(error, path) from error
    except (ValueError, KeyError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            "cannot be read",
            "it is damaged, incomplete or not what its name says; copy or save it again",
            path=path,
        ) from error


def _check_openable(path: Path) -> bool:
    """Whether a path is a folder; raises UserError unless it or a regular file can be opened."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)
        elif stat.S_ISREG(mode):
            open_regular(path).close()
        else:
            raise UserError("is neither a file nor a folder", "give an image file", path=path)
    except FileNotFoundError as error:
        raise UserError("does not exist", "check the path", path=path) from error
    except (OSError, ValueError) as error:
        raise _unopenable(error, path) from error
    return stat.S_ISDIR(mode)


def _unopenable(error: Exception, path: Path) -> UserError:
    why = getattr(error, "strerror", None) or "it is no file name"
    return UserError("cannot be opened", "check its name and permissions", path=path, detail=why)
