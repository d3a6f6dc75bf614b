"""What every quantizer is: it makes of the encoder's output what the decoder sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What the decoder sees of a latent ``[B, C, x, y, z]``.

    ``latent``: of the same shape, with gradients to the encoder; ``loss``: scalar, of the
    quantizer itself; ``indices``: the codes ``[B, x, y, z]`` (int64), None where there are none.
    """

    latent: Tensor
    loss: Tensor
    indices: Tensor | None = None


class Quantizer(nn.Module, ABC):
    """Makes of the encoder's output what the decoder sees; :meth:`bound` is what diffusion sees.

    In training it gathers what it sees in a step, over all its parts, and :meth:`update` learns
    from that: the result does not depend on how the step was split.
    """

    _KEPT = 0.98
    """Of what is known of a step before, in the next one."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self._gathered: list[Tensor] = []

    def bound(self, latent: Tensor) -> Tensor:
        """The encoder's output as it is kept: within a range, where there is one."""
        return latent

    @abstractmethod
    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        """Quantize a bounded latent. ``noise``: standard normal, of its shape, in training.

        What is not finite stays so: nothing hides a NaN.
        """

    @abstractmethod
    def usage(self) -> dict[str, float]:
        """How the latent is used, over the last steps, for the log."""

    @abstractmethod
    def is_collapsed(self) -> bool:
        """Whether the latent says hardly anything, by :meth:`usage`."""

    def forget(self) -> None:
        """A step begins: what an abandoned one gathered does not count."""
        self._gathered = []

    @torch.no_grad()
    def update(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """A step is done: learn from what it gathered; ``reduce`` sums over all processes.

        Nothing is learned from a step with what is not finite.
        """
        if not self._gathered:
            return
        seen = reduce(torch.stack(self._gathered).sum(0)).to(self.steps.device).float()
        self.forget()
        if torch.isfinite(seen).all():
            self.steps += 1
            self._learn(seen, self._KEPT if self.steps > 1 else 0.0)

    @abstractmethod
    def _learn(self, seen: Tensor, kept: float) -> None:
        """Of :meth:`update`; ``kept``: how much of what is known so far remains."""

    @property
    def _gathers(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _gather(self, seen: Tensor) -> None:
        """Take in what :meth:`_learn` is to learn from, of a part of a step."""
        self._gathered.append(seen.detach().double().cpu())
