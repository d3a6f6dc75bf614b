"""Variance-preserving noise schedules: x_t = alpha(t) x_0 + sigma(t) noise, alpha^2 + sigma^2 = 1.

Time t runs from 0 (data) to 1 (noise). lambda = log(alpha / sigma), half the log-SNR. A schedule
is one class in ``SCHEDULES``: called it gives (alpha, sigma), ``network_time`` is what the network
is told of a time, ``times`` are those of a synthesis.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..compute.errors import UserError
from ..compute.schema import Schema

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps times (any shape, values in [0, 1]) to (alpha, sigma) of the same shape."""


class NoiseSchedule(Protocol):
    """What a denoiser and its samplers need of a schedule."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of times; see :data:`Schedule`."""

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told of times ``[B]``; of the same shape."""

    def times(self, steps: int, start: float = 1.0) -> Tensor:
        """``steps + 1`` times from ``start`` down to 0, float64 (:func:`lambda_spaced_times`)."""


_LAMBDA_MAX = 4.0
"""lambda of the steps stays within plus and minus this; the ends go on to times 1 and 0."""

_CLIP = 1e-3
"""Keeps alpha(1) and sigma(0) off zero, so that lambda stays finite."""


class _Continuous(ABC):
    """A schedule for all times: the network is told the time itself."""

    OPTIONS: ClassVar[Schema] = {}

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times ``t`` in [0, 1], of the shape of ``t``."""

    def network_time(self, t: Tensor) -> Tensor:
        return t

    def times(self, steps: int, start: float = 1.0) -> Tensor:
        return lambda_spaced_times(steps, self, start)


class Cosine(_Continuous):
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17, with s = 0)."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = (_CLIP + t * (1 - 2 * _CLIP)) * (math.pi / 2)
        return angle.cos(), angle.sin()


class Linear(_Continuous):
    """Continuous form of the linear-beta schedule (Ho et al. 2020; Song et al. 2021, eq. 32)."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -0.25 * t**2 * (20.0 - 0.1) - 0.5 * t * 0.1
        alpha = log_alpha.clamp(max=-(_CLIP**2)).exp()
        return alpha, (1 - alpha**2).sqrt()


class Discrete(nn.Module):
    """The schedule of a model that was trained at whole steps n = 0 ... ``steps`` - 1 alone.

    ``betas`` ``[steps]`` (float32) are kept with the weights, and so is ``fed`` ``[steps]``
    (float32), what the network is told at each step. Step n stands at the time (n + 1) / ``steps``,
    time 0 at no step: it is clean. Between the steps lambda is interpolated. A synthesis takes
    whole steps, spaced like those of the other schedules or, with the spacing "even", evenly.

    A new one is the cosine schedule of Nichol & Dhariwal 2021 (eq. 17, s = 0.008, betas to 0.999).
    """

    OPTIONS: ClassVar[Schema] = {
        "required": ["steps"],
        "properties": {
            "steps": {"type": "integer", "minimum": 2, "maximum": 1000},
            "spacing": {"type": "string", "enum": ["lambda", "even"]},
        },
    }

    betas: Tensor
    fed: Tensor

    def __init__(self, steps: int, spacing: str = "lambda") -> None:
        super().__init__()
        self.steps = steps
        self.spacing = spacing
        self.register_buffer("betas", cosine_betas(steps).float())
        self.register_buffer("fed", torch.arange(steps, dtype=torch.float32))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        lambdas = self._lambdas(t.device)
        place = (t.double() * self.steps).clamp(0, self.steps)
        # A time may have been rounded to float32: a step's own level is meant.
        whole = place.round()
        place = torch.where((place - whole).abs() < _NEAR, whole, place)
        low = place.floor().long().clamp(max=self.steps - 1)
        between = torch.lerp(lambdas[low], lambdas[low + 1], place - low)
        return (2 * between).sigmoid().sqrt(), (-2 * between).sigmoid().sqrt()

    def network_time(self, t: Tensor) -> Tensor:
        step = (t.double() * self.steps).round().long() - 1
        return self.fed[step.clamp(min=0).to(self.fed.device)]

    def times(self, steps: int, start: float = 1.0) -> Tensor:
        """Raises UserError where there are fewer steps from ``start`` on than are asked for."""
        first = max(round(start * self.steps), 1)
        if steps > first:
            raise UserError(
                f"The model's schedule has {first} steps, and {steps} are asked for",
                "take fewer steps",
            )
        if self.spacing == "even":
            wanted = 1 + np.round(np.linspace(first - 1, 0, steps))
        else:
            spaced = lambda_spaced_times(steps, self, first / self.steps)
            wanted = np.round(spaced.numpy()[:-1] * self.steps)
        chosen = _apart([int(step) for step in wanted])
        return torch.tensor([*chosen, 0], dtype=torch.float64) / self.steps

    def _lambdas(self, device: torch.device) -> Tensor:
        """lambda of no step and of each step, ``[steps + 1]``, float64."""
        kept = (1 - self.betas.cpu().double()).cumprod(0)
        noisy = 0.5 * (kept / (1 - kept)).log()
        clean = max(math.log(1 / _CLIP), float(noisy[0]) + math.log(2))
        return torch.cat([noisy.new_tensor([clean]), noisy]).to(device)


_NEAR = 1e-3
"""Steps by which a time may miss a whole step that is meant."""


def cosine_betas(steps: int) -> Tensor:
    """Betas of the discrete cosine schedule (Nichol & Dhariwal 2021, eq. 17), float64."""
    n = torch.arange(steps + 1, dtype=torch.float64)
    kept = ((n / steps + 0.008) / 1.008 * (math.pi / 2)).cos() ** 2
    return (1 - kept[1:] / kept[:-1]).clamp(0, 0.999)


def _apart(steps: list[int]) -> list[int]:
    """Steps that fall, each by one at least, and leave room for those after them."""
    chosen: list[int] = []
    for left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        chosen.append(max(min(step, chosen[-1] - 1) if chosen else step, left))
    return chosen


SCHEDULES: dict[str, type[Cosine | Linear | Discrete]] = {
    "cosine": Cosine,
    "linear": Linear,
    "discrete": Discrete,
}


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
