"""Where a synthesis takes place: the part of a label map that counts, and a grid on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bundles.manifest import Label
from ..volumes.grids import GridSpec, fov_grid, labelled_box
from ..volumes.resampling import REACH, resample
from ..volumes.volume import Grid, Volume

_WHOLE = 2**24
"""Voxels of a label map up to which all of it is used. A part has another origin, and so positions
that differ in their last bits, which decide where two labels have an equal share of a voxel."""


@dataclass(frozen=True, eq=False)
class Region:
    """The grid of a synthesis, label indices ``[1, X, Y, Z]`` (0 is background, in the smallest
    type that holds them) and which labels are annotated ``[1, L]``."""

    grid: Grid
    indices: Tensor
    annotated: Tensor


def labelled_part(labels: Volume) -> Volume:
    """The part of a large label map about what is labelled; a smaller one as it is.

    It is wide enough that resampling gives what the whole would give, and shares its voxels.
    Raises UserError where nothing is labelled.
    """
    if labels.array.size <= _WHOLE:
        return labels
    spacing = labels.grid.spacing
    margin = np.ceil(REACH * spacing.max() / spacing).astype(int) + 2
    box = tuple(
        slice(max(part.start - int(wide), 0), part.stop + int(wide))
        for part, wide in zip(labels.label_statistics.index_box, margin, strict=True)
    )
    affine = labels.affine.copy()
    affine[:3, 3] = labels.grid.positions(np.array([[part.start for part in box]]))[0]
    return Volume(labels.array[box], affine, labels.kind, labels.segments)


def region_grid(
    labels: Volume, spec: GridSpec, factors: Sequence[int], whole: Volume | None = None
) -> Grid:
    """The grid to synthesize on: the model's FOV, enlarged where the labelled region exceeds it.

    An enlarged axis gets a margin of an eighth of the FOV on either side, and a length that is a
    multiple of the representation's factor along it. Where ``labels`` is but a part of a label
    map, the ``whole`` says where its lattice starts.
    """
    low, high = box = labelled_box(labels, spec)
    extent = np.ceil((high - low) / np.array(spec.spacing) - 1e-6).astype(int)
    size = []
    for needed, fov, factor in zip(extent, spec.size, factors, strict=True):
        enlarged = -(-(int(needed) + fov // 4) // factor) * factor
        size.append(fov if needed <= fov else enlarged)
    return fov_grid(whole or labels, spec, (size[0], size[1], size[2]), box)


def make_region(labels: Volume | None, grid: Grid, known: Sequence[Label]) -> Region:
    """The region on a grid, of a label map with the model's label values; None: of no labels."""
    if labels is None:
        nothing = torch.zeros(1, *grid.size, dtype=torch.uint8)
        return Region(grid, nothing, torch.zeros(1, len(known), dtype=torch.bool))
    on_grid = resample(labels, grid).array
    indices = np.zeros(on_grid.shape, np.uint8 if len(known) < 256 else np.int64)
    for index, label in enumerate(known, start=1):
        indices[on_grid == label.value] = index
    values = labels.label_statistics.values
    annotated = torch.tensor([[label.value in values for label in known]])
    return Region(grid, torch.from_numpy(indices)[None], annotated)
