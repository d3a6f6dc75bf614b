"""Training samples: cases in memory, each sample a random grid laid over one of them.

Augmentation is nothing but the choice of that grid (shift, rotation, scale, flip): image, label
map and validity are resampled onto it together, each by its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .errors import UserError
from .grids import GridSpec, fov_grid
from .normalization import to_model_range
from .reading import read_image, read_label_map
from .resampling import resample
from .volume import Grid, Kind, Volume


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
class Case:
    """One case: normalized image and its padding, labels as indices, and where the scan ends."""

    name: str
    image: Volume
    labels: Volume
    scan: Grid
    fov: Grid

    def validity(self, grid: Grid) -> NDArray[np.uint8]:
        """1 where the grid lies inside the scan, 0 outside; of the grid's size."""
        inside = Volume(np.ones(self.scan.size, np.uint8), self.scan.affine, Kind.LABEL)
        return resample(inside, grid).array


Sample = tuple[Tensor, Tensor, Tensor, Tensor]
"""image ``[C, X, Y, Z]``, label indices ``[X, Y, Z]``, present ``[L]``, weight ``[1, X, Y, Z]``."""


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
        image = resample(case.image, grid, background=-1.0).array
        labels = resample(case.labels, grid).array
        weight = np.maximum(case.validity(grid), np.float32(self.outside_weight))
        dropped = random_drop(len(self.label_values), self.label_dropout, random)
        present = np.isin(np.arange(1, len(self.label_values) + 1), case.labels.array) & ~dropped
        labels = np.where(np.append(True, present)[labels], labels, 0)
        return (
            torch.from_numpy(np.ascontiguousarray(image))[None],
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(present.astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(weight))[None],
        )


def load_case(
    image_path: Path,
    label_path: Path,
    spec: GridSpec,
    label_values: list[int],
    percentiles: tuple[float, float],
) -> Case:
    """Read a case from its two files; see :func:`make_case`.

    Raises UserError where the two lie on different grids or the label map has other labels.
    """
    image, labels = read_image(image_path), read_label_map(label_path)
    if not image.grid.equals(labels.grid):
        raise UserError(
            f"{label_path} lies on another grid than {image_path}: resample it onto the image's."
        )
    unknown = set(np.unique(labels.array).tolist()) - {0, *label_values}
    if unknown:
        raise UserError(
            f"{label_path} has the values {sorted(unknown)} that the preset does not name: add "
            "them to the preset's labels, or set them to 0."
        )
    return make_case(image_path.name, image, labels, spec, label_values, percentiles)


def make_case(
    name: str,
    image: Volume,
    labels: Volume,
    spec: GridSpec,
    label_values: list[int],
    percentiles: tuple[float, float],
) -> Case:
    """Normalize and pad a case; its labels become indices 1, 2, ... in the order of the model.

    The image is padded by mirroring, so that a field of view that leaves the scan shows plausible
    tissue; how much those voxels count in the loss is for the training to say.
    """
    indices = np.zeros(labels.array.shape, np.int32)
    for index, value in enumerate(label_values, start=1):
        indices[labels.array == value] = index
    margin = int(np.ceil(max(spec.size) / 2))
    padded = np.pad(to_model_range(image.array, percentiles), margin, "symmetric")
    affine = image.affine.copy()
    affine[:3, 3] = image.grid.positions(np.full((1, 3), -float(margin)))[0]
    return Case(
        name,
        Volume(padded, affine, Kind.INTENSITY),
        Volume(indices, labels.affine, Kind.LABEL),
        image.grid,
        fov_grid(labels, spec),
    )


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
