"""Smooth, invertible deformations: stationary velocity fields, and what they do to a label map.

A field is a tensor ``[3, X, Y, Z]`` (float32) on nodes that are spread evenly over a box, from its
first voxel to its last along each axis. Its components run along the box's axes i, j, k, and their
unit is half of the box: a displacement of 2 along an axis leads from one side to the other. So a
field fits any box and any number of voxels. Outside of the box it goes on as it is at the border.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .resampling import REACH, signed_distance
from .volume import Grid, Volume

Size = tuple[int, int, int]

SQUARINGS = 6
"""The flow along a velocity field is made of 2^6 equal steps."""


def exponential(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """The displacement ``[3, X, Y, Z]`` that the flow along a velocity field leads to.

    By scaling and squaring (Arsigny et al. 2006): of a smooth field it is a diffeomorphism, and
    that of the negative field its inverse. Derivatives are taken through it.
    """
    places = identity(velocity.shape[1:])
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = displacement + at(displacement, places + displacement)
    return displacement


def identity(size: Sequence[int]) -> Tensor:
    """The places ``[3, X, Y, Z]`` of a box's nodes or voxels, from -1 to 1 along each axis."""
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def at(values: Tensor, places: Tensor) -> Tensor:
    """Values ``[C, X, Y, Z]`` at places ``[3, x, y, z]`` of their box, linear between nodes."""
    # PyTorch names the last axis of an image first.
    points = places.movedim(0, -1).flip(-1)[None]
    return functional.grid_sample(values[None], points, padding_mode="border", align_corners=True)[
        0
    ]


def resized(field: Tensor, size: Sequence[int]) -> Tensor:
    """A field, or any ``[C, X, Y, Z]``, on other nodes or voxels of its box, linear between."""
    return functional.interpolate(
        field[None], tuple(size), mode="trilinear", align_corners=True
    )[0]  # fmt: skip


def smooth_noise(
    nodes: Size, scale: Sequence[float], generator: np.random.Generator
) -> NDArray[np.float64]:
    """A random field ``[3, *nodes]``, normal with deviation 1 at each node.

    ``scale`` is the deviation, in nodes, of the Gaussian that white noise is smoothed with, along
    each axis: values farther apart than twice as much have little to do with each other.
    """
    margins = [math.ceil(3 * s) for s in scale]
    noise = generator.standard_normal(
        (3, *(n + 2 * m for n, m in zip(nodes, margins, strict=True)))
    )
    for axis, (s, margin) in enumerate(zip(scale, margins, strict=True), start=1):
        kernel = np.exp(-0.5 * (np.arange(-margin, margin + 1) / s) ** 2)
        kernel /= np.sqrt((kernel**2).sum())
        windows = np.lib.stride_tricks.sliding_window_view(noise, len(kernel), axis)
        noise = windows @ kernel
    return noise


def jacobian(displacement: Tensor) -> Tensor:
    """The determinants ``[8, x, y, z]`` of a deformation's derivative in the cells of its nodes.

    One for each corner of a cell, of the three edges that meet there: above 0 everywhere, no cell
    is folded.
    """
    places = identity(displacement.shape[1:]) + displacement
    edges = []
    for axis in range(3):
        n = places.shape[axis + 1]
        step = places.narrow(axis + 1, 1, n - 1) - places.narrow(axis + 1, 0, n - 1)
        edges.append(step * (n - 1) / 2)
    x, y, z = (n - 1 for n in displacement.shape[1:])
    corners = []
    for i, j, k in np.ndindex(2, 2, 2):
        a = edges[0][:, :, j : j + y, k : k + z]
        b = edges[1][:, i : i + x, :, k : k + z]
        c = edges[2][:, i : i + x, j : j + y]
        corners.append((torch.linalg.cross(a, b, dim=0) * c).sum(0))
    return torch.stack(corners)


class DeformableLabels:
    """A label map made ready to be deformed many times.

    A voxel takes the label (or the background) that the place it comes from lies deepest in:
    signed distances are interpolated, never labels. Depths count up to three voxels, and each
    label's are kept for its own box alone, so that many small labels take little memory.
    """

    def __init__(self, labels: Volume, margin: float) -> None:
        """``margin``: how far, in mm, labels may move; the box of the deformation is that of the
        labelled voxels and so much more, as far as the label map goes. Raises UserError where
        nothing is labelled."""
        self._labels = labels
        spacing = labels.grid.spacing
        around = [math.ceil(margin / s) + REACH for s in spacing]
        self.box = _grown(labels.label_statistics.index_box, around, labels.array.shape)
        part = labels.array[self.box]
        self.size: Size = part.shape
        self.extent = (np.array(self.size) - 1).clip(1) * spacing
        """Of the box in mm, from its first voxel to its last; of a single slice, its thickness."""
        self._depths = [(0, *_depths(part == 0, spacing))]
        for value in labels.label_statistics.values:
            self._depths.append((value, *_depths(part == value, spacing)))

    def deformed(self, displacement: Tensor) -> Volume:
        """The label map whose voxels come from where a displacement of the box leads, on the same
        grid."""
        array = self._labels.array.copy()
        _choose(self._depths, displacement, array[self.box])
        return Volume(array, self._labels.affine, self._labels.kind, self._labels.segments)


def deformed_indices(
    indices: NDArray[np.uint8], displacement: Tensor, label_count: int
) -> NDArray[np.uint8]:
    """Label indices ``[X, Y, Z]`` whose voxels come from where a displacement of their box leads.

    A voxel takes the label with the largest share among the eight voxels about its place. Where
    there are many labels and one deformation this is faster than :class:`DeformableLabels`.
    """
    result = np.zeros_like(indices)
    _choose(_shares(indices, label_count), displacement, result)
    return result


def _shares(
    indices: NDArray[np.uint8], label_count: int
) -> Iterator[tuple[int, tuple[slice, slice, slice], Tensor]]:
    for index in range(label_count + 1):
        mask = indices == index
        box = _grown(_box(mask), [1] * 3, mask.shape)
        yield index, box, torch.from_numpy(mask[box].astype(np.float32))


def _choose(
    fields: Iterable[tuple[int, tuple[slice, slice, slice], Tensor]],
    displacement: Tensor,
    result: NDArray,
) -> None:
    """Give each voxel of ``result`` the value whose field is largest where its place lies.

    ``fields``: value, the box of a part, and the field there; elsewhere it is as at its border.
    """
    size = result.shape
    halves = (torch.tensor(size) - 1)[:, None, None, None] / 2
    shift = resized(displacement, size) * halves
    reach = [math.ceil(float(d.abs().max())) for d in shift]
    places = (identity(size) + 1) * halves + shift
    largest = torch.full(size, -math.inf)
    for value, box, field in fields:
        target = _grown(box, reach, size)
        first = torch.tensor([part.start for part in box])[:, None, None, None]
        last = torch.tensor(field.shape)[:, None, None, None] - 1
        local = 2 * (places[(slice(None), *target)] - first) / last.clamp(min=1) - 1
        found, best = at(field[None], local)[0], largest[target]
        larger = found > best
        result[target][larger.numpy()] = value
        best[larger] = found[larger]


def _depths(
    mask: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[tuple[slice, slice, slice], Tensor]:
    """The box of a mask with what lies near, and the signed depth in it in mm, cut off."""
    box = _grown(_box(mask), [REACH + 1] * 3, mask.shape)
    part, reach = mask[box], REACH * float(spacing.max())
    if part.all() or not part.any():
        return box, torch.full(part.shape, reach if part.any() else -reach)
    grid = Grid(part.shape, np.diag([*spacing, 1.0]))
    depth = signed_distance(part, grid).clip(-reach, reach)
    return box, torch.from_numpy(np.ascontiguousarray(depth, np.float32))


def _box(mask: NDArray[np.bool_]) -> list[slice]:
    """The smallest part of a mask with all of it; of an empty one, its first voxel."""
    filled = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [slice(int(f[0]), int(f[-1]) + 1) if f.size else slice(0, 1) for f in filled]


def _grown(
    box: Sequence[slice], around: Sequence[int], size: Sequence[int]
) -> tuple[slice, slice, slice]:
    i, j, k = (
        slice(max(0, int(b.start) - a), min(n, int(b.stop) + a))
        for b, a, n in zip(box, around, size, strict=True)
    )
    return i, j, k
