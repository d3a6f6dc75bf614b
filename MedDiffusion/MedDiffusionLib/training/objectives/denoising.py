"""The denoising objective: from a noisy latent and a label map to the clean latent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...bundles.model import Model
from ...compute.distributed import Ranks
from ...diffusion.denoiser import Denoiser, Predict, total_weight
from ...diffusion.representations import Factors, coarsen_mask
from ..data.samples import Samples
from .base import Player
from .batch import Batch, BatchSamples


@dataclass(frozen=True)
class DenoisingBatch(Batch):
    """Samples as the denoiser's loss takes them."""

    images: Tensor
    """``[B, C, X, Y, Z]``, float32 in [-1, 1]; or latents ``[B, c, x, y, z]``."""
    labels: Tensor
    """Label indices ``[B, X, Y, Z]``, int16; 0 is background."""
    annotated: Tensor
    """``[B, L]``, 1 where a label was annotated and 0 where it is unknown."""
    weight: Tensor
    """``[B, 1, x, y, z]``: how much each latent voxel counts in the loss."""
    time: Tensor
    """``[B]`` in [0, 1]."""
    noise: Tensor
    """Of the latent's shape ``[B, c, x, y, z]``."""


class Denoising:
    """The loss of a denoiser: the error of its predictions at the batch's times and noise.

    ``encoded``: samples are latents already, and are not encoded for each step anew. ``teacher``:
    what it is to predict instead of the truth.
    """

    def __init__(
        self, model: Model, *, encoded: bool = False, teacher: Predict | None = None
    ) -> None:
        self._denoiser = model.denoiser
        self._representation = model.representation
        self._latent_shape = model.latent_shape
        self._encoded = encoded
        self._teacher = teacher

    @property
    def players(self) -> tuple[Player, ...]:
        """The denoiser alone."""
        return (Player("denoiser", self._denoiser),)

    @property
    def recompute(self) -> bool:
        """See :class:`...diffusion.networks.resunet.ResUNet`."""
        return bool(self._denoiser.network.recompute)

    @recompute.setter
    def recompute(self, on: bool) -> None:
        self._denoiser.network.recompute = on  # type: ignore[assignment]

    def samples(self, samples: Samples, batch: int) -> DenoisingSamples:
        """Samples with their times and noise, for batches of ``batch``."""
        factors = (1, 1, 1) if self._encoded else self._representation.factors
        return DenoisingSamples(samples, self._latent_shape, factors, batch)

    def weight(self, batch: DenoisingBatch) -> float:
        """What a batch counts: the sum of losses over this is the mean loss."""
        return total_weight(batch.weight, self._latent_shape[0])

    def begin(self, progress: float) -> None:
        """Nothing is gathered."""

    def loss_sum(self, player: str, batch: DenoisingBatch) -> Tensor:
        """The loss, weighted and summed over the batch (scalar)."""
        return self.error_sum(self._denoiser, batch)

    def finish(self, ranks: Ranks) -> None:
        """Nothing was gathered."""

    def error_sum(self, trained: Denoiser, batch: DenoisingBatch) -> Tensor:
        """The loss of a denoiser, weighted and summed over the batch (scalar)."""
        labels = batch.labels.long()
        latent = batch.images
        if not self._encoded:
            latent = self._representation.encode(latent)
        return trained.loss_sum(
            latent, labels, batch.annotated, batch.weight, batch.time, batch.noise, self._teacher
        )

    def figures(self) -> dict[str, float]:
        """None beside the loss."""
        return {}

    def alarms(self) -> list[str]:
        """None but what the run itself sees."""
        return []


class DenoisingSamples(BatchSamples):
    """Training samples as the denoiser's loss takes them: with noise, and a time.

    All of sample i is a function of the seed and of i; and the times of ``batch`` samples in a row
    cover [0, 1] evenly, which lowers the variance of the loss, however these samples are spread
    over devices. ``factors``: voxels of a sample's weight per latent voxel along each axis.
    """

    def __init__(
        self,
        samples: Samples,
        latent_shape: tuple[int, ...],
        factors: Factors,
        batch: int,
    ) -> None:
        self.samples = samples
        self.latent_shape = latent_shape
        self.factors = factors
        self.batch = batch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DenoisingBatch:
        sample = self.samples[index]
        state = np.random.SeedSequence((self.samples.seed, 2, index)).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(state[0]))
        time = (index % self.batch + torch.rand((), generator=random)) / self.batch
        noise = torch.randn(self.latent_shape, generator=random)
        coarse = coarsen_mask(sample.weight[None], self.factors)[0]
        labels = sample.labels.to(torch.int16)
        return DenoisingBatch(sample.images, labels, sample.annotated, coarse, time, noise)
