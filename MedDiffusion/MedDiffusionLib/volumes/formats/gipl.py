"""GIPL, by ITK in the reading process; its header is looked at here."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from .content import Content, check_shape, unusable_origin, unusable_spacing
from .itk import Promise, read_itk
from .stored import check_deflated, check_stored, open_stored, skip

_HEADER_BYTES = 256
_VOXEL_BYTES = {1: 1, 7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}
"""By the header's number of the voxel type."""


def read_gipl(path: Path) -> Content:
    """A GIPL file; refuses what SimpleITK takes in silence.

    Raises UserError for a size, spacing or origin that is none, EOFError for a cut file, and what
    :func:`read_itk` raises.
    """
    with open_stored(path) as (file, packed):
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            raise EOFError("the header is cut off")
        *size, kind = struct.unpack_from(">5H", header)
        needed = _VOXEL_BYTES[kind]
        if size[3] <= 1:
            del size[3]
        check_shape(tuple(size), path)
        needed *= int(np.prod(size, dtype=np.int64))
        spacing = np.frombuffer(header, ">f4", 3, 10)
        if not (spacing > 0).all() or not np.isfinite(spacing).all():
            raise unusable_spacing(path)
        if not np.isfinite(np.frombuffer(header, ">f8", 3, 204)).all():
            raise unusable_origin(path)
        stored = path.stat().st_size
        if packed:
            check_deflated(stored, needed)
            skip(file, needed)
        else:
            check_stored(stored, _HEADER_BYTES + needed)
    return read_itk(path, "GiplImageIO", Promise(needed))
