"""One optimizer step: the gradient of a global batch, however many parts it is computed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ...compute.distributed import Ranks
from ...compute.errors import UserError
from ...compute.execution import Execution
from ...compute.memory import is_out_of_memory
from ..objectives.base import Objective
from ..objectives.batch import Batch
from ..plan.settings import TrainingSettings
from .state import RunState, Trained


class Diverged(Exception):
    """The loss or the gradient became NaN or infinite; the weights are those before the step."""


class Stepper:
    """Takes optimizer steps with a run's state, within the memory that there is.

    Out of memory, it halves the micro-batch, then computes activations anew in the backward pass,
    then raises UserError; each change goes to ``note`` as a sentence and the batch is repeated.
    """

    def __init__(
        self,
        state: RunState,
        settings: TrainingSettings,
        execution: Execution,
        objective: Objective,
        ranks: Ranks,
        note: Callable[[str], None],
    ) -> None:
        self.state = state
        self.settings = settings
        self.execution = execution
        self.objective = objective
        self.ranks = ranks
        self.note = note

    def step(self, batch: Batch, total: float, learning_rate: float, progress: float) -> float:
        """Take one step on this process's part of the global batch; returns the first player's
        global loss.

        ``total``: the global batch's weight; ``progress``: how much of the run is done, which says
        who plays. Raises Diverged, and LostProcess; either leaves the weights as they were.
        """
        state = self.state
        playing = [t for t in state.trained if progress >= t.player.starts_at]
        losses = torch.tensor(self._gradients(playing, batch, total, progress), dtype=torch.float64)
        self.ranks.all_reduce(losses)
        norms = []
        for trained in playing:
            parameters = list(trained.module.parameters())
            self.ranks.all_reduce_gradients(parameters)
            norms.append(float(nn.utils.clip_grad_norm_(parameters, self.settings.clip)))
        if not all(map(math.isfinite, [*losses.tolist(), *norms])):
            raise Diverged
        self.objective.finish(self.ranks)
        state.iteration += 1
        decay = min(self.settings.ema, (1 + state.iteration) / (10 + state.iteration))
        for trained in playing:
            for group in trained.optimizer.param_groups:
                group["lr"] = learning_rate * trained.player.rate
            trained.optimizer.step()
            if trained.average is not None:
                update_ema(trained.average, trained.module, decay)
        return float(losses[0])

    def _gradients(
        self, playing: Sequence[Trained], batch: Batch, total: float, progress: float
    ) -> list[float]:
        """Gradients of this process's part of the batch; returns its part of each loss."""
        while True:
            self.objective.recompute = self.state.recompute
            self.objective.begin(progress)
            _clear(playing)
            try:
                return accumulate(
                    self.objective, playing, batch, total, self.state.micro_batch, self.execution
                )
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # The traceback holds the activations; they must go before the next attempt.
                error.__traceback__ = None
            _clear(playing)
            self._need_less_memory(len(batch))

    def _need_less_memory(self, count: int) -> None:
        state = self.state
        if self.execution.device.type == "cuda":
            torch.cuda.empty_cache()
        if state.micro_batch > 1:
            state.micro_batch = max(1, min(state.micro_batch, count) // 2)
            parts = -(-count // state.micro_batch)
            self.note(
                f"Out of memory: the micro-batch is now {state.micro_batch}, in {parts} parts a "
                "step; the result is the same."
            )
        elif not state.recompute:
            state.recompute = True
            self.note(
                "Out of memory with one sample: activations are now computed anew in the backward "
                "pass, which takes longer; the result is the same."
            )
        else:
            raise UserError(
                "Out of memory with one sample at a time",
                "give the plan a smaller grid, fewer channels in its network, or a coarser "
                "representation, or use a larger device",
            )


def accumulate(
    objective: Objective,
    playing: Sequence[Trained],
    batch: Batch,
    total: float,
    micro_batch: int,
    execution: Execution,
) -> list[float]:
    """Add the batch's gradient to the players' parameters in parts; returns its part of each loss.

    ``total``: the weight of the global batch: parts of any sizes, on any number of processes, add
    up to the same loss and gradient.
    """
    losses = []
    for start in range(0, len(batch), micro_batch):
        part = batch.part(start, start + micro_batch).to(execution.device)
        for trained in playing:
            with execution.autocast():
                loss_sum = objective.loss_sum(trained.name, part)
            loss = loss_sum / total
            # One player's loss may be computed through another, whose gradient it is not.
            loss.backward(inputs=list(trained.module.parameters()))
            losses.append(loss.detach())
    by_player: list[float] = torch.stack(losses).view(-1, len(playing)).double().sum(0).tolist()
    return by_player


def _clear(playing: Sequence[Trained]) -> None:
    for trained in playing:
        trained.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def update_ema(ema: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average of the weights towards the current ones; buffers are taken as they are."""
    for kept, current in zip(ema.parameters(), module.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
    for held, now in zip(ema.buffers(), module.buffers(), strict=True):
        held.copy_(now)
