"""What an objective is: whom it trains, by which losses, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ...compute.distributed import Ranks


@dataclass(frozen=True)
class Player:
    """A part that is trained by a loss and an optimizer of its own.

    ``rate``: its learning rate, as a factor of the plan's; ``starts_at``: how much of the run is
    done when it starts, from 0 to 1; ``averaged``: a moving average of its weights is kept.
    Everything that a checkpoint must hold is in ``module.state_dict()``.
    """

    name: str
    module: nn.Module
    rate: float = 1.0
    starts_at: float = 0.0
    averaged: bool = True


class Objective(Protocol):
    """What a run learns. The first player's average is what it is trained for.

    A step takes the gradients of all players that have started, part by part of its batch and for
    each part in the players' order, before any of them moves: what one call of :meth:`loss_sum`
    computes for a part may be used by the next. The result must not depend on how a batch is split:
    what is gathered over a batch is summed over the processes in :meth:`finish`.
    """

    @property
    def players(self) -> tuple[Player, ...]: ...

    recompute: bool
    """Whether activations are computed anew in the backward pass, to save memory."""

    def weight(self, batch: Any) -> float:
        """What a batch counts: the sum of losses over this is the mean loss."""

    def begin(self, progress: float) -> None:
        """A step begins, perhaps anew after one that was given up: nothing is gathered yet.

        ``progress``: how much of the run is done, from 0 to 1.
        """

    def loss_sum(self, player: str, batch: Any) -> Tensor:
        """A player's loss, weighted and summed over a part of the batch (scalar)."""

    def finish(self, ranks: Ranks) -> None:
        """The gradients are there and finite: take in what was gathered, of all processes.

        Raises LostProcess before anything is changed.
        """

    def error_sum(self, trained: Any, batch: Any) -> Tensor:
        """The loss that validation takes, of the first player's module or its average."""

    def figures(self) -> dict[str, float]:
        """What the log says beside the loss."""

    def alarms(self) -> list[str]:
        """What is wrong, in sentences; the run says each of them once."""
