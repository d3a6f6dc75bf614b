"""Parameterizations: what a network predicts, and what its error counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_SIGMA = 0.05
"""Below it the weight of x_0 as v grows no more (Li & He 2025, arXiv:2511.13720, sec. 3)."""


def _one(alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.ones_like(sigma)


@dataclass(frozen=True)
class Parameterization:
    """One way to predict x_0, given (alpha, sigma) of the time, which broadcast over latents.

    ``target(x0, noise, alpha, sigma)``: what the network is trained to predict;
    ``estimate(xt, prediction, alpha, sigma)``: x_0 recovered from its prediction;
    ``loss_weight(alpha, sigma)``: what the squared error counts at that time.
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    estimate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    loss_weight: Callable[[Tensor, Tensor], Tensor] = _one


def _x0_target(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return x0


def _x0_estimate(xt: Tensor, prediction: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return prediction


def _as_v(alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = (alpha x_t - x_0) / sigma, so an error of x_0 is one of v divided by sigma."""
    return sigma.clamp(min=_LEAST_SIGMA) ** -2


# Salimans & Ho 2022, sec. 4 and appendix D.
PARAMETERIZATIONS = {
    "epsilon": Parameterization(
        lambda x0, noise, alpha, sigma: noise,
        lambda xt, prediction, alpha, sigma: (xt - sigma * prediction) / alpha,
    ),
    # x_0 is clipped to the range of the images at every step (Ho et al. 2020, in their code).
    "epsilon-clipped": Parameterization(
        lambda x0, noise, alpha, sigma: noise,
        lambda xt, prediction, alpha, sigma: ((xt - sigma * prediction) / alpha).clamp(-1, 1),
    ),
    "v": Parameterization(
        lambda x0, noise, alpha, sigma: alpha * noise - sigma * x0,
        lambda xt, prediction, alpha, sigma: alpha * xt - sigma * prediction,
    ),
    "x0": Parameterization(_x0_target, _x0_estimate),
    "x0-as-v": Parameterization(_x0_target, _x0_estimate, _as_v),
}
