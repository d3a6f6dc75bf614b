"""The state of a run between two iterations: what is trained, and how far it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..objectives.base import Player
from ..plan.settings import TrainingSettings


@dataclass
class Trained:
    """A player with what training it takes."""

    player: Player
    optimizer: torch.optim.Optimizer
    average: nn.Module | None
    """The moving average of its weights, where one is kept."""

    @property
    def name(self) -> str:
        return self.player.name

    @property
    def module(self) -> nn.Module:
        return self.player.module


@dataclass
class RunState:
    """A run between two iterations."""

    trained: tuple[Trained, ...]
    """The players; the first is what the run is for."""
    micro_batch: int
    recompute: bool = False
    iteration: int = 0
    seconds: float = 0.0
    rate_scale: float = 1.0
    """What the learning rate was lowered to, after the loss had become NaN."""
    rollbacks: int = 0

    @property
    def average(self) -> nn.Module:
        """The moving average of what the run is for: its result."""
        average = self.trained[0].average
        assert average is not None
        return average


def initial_state(players: Sequence[Player], settings: TrainingSettings) -> RunState:
    """A run before its first iteration, with the players' weights as they are."""
    trained = []
    for player in players:
        optimizer = torch.optim.AdamW(
            player.module.parameters(),
            settings.learning_rate * player.rate,
            weight_decay=settings.weight_decay,
        )
        average = None
        if player.averaged:
            average = copy.deepcopy(player.module).requires_grad_(False).eval()
        trained.append(Trained(player, optimizer, average))
    return RunState(tuple(trained), settings.micro_batch or settings.batch, settings.recompute)
