"""Samplers: pure functions from noise to a clean latent, all of one signature.

``sampler(denoise, x, times, schedule, noise, on_step) -> x_0``

- ``denoise(x, t)``: the estimate of x_0 from the latent ``x`` at time ``t`` (a 0-d float64 tensor);
- ``x``: Gaussian noise of unit variance, any shape;
- ``times``: decreasing from 1 (or a later start) to 0, one more than the steps
  (``schedules.lambda_spaced_times``);
- ``schedule``: (alpha, sigma) of a time;
- ``noise()``: fresh Gaussian noise of the shape of ``x``, for the stochastic samplers;
- ``on_step(n, x_0)``: called after step n (1, 2, ...) with the current estimate; it may raise to
  cancel.

A new sampler is one function and one line in ``SAMPLERS``: the panel, the command and the CLI
modules offer what is there. So this file imports no torch, which is not in Slicer's own process.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from .schedules import Schedule

Denoise: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
Noise: TypeAlias = "Callable[[], Tensor]"
OnStep: TypeAlias = "Callable[[int, Tensor], None]"
Sampler: TypeAlias = "Callable[[Denoise, Tensor, Tensor, Schedule, Noise, OnStep], Tensor]"


def ddpm(
    denoise: Denoise, x: Tensor, times: Tensor, schedule: Schedule, noise: Noise, on_step: OnStep
) -> Tensor:
    """Ancestral sampling: draws from the posterior q(x_s | x_t, x_0) (Ho et al. 2020, eq. 7)."""
    x0 = x
    for n, (t, s) in enumerate(pairwise(times), start=1):
        x0 = denoise(x, t)
        on_step(n, x0)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        ratio = alpha_t / alpha_s
        variance = sigma_t**2 - (ratio * sigma_s) ** 2
        mean = (ratio * sigma_s**2) / sigma_t**2 * x + alpha_s * variance / sigma_t**2 * x0
        x = (mean + (variance.sqrt() * sigma_s / sigma_t) * noise()).to(x.dtype)
    return x0


def ddim(
    denoise: Denoise, x: Tensor, times: Tensor, schedule: Schedule, noise: Noise, on_step: OnStep
) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0)."""
    x0 = x
    for n, (t, s) in enumerate(pairwise(times), start=1):
        x0 = denoise(x, t)
        on_step(n, x0)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x = (alpha_s * x0 + sigma_s * (x - alpha_t * x0) / sigma_t).to(x.dtype)
    return x0


def dpmpp_2m(
    denoise: Denoise, x: Tensor, times: Tensor, schedule: Schedule, noise: Noise, on_step: OnStep
) -> Tensor:
    """DPM-Solver++(2M), the multistep second-order solver (Lu et al. 2022, algorithm 2)."""
    x0 = x
    previous, previous_step = None, None
    for n, (t, s) in enumerate(pairwise(times), start=1):
        x0 = denoise(x, t)
        on_step(n, x0)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        step = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
        slope = x0
        if previous is not None and previous_step is not None:
            half_ratio = step / (2 * previous_step)
            slope = (1 + half_ratio) * x0 - half_ratio * previous
        x = (sigma_s / sigma_t * x - alpha_s * (-step).expm1() * slope).to(x.dtype)
        previous, previous_step = x0, step
    return x0


SAMPLERS: dict[str, Sampler] = {
    "dpmpp-2m": dpmpp_2m,
    "ddim": ddim,
    "ddpm": ddpm,
}
