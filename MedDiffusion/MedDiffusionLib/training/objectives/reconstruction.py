"""The reconstruction objective: a representation that gives back what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bundles.model import Model
from ...compute.distributed import Ranks
from ...diffusion.representations import Representation
from ..data.samples import Samples
from ..plan.settings import RepresentationSettings
from .base import Player
from .batch import Batch, BatchSamples


@dataclass(frozen=True)
class ReconstructionBatch(Batch):
    """Samples as the loss of a representation takes them."""

    images: Tensor
    """``[B, C, X, Y, Z]``, float32 in [-1, 1]."""
    labels: Tensor
    """Label indices ``[B, X, Y, Z]``, int16; 0 is background."""
    annotated: Tensor
    """``[B, L]``, 1 where a label was annotated and 0 where it is unknown."""
    weight: Tensor
    """``[B, 1, X, Y, Z]``: how much each voxel counts in the loss."""
    noise: Tensor
    """Of the latent's shape ``[B, c, x, y, z]``."""


class Reconstruction:
    """Mean absolute error of what is decoded, and of its differences between neighbours."""

    recompute = False

    def __init__(self, model: Model, settings: RepresentationSettings) -> None:
        self._representation: Any = model.representation
        self._channels = len(model.channels)

    @property
    def players(self) -> tuple[Player, ...]:
        """The representation."""
        return (Player("representation", self._representation),)

    def samples(self, samples: Samples, batch: int) -> ReconstructionSamples:
        """Samples with the noise of their latents."""
        return ReconstructionSamples(samples, self._representation, batch)

    def weight(self, batch: ReconstructionBatch) -> float:
        """What a batch counts: the sum of losses over this is the mean loss."""
        return float(batch.weight.sum(dtype=torch.float64)) * self._channels

    def begin(self, progress: float) -> None:
        """Nothing is gathered."""

    def loss_sum(self, player: str, batch: ReconstructionBatch) -> Tensor:
        """The loss, weighted and summed over the batch (scalar)."""
        labels = batch.labels.long()
        made, quantized = self._representation.reconstruct(
            batch.images, labels, batch.annotated, batch.noise
        )
        error = (made.float() - batch.images).abs()
        return (error * batch.weight).sum() + quantized.loss * self.weight(batch)

    def finish(self, ranks: Ranks) -> None:
        """Nothing was gathered."""

    def error_sum(self, trained: Any, batch: ReconstructionBatch) -> Tensor:
        """The loss of a representation, weighted and summed over the batch (scalar)."""
        labels = batch.labels.long()
        latent = trained.encode(batch.images)
        made = trained.decode(latent, labels, batch.annotated).float()
        return ((made - batch.images).abs() * batch.weight).sum()

    def figures(self) -> dict[str, float]:
        """None beside the loss."""
        return {}

    def alarms(self) -> list[str]:
        """None but what the run itself sees."""
        return []


class ReconstructionSamples(BatchSamples):
    """Training samples with noise; all of sample i is a function of the seed and of i."""

    def __init__(self, samples: Samples, representation: Representation, batch: int) -> None:
        self.samples = samples
        self.batch = batch
        self._channels = representation.latent_channels
        self._factors = representation.factors

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> ReconstructionBatch:
        sample = self.samples[index]
        state = np.random.SeedSequence((self.samples.seed, 4, index)).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(state[0]))
        size = (n // f for n, f in zip(sample.labels.shape, self._factors, strict=True))
        noise = torch.randn((self._channels, *size), generator=random)
        return ReconstructionBatch(
            sample.images, sample.labels.to(torch.int16), sample.annotated, sample.weight, noise
        )
