"""The denoising objective: from a noisy latent and a label map to the clean latent.

The run, its step and its validation know a batch by its length and its parts alone: what lies in
it, and what loss it has, is said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...bundles.model import Model
from ...diffusion.denoiser import Denoiser, total_weight
from ...diffusion.representations import Factors, coarsen_mask
from ..data.samples import TrainingSamples


@dataclass(frozen=True)
class Batch:
    """Samples of a training step, or one sample: then without the first axis."""

    images: Tensor
    """``[B, C, X, Y, Z]``, float32 in [-1, 1]."""
    labels: Tensor
    """Label indices ``[B, X, Y, Z]``, int16; 0 is background."""
    annotated: Tensor
    """``[B, L]``, 1 where a label was annotated and 0 where it is unknown."""
    weight: Tensor
    """``[B, 1, x, y, z]``: how much each latent voxel counts in the loss."""
    time: Tensor
    """``[B]`` in [0, 1]."""
    noise: Tensor
    """Of the latent's shape ``[B, C c, x, y, z]``."""

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int) -> Batch:
        """The samples from ``start`` to before ``stop``."""
        return Batch(*(tensor[start:stop] for tensor in self._tensors()))

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def pin_memory(self) -> Batch:
        """For the data loader: where a GPU fetches it without the CPU's help."""
        return Batch(*(tensor.pin_memory() for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


def stack(samples: Sequence[Batch]) -> Batch:
    """Single samples as a batch."""
    columns = zip(*(sample._tensors() for sample in samples), strict=True)
    return Batch(*(torch.stack(column) for column in columns))


class Denoising:
    """The loss of a denoiser: the error of its predictions at the batch's times and noise."""

    def __init__(self, model: Model) -> None:
        self._representation = model.representation
        self._latent_shape = model.latent_shape

    def samples(self, samples: TrainingSamples, batch: int) -> DenoisingSamples:
        """Samples with their times and noise, for batches of ``batch``."""
        return DenoisingSamples(samples, self._latent_shape, self._representation.factors, batch)

    def weight(self, batch: Batch) -> float:
        """What a batch counts: the sum of losses over this is the mean loss."""
        return total_weight(batch.weight, self._latent_shape[0])

    def loss_sum(self, denoiser: Denoiser, batch: Batch) -> Tensor:
        """The loss, weighted and summed over the batch (scalar)."""
        return denoiser.loss_sum(
            self._representation.encode(batch.images), batch.labels.long(), batch.annotated,
            batch.weight, batch.time, batch.noise,
        )  # fmt: skip


class DenoisingSamples(Dataset[Batch]):
    """Training samples as the denoiser's loss takes them: with noise, and a time.

    All of sample i is a function of the seed and of i; and the times of ``batch`` samples in a row
    cover [0, 1] evenly, which lowers the variance of the loss, however these samples are spread
    over devices.
    """

    def __init__(
        self, samples: TrainingSamples, latent_shape: tuple[int, ...], factors: Factors, batch: int
    ) -> None:
        self.samples = samples
        self.latent_shape = latent_shape
        self.factors = factors
        self.batch = batch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        state = np.random.SeedSequence((self.samples.seed, 2, index)).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(state[0]))
        time = (index % self.batch + torch.rand((), generator=random)) / self.batch
        noise = torch.randn(self.latent_shape, generator=random)
        coarse = coarsen_mask(sample.weight[None], self.factors)[0]
        labels = sample.labels.to(torch.int16)
        return Batch(sample.images, labels, sample.annotated, coarse, time, noise)
