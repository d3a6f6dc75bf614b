"""Variance-preserving noise schedules: x_t = alpha(t) x_0 + sigma(t) noise, alpha^2 + sigma^2 = 1.

Time t runs from 0 (data) to 1 (noise). A schedule is one function in ``SCHEDULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps times (any shape, values in [0, 1]) to (alpha, sigma) of the same shape."""

_LOG_SNR = 4.0
"""log(alpha / sigma) of the steps stays within plus and minus this; the ends go on to 1 and 0."""

_CLIP = 1e-3
"""Keeps alpha(1) and sigma(0) off zero, so that log(alpha / sigma) stays finite."""


def cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17, with s = 0)."""
    angle = (_CLIP + t * (1 - 2 * _CLIP)) * (math.pi / 2)
    return angle.cos(), angle.sin()


def linear(t: Tensor) -> tuple[Tensor, Tensor]:
    """Continuous form of the linear-beta schedule (Ho et al. 2020; Song et al. 2021, eq. 32)."""
    log_alpha = -0.25 * t**2 * (20.0 - 0.1) - 0.5 * t * 0.1
    alpha = log_alpha.clamp(max=-(_CLIP**2)).exp()
    return alpha, (1 - alpha**2).sqrt()


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear}


def trailing_times(steps: int, schedule: Schedule) -> Tensor:
    """``steps + 1`` times from exactly 1 down to 0, evenly spaced in log(alpha / sigma) between.

    Few-step solvers err least on steps of equal log-SNR (DPM-Solver, Lu et al. 2022, sec. 3). The
    first time is always the noisiest that the model was trained on; a spacing that misses it
    leaves few-step samples wrong in mean brightness (Lin et al. 2024, sec. 3.3).
    """
    dense = torch.linspace(1.0, 0.0, 10001, dtype=torch.float64)
    alpha, sigma = schedule(dense)
    log_snr = (alpha / sigma).log().numpy()
    wanted = np.linspace(-_LOG_SNR, _LOG_SNR, steps + 1)
    times = torch.from_numpy(np.interp(wanted, log_snr, dense.numpy()))
    times[0], times[-1] = 1.0, 0.0
    return times
