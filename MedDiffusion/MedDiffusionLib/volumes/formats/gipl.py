"""GIPL, by SimpleITK."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .content import Content, unusable_spacing
from .itk import read_itk

_HEADER_BYTES, _SPACING_OFFSET = 256, 10
_GZIP_MAGIC = b"\x1f\x8b"


def read_gipl(path: Path) -> Content:
    """A GIPL file; refuses what SimpleITK takes in silence.

    Raises UserError for a spacing that is not positive, EOFError for a cut file, and what
    :func:`read_itk` raises.
    """

    def check(voxel_bytes: int) -> None:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        if len(content) < _HEADER_BYTES + voxel_bytes:
            raise EOFError("voxels are missing")
        if not (np.frombuffer(content, ">f4", 3, _SPACING_OFFSET) > 0).all():
            raise unusable_spacing(path)

    return read_itk(path, check)
