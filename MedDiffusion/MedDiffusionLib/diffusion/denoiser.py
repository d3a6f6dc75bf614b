"""The denoiser: a network, its parameterization and the noise schedule behind one face.

Networks know nothing of schedules, samplers nothing of parameterizations: both meet here, where
every prediction becomes an estimate of the clean latent x_0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .parameterizations import Parameterization
from .schedules import NoiseSchedule

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of :meth:`Denoiser.predict`."""


class Denoiser(nn.Module):
    """Estimates x_0 from x_t, a time and a label map; also gives the training error.

    Shapes: latents ``[B, C, x, y, z]``; times ``[B]`` in [0, 1]; label indices
    ``[B, x fx, y fy, z fz]`` (int64, 0 is background, fx the representation's factor along x);
    ``annotated`` ``[B, L]``, 1 where a label was annotated and 0 where it is unknown.
    """

    def __init__(
        self, network: nn.Module, schedule: NoiseSchedule, parameterization: Parameterization
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization

    def forward(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        """The estimate of x_0, float32, of the shape of ``xt``."""
        alpha, sigma = self.levels(t, xt)
        prediction = self.predict(xt, t, labels, annotated)
        return self.parameterization.estimate(xt, prediction, alpha, sigma)

    def loss_sum(
        self,
        x0: Tensor,
        labels: Tensor,
        annotated: Tensor,
        weight: Tensor,
        t: Tensor,
        noise: Tensor,
        teacher: Predict | None = None,
    ) -> Tensor:
        """Squared error of the prediction, weighted and summed over latent voxels (scalar).

        The error is that from the truth, or from what a ``teacher`` predicts from the same.

        ``weight``: ``[B, 1, x, y, z]``, how much each voxel counts; 0: not at all. A sum and not a
        mean, because a batch may be computed in parts: the loss is the sum of the parts' sums over
        their :func:`total_weight`.
        """
        alpha, sigma = self.levels(t, x0)
        xt = alpha * x0 + sigma * noise
        prediction = self.predict(xt, t, labels, annotated)
        if teacher is None:
            target = self.parameterization.target(x0, noise, alpha, sigma)
        else:
            target = teacher(xt, t, labels, annotated)
        squared = (prediction - target).square() * self.parameterization.loss_weight(alpha, sigma)
        return (squared * weight).sum()

    def predict(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        """What the network is trained to predict, float32, of the shape of ``xt``."""
        predicted: Tensor = self.network(xt, self.schedule.network_time(t), labels, annotated)
        return predicted.float()

    def levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at times ``[B]``, shaped to broadcast over ``like``."""
        alpha, sigma = self.schedule(t.double())
        shape = (-1, *[1] * (like.ndim - 1))
        return alpha.to(like.dtype).view(shape), sigma.to(like.dtype).view(shape)


def total_weight(weight: Tensor, latent_channels: int) -> float:
    """What a batch's :meth:`Denoiser.loss_sum` is divided by, where it is not 0."""
    return float(weight.sum(dtype=torch.float64)) * latent_channels


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6) written for scale 1 = none."""
    return torch.lerp(unconditional, conditional, scale)
