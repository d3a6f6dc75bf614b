"""A DICOM series, by SimpleITK."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ...compute.errors import UserError
from ...compute.files import open_regular
from .content import MAX_VOXELS, Content
from .itk import read_itk_series

_MAX_FILES = 10_000
_MAX_BYTES = 8 * MAX_VOXELS
_PREAMBLE = 128
"""Bytes before the word that tells a DICOM file."""


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do (PS3.10, 7.1); raises OSError."""
    with open_regular(path) as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def read_dicom(folder: Path) -> Content:
    """The one DICOM series of a folder.

    Raises UserError, also where there is anything but files and folders in it, or far too many;
    ValueError, EOFError or OSError for damaged files.
    """
    names: list[str] = []
    stored = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:  # a link to nothing
                continue
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"holds {entry.name}, which is no file", "remove it", path=folder)
            names.append(entry.name)
            stored += status.st_size
            if len(names) > _MAX_FILES or stored > _MAX_BYTES:
                raise UserError(
                    f"holds more than {_MAX_FILES:,} files or {_MAX_BYTES // 2**30} GiB",
                    "put the series to use into a folder of its own",
                    path=folder,
                )
    return read_itk_series(folder, sorted(names), stored)
