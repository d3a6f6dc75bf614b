"""The model's grid laid over a label map: orientation, spacing and field of view (FOV)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .volume import Grid, Volume

Box = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(low, high), each ``[3]``, in mm along three axes."""

_RAS_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class GridSpec:
    """A model's canonical grid: orientation code such as ``RAS``, spacing in mm, FOV in voxels."""

    orientation: str
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]

    @property
    def axes(self) -> NDArray[np.float64]:
        """3 x 3, columns are the unit vectors of the grid's axes in RAS."""
        axes = np.zeros((3, 3))
        for column, letter in enumerate(self.orientation):
            row, sign = _RAS_AXES[letter]
            axes[row, column] = sign
        return axes

    def at(self, first: NDArray[np.float64], size: tuple[int, int, int]) -> Grid:
        """The grid of this orientation and spacing with its voxel 0 at RAS position ``first``."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes * np.array(self.spacing)
        affine[:3, 3] = first
        return Grid(size, affine)

    def centered(self) -> Grid:
        """The field of view with its center at RAS (0, 0, 0)."""
        first = (1 - np.array(self.size)) / 2 * np.array(self.spacing)
        return self.at(self.axes @ first, self.size)


def in_patient_order(grid: Grid) -> Grid:
    """The same voxels with i running along the left-right axis, j front to back, k up and down.

    For grids square to the patient; which way an axis runs stays.
    """
    order = np.abs(grid.direction).argmax(axis=1)
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, order]
    i, j, k = (grid.size[axis] for axis in order)
    return Grid((i, j, k), affine)


def labelled_box(labels: Volume, spec: GridSpec) -> Box:
    """The box of the labelled voxels along the model's axes: (low, high) ``[3]`` in mm.

    The box reaches to the outer faces of the voxels' extents along those axes.
    Raises UserError when no voxel is labelled.
    """
    return labels.label_statistics.box(labels.affine, spec.axes)


def fov_grid(
    labels: Volume,
    spec: GridSpec,
    size: tuple[int, int, int] | None = None,
    box: Box | None = None,
) -> Grid:
    """The model's grid centred on the labelled region, ``size`` voxels (default: the FOV).

    ``box`` is the region's :func:`labelled_box` where the caller has it; found otherwise.
    It is shifted by less than a voxel so that it falls on the label map's own lattice where the
    two are compatible: then nothing is interpolated on the way in or out.
    """
    size = size or spec.size
    spacing = np.array(spec.spacing)
    low, high = box or labelled_box(labels, spec)
    first = (low + high) / 2 - (np.array(size) - 1) / 2 * spacing
    anchor = spec.axes.T @ labels.grid.origin
    # A tie (an odd box on an even FOV) rounds down everywhere, whatever the float noise.
    first = anchor + np.ceil((first - anchor) / spacing - 0.5 - 1e-6) * spacing
    return spec.at(spec.axes @ first, size)
