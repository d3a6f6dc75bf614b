"""The denoiser: a network, its parameterization and the noise schedule behind one face.

Networks know nothing of schedules, samplers nothing of parameterizations: both meet here, where
every prediction becomes an estimate of the clean latent x_0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .schedules import Schedule

# Each parameterization: the training target, and x_0 recovered from the network's prediction,
# both as functions of (alpha, sigma) at time t. Salimans & Ho 2022, sec. 4 and appendix D.
TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": lambda x0, noise, alpha, sigma: noise,
    "v": lambda x0, noise, alpha, sigma: alpha * noise - sigma * x0,
    "x0": lambda x0, noise, alpha, sigma: x0,
}
ESTIMATES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": lambda xt, prediction, alpha, sigma: (xt - sigma * prediction) / alpha,
    "v": lambda xt, prediction, alpha, sigma: alpha * xt - sigma * prediction,
    "x0": lambda xt, prediction, alpha, sigma: prediction,
}


class Denoiser(nn.Module):
    """Estimates x_0 from x_t, a time and a label map; also gives the training error.

    Shapes: latents ``[B, C, x, y, z]``; times ``[B]`` in [0, 1]; label indices
    ``[B, x f, y f, z f]`` (int64, 0 is background, f the representation's factor); ``present``
    ``[B, L]``, 1 where a label was annotated and 0 where it is unknown.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, parameterization: str) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self._target = TARGETS[parameterization]
        self._estimate = ESTIMATES[parameterization]

    def forward(self, xt: Tensor, t: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        """The estimate of x_0, float32, of the shape of ``xt``."""
        alpha, sigma = self.levels(t, xt)
        return self._estimate(xt, self.network(xt, t, labels, present).float(), alpha, sigma)

    def squared_error(
        self, x0: Tensor, labels: Tensor, present: Tensor, weight: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Squared error of the prediction, weighted and summed over latent voxels (scalar).

        ``weight``: ``[B, 1, x, y, z]``, how much each voxel counts; 0: not at all. A sum and not a
        mean, because a batch may be computed in parts: the loss is the sum of the parts' sums over
        their :func:`total_weight`.
        """
        alpha, sigma = self.levels(t, x0)
        xt = alpha * x0 + sigma * noise
        prediction = self.network(xt, t, labels, present).float()
        squared = (prediction - self._target(x0, noise, alpha, sigma)).square()
        return (squared * weight).sum()

    def levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at times ``[B]``, shaped to broadcast over ``like``."""
        alpha, sigma = self.schedule(t.double())
        shape = (-1, *[1] * (like.ndim - 1))
        return alpha.to(like.dtype).view(shape), sigma.to(like.dtype).view(shape)


def total_weight(weight: Tensor, latent_channels: int) -> float:
    """What a batch's :meth:`Denoiser.squared_error` is divided by, where it is not 0."""
    return float(weight.sum(dtype=torch.float64)) * latent_channels


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6) written for scale 1 = none."""
    return torch.lerp(unconditional, conditional, scale)
