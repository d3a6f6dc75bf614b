"""The topology of a label: of how many pieces it is, and its Euler number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

SPECK = 0.01
"""A piece of less than this share of its label is a speck, as segmentation leaves them."""
_SIMPLE = 3
"""A label of at most so many pieces was drawn or cleaned, and what it is like is meant so."""


@dataclass(frozen=True)
class Topology:
    """What a continuous deformation keeps of a label: ``pieces`` is their number, connected by
    voxel faces, ``large`` that of those that are no specks, ``euler`` the Euler number."""

    pieces: int
    large: int
    euler: int

    def is_kept_by(self, other: Topology) -> bool:
        """Whether another label map's is the same; of a label that is full of specks, as an
        automatic segmentation's, only the number of large pieces is compared."""
        return self.large == other.large if self.pieces > _SIMPLE else self == other


def topology(mask: NDArray[np.bool_]) -> Topology:
    """The topology of a mask ``[i, j, k]``."""
    filled = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    mask = mask[tuple(slice(f[0], f[-1] + 1) if f.size else slice(0, 1) for f in filled)]
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint8))
    counts = np.bincount(sitk.GetArrayFromImage(sitk.ConnectedComponent(image)).ravel())[1:]
    large = int((counts >= SPECK * counts.sum()).sum())
    return Topology(len(counts), large, euler_number(mask))


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
