"""What a segmenter learns: Dice and cross-entropy, on images whose grey levels vary.

Gain, offset, gamma and grain differ from sample to sample, so that it judges anatomy and not grey
levels: a synthetic volume that is a little brighter is no worse for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...compute.distributed import Ranks
from ...training.data.samples import Samples
from ...training.objectives.base import Player
from ...training.objectives.batch import Batch, BatchSamples
from .network import SegmentationNetwork

_GAIN, _OFFSET, _GAMMA, _GRAIN = 0.15, 0.1, 0.3, 0.08
"""Deviations of gain and offset in [-1, 1]; largest logarithm of gamma, and deviation of grain."""
_FIRST_EXPONENT = 0.5
_LEAST = 1e-12
_SMOOTH = 1.0
"""Voxels added above and below in a Dice, against jumps where a label has few."""


@dataclass(frozen=True)
class SegmentationBatch(Batch):
    """Samples as a segmenter learns from them."""

    images: Tensor
    """``[B, C, X, Y, Z]``, float32."""
    labels: Tensor
    """Label indices ``[B, X, Y, Z]``, int16; 0 is background."""
    weight: Tensor
    """``[B, X, Y, Z]``, 1 inside the scan and 0 outside."""


class Segmentation:
    """The loss of a segmenter: cross-entropy, and 1 - Dice of the labels that a sample shows.

    At first a label's voxels count the more in the cross-entropy the fewer they are, by the root of
    their number, and at the end all alike: small labels are found in a tenth of the steps, and
    edges lie where they should.
    """

    recompute = False

    def __init__(self, network: SegmentationNetwork) -> None:
        self._network = network
        self._exponent = 0.0

    @property
    def players(self) -> tuple[Player, ...]:
        """The network alone."""
        return (Player("segmenter", self._network),)

    def samples(self, samples: Samples, batch: int) -> SegmentationSamples:
        """Samples with other grey levels, for batches of ``batch``."""
        return SegmentationSamples(samples, batch)

    def weight(self, batch: SegmentationBatch) -> float:
        """The number of samples."""
        return float(len(batch))

    def begin(self, progress: float) -> None:
        """Takes over how much of the run is done; nothing is gathered."""
        self._exponent = _FIRST_EXPONENT * (1 - progress)

    def loss_sum(self, player: str, batch: SegmentationBatch) -> Tensor:
        """The loss, summed over the samples (scalar)."""
        return self.error_sum(self._network, batch)

    def finish(self, ranks: Ranks) -> None:
        """Nothing was gathered."""

    def error_sum(self, trained: SegmentationNetwork, batch: SegmentationBatch) -> Tensor:
        """The loss of a network, summed over the samples (scalar)."""
        logits = trained(_in_order_of(trained, batch.images)).float()
        labels, weight = batch.labels.long(), batch.weight
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        counted = weight * balance(labels, logits.shape[1], self._exponent)
        space = (1, 2, 3)
        mean = (entropy * counted).sum(space) / counted.sum(space).clamp(min=_LEAST)
        return mean.sum() + dice_loss(logits, labels, weight).sum()

    def figures(self) -> dict[str, float]:
        """None beside the loss."""
        return {}

    def alarms(self) -> list[str]:
        """None but what the run itself sees."""
        return []


def balance(labels: Tensor, classes: int, exponent: float) -> Tensor:
    """How much each voxel counts ``[B, X, Y, Z]``, by how many others of its sample have its label:
    their number to the power of -``exponent``."""
    shown = functional.one_hot(labels.flatten(1), classes).sum(1)
    weights = shown.clamp(min=1).float() ** -exponent
    return weights.gather(1, labels.flatten(1)).view(labels.shape)


def dice_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """1 - soft Dice ``[B]``, the mean over the labels that a sample shows.

    ``logits`` ``[B, 1 + L, X, Y, Z]``, ``labels`` ``[B, X, Y, Z]`` int64, ``weight``
    ``[B, X, Y, Z]``.
    """
    found = logits.softmax(1)[:, 1:]
    truth = torch.zeros_like(logits).scatter_(1, labels[:, None], 1)[:, 1:]
    counted = weight[:, None]
    both = (found * truth * counted).flatten(2).sum(2)
    either = ((found + truth) * counted).flatten(2).sum(2)
    shown = ((truth * counted).flatten(2).sum(2) > 0).float()
    loss = 1 - (2 * both + _SMOOTH) / (either + _SMOOTH)
    return (loss * shown).sum(1) / shown.sum(1).clamp(min=1)


class SegmentationSamples(BatchSamples):
    """Training samples as a segmenter takes them; sample i depends on the seed and on i alone."""

    def __init__(self, samples: Samples, batch: int) -> None:
        self.samples = samples
        self.batch = batch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> SegmentationBatch:
        sample = self.samples[index]
        state = np.random.SeedSequence((self.samples.seed, 2, index)).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(state[0]))
        images = other_greys(sample.images, random)
        return SegmentationBatch(images, sample.labels.to(torch.int16), sample.weight[0])


def other_greys(images: Tensor, random: torch.Generator) -> Tensor:
    """Images ``[C, X, Y, Z]`` in [-1, 1] with another gain, offset, gamma and grain a contrast."""
    size = (len(images), 1, 1, 1)
    gamma = torch.exp(_GAMMA * (2 * torch.rand(size, generator=random) - 1))
    bent = 2 * ((images + 1) / 2).clamp(0, 1) ** gamma - 1
    gain = 1 + _GAIN * torch.randn(size, generator=random)
    offset = _OFFSET * torch.randn(size, generator=random)
    grain = _GRAIN * torch.rand(size, generator=random)
    return bent * gain + offset + grain * torch.randn(images.shape, generator=random)


def _in_order_of(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """Images in the memory order of the network's weights, which convolutions take over."""
    weights = next(p for p in network.parameters() if p.dim() == 5 and p.shape[2] > 1)
    last = weights.is_contiguous(memory_format=torch.channels_last_3d)
    return images.contiguous(memory_format=torch.channels_last_3d) if last else images
