"""The topology of a label: of how many pieces it is, and its Euler number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

SPECK = 0.1
"""A piece of less than this share of its label is a speck, as segmentation leaves them."""
_WHOLE = 3
"""A label of at most so many pieces was drawn or cleaned, and each piece is meant so."""


@dataclass(frozen=True)
class Topology:
    """What a continuous deformation keeps of a label: ``pieces`` is their number, connected by
    voxel faces, ``large`` that of those that are no specks, ``euler`` the Euler number."""

    pieces: int
    large: int
    euler: int

    @property
    def is_whole(self) -> bool:
        """Whether each piece counts: false of a label that is full of specks, as an automatic
        segmentation's."""
        return self.pieces <= _WHOLE

    def is_kept_by(self, other: Topology) -> bool:
        """Whether another label map's is the same, as far as it was meant.

        Of a label full of specks the number of large pieces is compared. A label without holes is
        to have none; where it has some, most are one voxel wide, and are not counted.
        """
        if not self.is_whole:
            return self.large == other.large
        has_holes = self.euler != self.pieces
        return self.pieces == other.pieces and (has_holes or self.euler == other.euler)


def topology(mask: NDArray[np.bool_]) -> Topology:
    """The topology of a mask ``[i, j, k]``."""
    mask = mask[_part(mask)]
    counts = np.bincount(_numbered(mask).ravel())[1:]
    large = int((counts >= SPECK * counts.sum()).sum())
    return Topology(len(counts), large, euler_number(mask))


def remove_specks(labels: NDArray, value: int, pieces: int) -> None:
    """Leave of a label ``[i, j, k]`` its largest ``pieces``, in place: the others become what lies
    around them."""
    labels = labels[_part(labels == value)]
    numbered = _numbered(labels == value)
    counts = np.bincount(numbered.ravel())
    counts[0] = 0
    small = np.argsort(-counts, kind="stable")[pieces : np.count_nonzero(counts)]
    for number in small:
        for i, j, k in np.argwhere(numbered == number):
            around = labels[
                max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2
            ]  # fmt: skip
            others, found = np.unique(around[around != value], return_counts=True)
            if others.size:
                labels[i, j, k] = others[found.argmax()]


def _part(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The part of an array with all of a mask, and a voxel around it where there is one."""
    filled = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(max(0, f[0] - 1), f[-1] + 2) if f.size else slice(0, 1) for f in filled)


def _numbered(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """The pieces of a mask, numbered from 1; 0 is what is not in it."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint8))
    numbered: NDArray[np.uint32] = sitk.GetArrayFromImage(sitk.ConnectedComponent(image))
    return numbered


def euler_number(mask: NDArray[np.bool_]) -> int:
    """Pieces less tunnels plus cavities, where voxels hold together by faces alone.

    1 for a ball, 0 for a ring, 2 for a hollow ball: voxels are points, pairs that share a face
    edges, and blocks of four and of eight squares and cubes (Kong & Rosenfeld 1989).
    """
    number = 0
    cells: dict[tuple[int, ...], NDArray[np.bool_]] = {(): mask}
    for axis in range(3):
        cells |= {
            (*spanned, axis): np.take(cell, range(1, cell.shape[axis]), axis)
            & np.take(cell, range(cell.shape[axis] - 1), axis)
            for spanned, cell in cells.items()
        }
    for spanned, cell in cells.items():
        number += (-1) ** len(spanned) * int(np.count_nonzero(cell))
    return number
