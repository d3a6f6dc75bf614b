"""What is read out of a file, and what it must be whatever its format."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from ..volume import Segment

MAX_VOXELS = 2**29
"""Larger volumes are refused: their float32 output alone would fill 2 GiB."""
MAX_FILE_BYTES = 8 * MAX_VOXELS + 2**26
"""Of a file: as many voxels of eight bytes, and what may come with them."""
_MAX_COSINE = 1e-3
"""Of the angle between two axes; further from a right angle, a grid counts as sheared."""

_MIN_SPACING, _MAX_SPACING = 1e-6, 1e4
"""Of voxels, in mm; beyond, a number is a mistake and what is computed of it overflows."""
_MAX_ORIGIN = 1e7
"""Distance from the origin in mm, along an axis; as above."""

Content = tuple[NDArray, NDArray[np.float64], list[tuple[int, Segment]]]
"""Array ``[i, j, k]`` (``[i, j, k, layer]`` for layers), RAS affine, segments with their layers."""


def check_shape(shape: tuple[int, ...], path: Path, layers: int = 1) -> None:
    """Raise UserError unless the shape (of voxels, whatever their layers) is a volume's."""
    shown = " x ".join(str(n) for n in shape)
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        raise UserError(f"is {len(shape)}D ({shown})", "give one 3D volume per file", path=path)
    if len(shape) < 3:
        raise UserError(f"is {len(shape)}D ({shown})", "give a 3D volume", path=path)
    if min(shape[:3]) < 2:
        raise UserError(
            f"is less than 2 voxels thick ({shown})",
            "give a volume of at least 2 voxels along each axis",
            path=path,
        )
    if math.prod(int(n) for n in shape) * layers > MAX_VOXELS:
        raise UserError(
            f"is too large ({shown}, more than {MAX_VOXELS:,} voxels)",
            "crop it to the region of interest or resample it",
            path=path,
        )


def check_affine(affine: NDArray[np.float64], path: Path) -> None:
    """Raise UserError unless an affine (4 x 4, mm) is that of a regular grid."""
    # Squares of what is beyond this would be infinite, with a warning.
    spacing = np.linalg.norm(affine[:3, :3].clip(-1e9, 1e9), axis=0)
    if not ((spacing > _MIN_SPACING) & (spacing < _MAX_SPACING)).all():
        raise unusable_spacing(path)
    if not (np.abs(affine[:3, 3]) < _MAX_ORIGIN).all():
        raise unusable_origin(path)
    axes = affine[:3, :3] / spacing
    cosines = axes.T @ axes - np.eye(3)
    if np.abs(cosines).max() > _MAX_COSINE:
        raise UserError(
            "has voxel axes that are not at right angles to each other",
            "correct its header or resample it, with 3D Slicer for example",
            path=path,
        )


def unusable_spacing(path: Path) -> UserError:
    """The error of a file whose voxels have no size, or none that a body's volume has."""
    return UserError(
        "has a voxel spacing that is zero, negative, undefined or above 10 m",
        "correct its header",
        path=path,
    )


def unusable_origin(path: Path) -> UserError:
    """The error of a file whose first voxel is nowhere."""
    return UserError("does not say where in space it lies", "correct its header", path=path)
