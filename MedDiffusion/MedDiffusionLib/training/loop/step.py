"""One optimizer step: the gradient of a global batch, however many parts it is computed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...compute.distributed import Ranks
from ...compute.errors import UserError
from ...compute.execution import Execution
from ...compute.memory import is_out_of_memory
from ...diffusion.denoiser import Denoiser
from ..objectives.denoising import Batch, Denoising
from ..plan.settings import TrainingSettings
from .checkpoint import RunState


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
        objective: Denoising,
        ranks: Ranks,
        note: Callable[[str], None],
    ) -> None:
        self.state = state
        self.settings = settings
        self.execution = execution
        self.objective = objective
        self.ranks = ranks
        self.note = note

    def step(self, batch: Batch, total: float, learning_rate: float) -> float:
        """Take one step on this process's part of the global batch; returns the global loss.

        ``total``: the global batch's weight. Raises Diverged, and LostProcess.
        """
        state, parameters = self.state, list(self.state.denoiser.parameters())
        loss = torch.tensor(self._gradient(batch, total), dtype=torch.float64)
        self.ranks.all_reduce(loss)
        self.ranks.all_reduce_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        if not (math.isfinite(float(loss)) and math.isfinite(float(norm))):
            raise Diverged
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        state.optimizer.step()
        state.iteration += 1
        decay = min(self.settings.ema, (1 + state.iteration) / (10 + state.iteration))
        update_ema(state.ema, state.denoiser, decay)
        return float(loss)

    def _gradient(self, batch: Batch, total: float) -> float:
        """Gradients of this process's part of the batch; returns its part of the loss."""
        while True:
            network: Any = self.state.denoiser.network
            network.recompute = self.state.recompute
            self.state.optimizer.zero_grad(set_to_none=True)
            try:
                return accumulate(
                    self.state.denoiser, batch, total, self.state.micro_batch,
                    self.execution, self.objective,
                )  # fmt: skip
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # The traceback holds the activations; they must go before the next attempt.
                error.__traceback__ = None
            self._need_less_memory(len(batch))

    def _need_less_memory(self, count: int) -> None:
        state = self.state
        state.optimizer.zero_grad(set_to_none=True)
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
    denoiser: Denoiser,
    batch: Batch,
    total: float,
    micro_batch: int,
    execution: Execution,
    objective: Denoising,
) -> float:
    """Add the batch's gradient to the parameters' in parts; returns its part of the loss.

    ``total``: the weight of the global batch: parts of any sizes, on any number of processes, add
    up to the same loss and gradient.
    """
    losses = []
    for start in range(0, len(batch), micro_batch):
        part = batch.part(start, start + micro_batch).to(execution.device)
        with execution.autocast():
            loss_sum = objective.loss_sum(denoiser, part)
        loss = loss_sum / total
        loss.backward()
        losses.append(loss.detach())
    return float(torch.stack(losses).double().sum())


@torch.no_grad()
def update_ema(ema: Denoiser, denoiser: Denoiser, decay: float) -> None:
    """Move the average of the weights towards the current ones."""
    for kept, current in zip(ema.parameters(), denoiser.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
