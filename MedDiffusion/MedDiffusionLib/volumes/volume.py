"""Grids and volumes: where voxels lie in patient space, and an array that never leaves its grid.

Axis order everywhere is [i, j, k] as in nibabel; affines map voxel indices to millimetres in RAS
(x to the patient's right, y to the front, z up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .label_statistics import LabelStatistics, find_label_statistics

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""3 x 3; between RAS and the LPS of ITK, NRRD and DICOM, in either direction."""


class Kind(Enum):
    """What the numbers mean, and so how they may be interpolated."""

    INTENSITY = "intensity"
    LABEL = "label"


@dataclass(frozen=True)
class Segment:
    """A named label of a label map; ``code`` is a terminology code such as ``SCT:12738006``,
    or ``SCT:5366008/SCT:255549009`` where it has a modifier."""

    value: int
    name: str
    code: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels: ``size`` (i, j, k) and a 4 x 4 RAS ``affine`` in mm."""

    size: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel edge lengths along i, j, k in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def direction(self) -> NDArray[np.float64]:
        """3 x 3, columns are the unit vectors of i, j, k in RAS."""
        return self.affine[:3, :3] / self.spacing

    @property
    def origin(self) -> NDArray[np.float64]:
        """RAS position of the centre of voxel (0, 0, 0) in mm."""
        return self.affine[:3, 3]

    def positions(self, indices: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """RAS positions ``[N, 3]`` in mm of voxel indices ``[N, 3]``."""
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3]

    def equals(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Same size, and every corner voxel within ``tolerance`` of a voxel edge."""
        if self.size != other.size:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.size])).reshape(3, -1).T
        distance = np.abs(self.positions(corners) - other.positions(corners)).max()
        return bool(distance <= tolerance * self.spacing.min())


@dataclass(frozen=True, eq=False)
class Volume:
    """An array ``[i, j, k]`` with its affine and its kind, inseparable.

    ``segments`` names the labels of a label map where its file did; empty otherwise. The array is
    not to be changed in place: what is known of it would no longer be true.
    """

    array: NDArray
    affine: NDArray[np.float64]
    kind: Kind
    segments: tuple[Segment, ...] = field(default=())

    @property
    def grid(self) -> Grid:
        i, j, k = self.array.shape
        return Grid((i, j, k), self.affine)

    @cached_property
    def label_statistics(self) -> LabelStatistics:
        """What is labelled in a label map, and where; found once, when first asked for."""
        return find_label_statistics(self.array)

    def remember(self, statistics: LabelStatistics) -> None:
        """Keep what is already known of this label map, so that no voxel is looked at again."""
        self.__dict__["label_statistics"] = statistics
