"""Variance-preserving noise schedules: x_t = alpha(t) x_0 + sigma(t) noise, alpha^2 + sigma^2 = 1.

Time t runs from 0 (data) to 1 (noise). lambda = log(alpha / sigma), half the log-SNR. A schedule
is one class in ``SCHEDULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..compute.schema import Schema

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps times (any shape, values in [0, 1]) to (alpha, sigma) of the same shape."""

_LAMBDA_MAX = 4.0
"""lambda of the steps stays within plus and minus this; the ends go on to times 1 and 0."""

_CLIP = 1e-3
"""Keeps alpha(1) and sigma(0) off zero, so that lambda stays finite."""


class Cosine:
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17, with s = 0)."""

    OPTIONS: ClassVar[Schema] = {}

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = (_CLIP + t * (1 - 2 * _CLIP)) * (math.pi / 2)
        return angle.cos(), angle.sin()


class Linear:
    """Continuous form of the linear-beta schedule (Ho et al. 2020; Song et al. 2021, eq. 32)."""

    OPTIONS: ClassVar[Schema] = {}

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -0.25 * t**2 * (20.0 - 0.1) - 0.5 * t * 0.1
        alpha = log_alpha.clamp(max=-(_CLIP**2)).exp()
        return alpha, (1 - alpha**2).sqrt()


SCHEDULES: dict[str, type[Cosine | Linear]] = {"cosine": Cosine, "linear": Linear}


def lambda_spaced_times(steps: int, schedule: Schedule, start: float = 1.0) -> Tensor:
    """``steps + 1`` times from exactly ``start`` down to 0, evenly spaced in lambda between.

    Few-step solvers err least on steps of equal log-SNR (DPM-Solver, Lu et al. 2022, sec. 3). The
    first time of a whole synthesis is always the noisiest that the model was trained on; a spacing
    that misses it leaves few-step samples wrong in mean brightness (Lin et al. 2024, sec. 3.3).
    The first and the last gap are longer than the others, since the ends go on to times ``start``
    and 0. ``start`` below 1 begins with a noisy image instead of noise. float64.
    """
    dense = torch.linspace(1.0, 0.0, 10001, dtype=torch.float64)
    alpha, sigma = schedule(dense)
    lambdas = (alpha / sigma).log().numpy()
    first = float(np.interp(1 - start, 1 - dense.numpy(), lambdas))
    wanted = np.linspace(max(first, -_LAMBDA_MAX), max(first, _LAMBDA_MAX), steps + 1)
    times = torch.from_numpy(np.interp(wanted, lambdas, dense.numpy()))
    times[0], times[-1] = start, 0.0
    return times
