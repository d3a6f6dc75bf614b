"""Training samples: cases in memory, each sample a random grid laid over one of them.

Augmentation is nothing but the choice of that grid (shift, rotation, scale, flip): images, label
map and validity are resampled onto it together, each by its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...diffusion.representations import coarsen_mask
from ...volumes.grids import GridSpec
from ...volumes.volume import Grid
from .loaded_cases import Case


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


Sample = tuple[Tensor, Tensor, Tensor, Tensor]
"""images ``[C, X, Y, Z]``, label indices ``[X, Y, Z]``, present ``[L]``,
weight ``[1, X, Y, Z]``."""


class TrainingSamples(Dataset[Sample]):
    """Sample ``i`` is a function of ``seed`` and ``i`` alone, so a resumed run repeats nothing.

    ``label_values[n]`` is the label map value of label index ``n + 1``. ``outside_weight`` is how
    much a voxel outside the scan counts in the loss, beside 1 for one inside it.
    """

    def __init__(
        self,
        cases: list[Case],
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
        epoch, position = divmod(index, len(self.cases))
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.cases))
        random = np.random.default_rng((self.seed, 1, index))
        case = self.cases[order[position]]
        grid = random_grid(case.fov, self.augmentation, random)
        images = case.images_on(grid)
        labels = case.labels_on(grid)
        weight = np.maximum(case.validity(grid), np.float32(self.outside_weight))
        dropped = random_drop(len(self.label_values), self.label_dropout, random)
        present = case.present & ~dropped
        labels = np.where(np.append(True, present)[labels], labels, 0)
        return (
            torch.from_numpy(images),
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(present.astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(weight))[None],
        )


class DiffusionSamples(Dataset[tuple[Tensor, ...]]):
    """Training samples as the denoiser's loss takes them: with noise, and a time.

    Sample i: images ``[C, X, Y, Z]``, label indices ``[X, Y, Z]`` (int16), present ``[L]``, weight
    of latent voxels ``[1, x, y, z]``, time in [0, 1] (scalar), noise of ``latent_shape``. All are
    functions of the seed and of i; and the times of ``batch`` samples in a row cover [0, 1] evenly,
    which lowers the variance of the loss, however these samples are spread over devices.
    """

    def __init__(
        self, samples: TrainingSamples, latent_shape: tuple[int, ...], factor: int, batch: int
    ) -> None:
        self.samples = samples
        self.latent_shape = latent_shape
        self.factor = factor
        self.batch = batch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        images, labels, present, weight = self.samples[index]
        state = np.random.SeedSequence((self.samples.seed, 2, index)).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(state[0]))
        time = (index % self.batch + torch.rand((), generator=random)) / self.batch
        noise = torch.randn(self.latent_shape, generator=random)
        coarse = coarsen_mask(weight[None], self.factor)[0]
        return images, labels.to(torch.int16), present, coarse, time, noise


def random_drop(count: int, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which labels to hide: all of them in ``share`` of the samples, else each with ``share``."""
    everything = random.random() < share
    single = random.random(count) < share
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
