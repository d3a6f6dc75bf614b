"""One optimizer step: the gradient of a global batch, however many parts it is computed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...compute.distributed import Ranks
from ...compute.errors import UserError
from ...compute.execution import Execution
from ...compute.memory import is_out_of_memory
from ...diffusion.denoiser import Denoiser
from ...diffusion.representations import Representation
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
        representation: Representation,
        ranks: Ranks,
        note: Callable[[str], None],
    ) -> None:
        self.state = state
        self.settings = settings
        self.execution = execution
        self.representation = representation
        self.ranks = ranks
        self.note = note

    def step(self, batch: list[Tensor], total: float, rate: float) -> float:
        """Take one step on this process's part of the global batch; returns the global loss.

        ``total``: the global batch's ``denoiser.total_weight``. Raises Diverged, and LostProcess.
        """
        state, parameters = self.state, list(self.state.denoiser.parameters())
        loss = torch.tensor(self._gradient(batch, total), dtype=torch.float64)
        self.ranks.add(loss)
        self.ranks.add_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        if not (math.isfinite(float(loss)) and math.isfinite(float(norm))):
            raise Diverged
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.iteration += 1
        decay = min(self.settings.ema, (1 + state.iteration) / (10 + state.iteration))
        update_average(state.average, state.denoiser, decay)
        return float(loss)

    def _gradient(self, batch: list[Tensor], total: float) -> float:
        """Gradients of this process's part of the batch; returns its part of the loss."""
        while True:
            network: Any = self.state.denoiser.network
            network.recompute = self.state.recompute
            self.state.optimizer.zero_grad(set_to_none=True)
            try:
                return accumulate(
                    self.state.denoiser, batch, total, self.state.micro_batch,
                    self.execution, self.representation,
                )  # fmt: skip
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # The traceback holds the activations; they must go before the next attempt.
                error.__traceback__ = None
            self._need_less_memory(len(batch[0]))

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
    batch: list[Tensor],
    total: float,
    micro_batch: int,
    execution: Execution,
    representation: Representation,
) -> float:
    """Add the batch's gradient to the parameters' in parts; returns its part of the loss.

    ``batch`` is a batch of ``dataset.DiffusionSamples``, ``total`` the weight of the global batch:
    parts of any sizes, on any number of processes, add up to the same loss and gradient.
    """
    losses = []
    for start in range(0, len(batch[0]), micro_batch):
        images, labels, present, weight, time, noise = (
            tensor[start : start + micro_batch].to(execution.device, non_blocking=True)
            for tensor in batch
        )
        with execution.autocast():
            error = denoiser.squared_error(
                representation.encode(images), labels.long(), present, weight, time, noise
            )
        loss = error / total
        loss.backward()
        losses.append(loss.detach())
    return float(torch.stack(losses).double().sum())


@torch.no_grad()
def update_average(average: Denoiser, denoiser: Denoiser, decay: float) -> None:
    """Move the average of the weights towards the current ones."""
    for kept, current in zip(average.parameters(), denoiser.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
