"""The file formats of the field: arrays, affines and segments out of files.

NIfTI and MGH by nibabel, which keeps what SimpleITK's reader mends in silence (cut files, NaN,
zero spacing); all else by SimpleITK. A format is a function that reads it and its suffixes here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

from ...compute.errors import UserError
from .content import Content
from .dicom import read_dicom
from .gipl import read_gipl
from .metaimage import read_metaimage
from .nifti import read_nifti
from .nrrd import read_nrrd

_READERS: dict[str, Callable[[Path], Content]] = {
    ".seg.nrrd": read_nrrd,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
    ".mgz": read_nifti,
    ".mgh": read_nifti,
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
    try:
        is_folder = path.is_dir()
        if is_folder:
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except FileNotFoundError as error:
        raise UserError("does not exist", "check the path", path=path) from error
    except OSError as error:
        raise UserError(
            f"cannot be opened ({error.strerror})", "check its permissions", path=path
        ) from error
    read = read_dicom if is_folder else _READERS.get(image_suffix(path))
    if read is None:
        raise UserError(
            "has no known image format", f"use {', '.join(SUFFIXES)} or a DICOM folder", path=path
        )
    try:
        return read(path)
    except (ValueError, KeyError, EOFError, OSError, zlib.error, RuntimeError) as error:
        raise UserError(
            "cannot be read",
            "it is damaged, incomplete or not what its name says; copy or save it again",
            path=path,
        ) from error
