"""The reconstruction objective: a representation that gives back what it was given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...bundles.model import Model
from ...compute.distributed import Ranks
from ...diffusion.representations import Autoencoder, Representation
from ..data.samples import Samples
from .adversarial import Discriminators, decoder_loss, discriminator_loss
from .base import Player
from .batch import Batch, BatchSamples
from .losses import Losses

_EARLY = 200
"""Steps before which a latent may say little: it has yet to be learned."""


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
    """The loss of a VQ-GAN: absolute error, that of differences, quantizer, adversary.

    Its players are the representation and, where there is an adversary, the discriminators, which
    start late (Esser et al. 2021). No part hides what is not finite: the run goes back then.
    """

    recompute = False

    def __init__(self, model: Model, losses: Losses | None = None) -> None:
        if not isinstance(model.representation, Autoencoder):
            raise TypeError("only a learned representation is trained")
        self.losses = losses or Losses()
        self._representation = model.representation
        self._channels = len(model.channels)
        self._discriminators: Discriminators | None = None
        if self.losses.adversarial > 0:
            self._discriminators = Discriminators(self._channels)
        self._progress = 0.0
        self._real = self._decoded = torch.empty(0)
        self._gradients: list[Tensor] = []
        self._facts: list[Tensor] = []
        self._figures: dict[str, float] = {}

    @property
    def players(self) -> tuple[Player, ...]:
        """The representation, and who judges it."""
        own = Player("representation", self._representation)
        if self._discriminators is None:
            return (own,)
        start = self.losses.adversarial_start
        return own, Player("discriminators", self._discriminators, 0.5, start, averaged=False)

    def samples(self, samples: Samples, batch: int) -> ReconstructionSamples:
        """Samples with the noise of their latents."""
        return ReconstructionSamples(samples, self._representation, batch)

    def weight(self, batch: ReconstructionBatch) -> float:
        """What a batch counts: the sum of losses over this is the mean loss."""
        return float(batch.weight.sum(dtype=torch.float64)) * self._channels

    def begin(self, progress: float) -> None:
        """A step begins: nothing is gathered yet."""
        self._progress = progress
        self._gradients, self._facts = [], []
        self._representation.quantizer.forget()

    def loss_sum(self, player: str, batch: ReconstructionBatch) -> Tensor:
        """A player's loss, weighted and summed over a part of the batch (scalar).

        The discriminators judge what the representation made of the same part before.
        """
        if player == "representation":
            return self._representation_loss(batch)
        assert self._discriminators is not None
        real, decoded = self._discriminators(self._real), self._discriminators(self._decoded)
        return discriminator_loss(real, decoded).sum() * self._voxels(batch)

    def finish(self, ranks: Ranks) -> None:
        """Take in what the step gathered, of all processes."""
        self._representation.quantizer.update(ranks.all_reduce)
        figures = dict(self._representation.quantizer.usage())
        if self._discriminators is not None and self._gradients:
            others, own = ranks.all_reduce(torch.stack(self._gradients).sum(0))
            self._discriminators.rebalance(others, own)
            figures["balance"] = float(self._discriminators.balance)
        self._figures = figures

    def error_sum(self, trained: Autoencoder, batch: ReconstructionBatch) -> Tensor:
        """The absolute error of what is decoded, weighted and summed over the batch (scalar)."""
        made = trained.decode(trained.encode(batch.images), batch.labels, batch.annotated)
        return ((made - batch.images).abs() * batch.weight).sum()

    def figures(self) -> dict[str, float]:
        """The quantizer's (:meth:`Quantizer.usage`), and the adversary's balance."""
        return self._figures

    def alarms(self) -> list[str]:
        """Whether the latent has collapsed."""
        quantizer = self._representation.quantizer
        if quantizer.steps < _EARLY or not quantizer.is_collapsed():
            return []
        # No figure here: a sentence is said once, and the log has them with every line.
        return [
            "The latent has collapsed: nearly all images become the same (the log says how it is "
            "used); train anew with a lower learning rate, another quantizer, or less noise and "
            "penalty."
        ]

    def _representation_loss(self, batch: ReconstructionBatch) -> Tensor:
        image, weight = batch.images, batch.weight
        made, quantized = self._representation.reconstruct(
            image, batch.labels, batch.annotated, batch.noise
        )
        loss = ((made - image).abs() * weight).sum()
        loss = loss + self.losses.gradient * _gradient_error(made, image, weight)
        # A mean over the part: for the same sum however the batch is split.
        voxels = self._voxels(batch)
        rest = quantized.loss.float() * len(image) * voxels
        if self._discriminators is None or self._progress < self.losses.adversarial_start:
            return loss + rest
        return loss + rest + self._adversarial(batch, made, loss)

    def _adversarial(self, batch: ReconstructionBatch, made: Tensor, others: Tensor) -> Tensor:
        """The adversary's part of the loss, by its weight.

        Its gradient at the image is computed once: it stands for the loss from here on, and gives
        the gradient at the decoder's last layer, by which it is weighed (Esser et al. 2021, eq. 7).
        """
        assert self._discriminators is not None
        # As users see it; and what does not count is what it really is.
        shown = torch.lerp(batch.images, made.clamp(-1, 1), batch.weight)
        self._real, self._decoded = batch.images, shown.detach()
        judged = self._decoded.clone().requires_grad_()
        with torch.no_grad():
            real = self._discriminators(self._real)
        verdicts = self._discriminators(judged)
        own = decoder_loss(real, verdicts, self.losses.feature_matching).sum() * self._voxels(batch)
        (at_image,) = torch.autograd.grad(own, judged)
        stand_in = (shown * at_image).sum()
        layer = self._representation.decoder.conv_out.weight
        at_layer = [
            torch.autograd.grad(part, layer, retain_graph=True)[0].detach().double().cpu().flatten()
            for part in (others, stand_in)
        ]
        self._gradients.append(torch.stack(at_layer))
        weight = self.losses.adversarial * self._discriminators.balance
        # The value for the log is the loss itself; a NaN in it must show.
        return weight * (stand_in - stand_in.detach() + own.detach())

    def _voxels(self, batch: ReconstructionBatch) -> int:
        """Numbers in an image: what a loss with one value for a sample is multiplied by."""
        return batch.images[0].numel()


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


def _gradient_error(made: Tensor, image: Tensor, weight: Tensor) -> Tensor:
    """The absolute error of differences between neighbours, a mean over the three axes, summed.

    A pair counts as much as the one of its voxels that counts less.
    """
    total = made.new_zeros(())
    for axis in (2, 3, 4):
        count = image.shape[axis] - 1
        pair = torch.minimum(weight.narrow(axis, 0, count), weight.narrow(axis, 1, count))
        total = total + ((made.diff(dim=axis) - image.diff(dim=axis)).abs() * pair).sum() / 3
    return total
