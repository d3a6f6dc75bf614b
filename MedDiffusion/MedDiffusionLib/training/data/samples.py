"""Training samples: each one a random grid laid over one of the cases.

Augmentation is nothing but the choice of that grid (shift, rotation, scale, flip): images, label
map and validity are resampled onto it together, each by its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...volumes.grids import GridSpec
from ...volumes.volume import Grid
from .loaded_cases import Case, CaseSource


@dataclass(frozen=True)
class Augmentation:
    """How far a training grid may stray; rotation in degrees, shifts as voxels."""

    flip_axes: tuple[int, ...] = ()
    rotation: float = 10.0
    scale: float = 0.08
    shift: int = 4
    far_shift: float = 0.25
    """Share of samples shifted by up to a quarter FOV, for labelled regions cut by a block."""
    affine: float = 0.5
    """Share of samples rotated and scaled; the others keep the scan's voxels as they are."""


@dataclass(frozen=True)
class Sample:
    """What a grid laid over a case shows."""

    images: Tensor
    """``[C, X, Y, Z]``, float32 in [-1, 1]."""
    labels: Tensor
    """Label indices ``[X, Y, Z]``, int64; 0 is background."""
    annotated: Tensor
    """``[L]``, 1 where a label was annotated and 0 where it is unknown."""
    weight: Tensor
    """``[1, X, Y, Z]``: how much each voxel counts in the loss."""


class Samples(Protocol):
    """Samples by number, each a function of its number and of ``seed``."""

    seed: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class TrainingSamples(Dataset[Sample]):
    """Sample ``i`` is a function of ``seed`` and ``i`` alone, so a resumed run repeats nothing.

    ``label_values[n]`` is the label map value of label index ``n + 1``. ``outside_weight`` is how
    much a voxel outside the scan counts in the loss, beside 1 for one inside it.
    """

    def __init__(
        self,
        cases: Sequence[CaseSource],
        spec: GridSpec,
        label_values: list[int],
        augmentation: Augmentation,
        label_dropout: float,
        length: int,
        seed: int,
        outside_weight: float = 0.0,
    ) -> None:
        self.cases = cases
        self.spec = spec
        self.label_values = label_values
        self.augmentation = augmentation
        self.label_dropout = label_dropout
        self.length = length
        self.seed = seed
        self.outside_weight = outside_weight

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng((self.seed, 1, index))
        # Closed again with the last name for it: neither memory nor open files add up.
        case = self.cases[case_number(len(self.cases), self.seed, index)].open()
        grid = self.grid(case, random)
        images = case.images_on(grid)
        labels = case.labels_on(grid)
        weight = np.maximum(case.validity(grid), np.float32(self.outside_weight))
        dropped = random_drop(len(self.label_values), self.label_dropout, random)
        annotated = case.annotated & ~dropped
        labels = known_labels(labels, annotated)
        return Sample(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            torch.from_numpy(annotated.astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(weight))[None],
        )

    def grid(self, case: Case, random: np.random.Generator) -> Grid:
        """Where a sample of a case lies."""
        return random_grid(case.fov, self.augmentation, random)


def case_number(count: int, seed: int, index: int) -> int:
    """The number of the case that sample ``index`` is of: each of them comes once an epoch."""
    epoch, position = divmod(index, count)
    order = np.random.default_rng((seed, 0, epoch)).permutation(count)
    return int(order[position])


def known_labels(labels: NDArray[np.integer], annotated: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Label indices without those of labels that are not annotated."""
    return np.where(np.append(True, annotated)[labels], labels, 0).astype(np.int64)


def random_drop(count: int, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which labels to hide: all of them in ``share`` of the samples, else each with ``share``.

    In ``share`` of those others each with a probability that is random itself, so that any number
    of labels may be all that is known: of many labels, nearly all would be known otherwise.
    """
    everything, some = random.random(2) < share
    each = random.random() if some else share
    single = random.random(count) < each
    return np.full(count, True) if everything else single


def random_grid(fov: Grid, augmentation: Augmentation, random: np.random.Generator) -> Grid:
    """A grid of the FOV's size, strayed from it as far as ``augmentation`` allows."""
    reach = np.full(3, augmentation.shift)
    if random.random() < augmentation.far_shift:
        reach = np.array(fov.size) // 4
    shift = random.integers(-reach, reach + 1).astype(float)
    linear = np.eye(3)
    if random.random() < augmentation.affine:
        angles = np.deg2rad(random.uniform(-augmentation.rotation, augmentation.rotation, 3))
        scales = 1 + random.uniform(-augmentation.scale, augmentation.scale, 3)
        spacing = fov.spacing
        linear = (_rotation(angles) * scales) * spacing / spacing[:, None]
    for axis in augmentation.flip_axes:
        if random.random() < 0.5:
            linear = linear @ np.diag([-1.0 if n == axis else 1.0 for n in range(3)])
    centre = (np.array(fov.size) - 1) / 2
    strayed = np.eye(4)
    strayed[:3, :3] = linear
    strayed[:3, 3] = centre + shift - linear @ centre
    return Grid(fov.size, fov.affine @ strayed)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result
