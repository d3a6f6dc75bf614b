"""Pictures within a page: as PNG, and as the address under which a page holds one."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..volumes.writing import put_image


def png(picture: NDArray[np.uint8]) -> bytes:
    """The file of a picture ``[row, column]`` or ``[row, column, RGB]``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        put_image(path, sitk.GetImageFromArray(picture, isVector=picture.ndim == 3))
        return path.read_bytes()


def picture_source(file: bytes) -> str:
    """What ``src`` says in a page that holds a PNG itself."""
    return f"data:image/png;base64,{base64.b64encode(file).decode('ascii')}"
