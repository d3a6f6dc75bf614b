"""Several processes on one run: who this one is, and what they tell each other.

Gradients are summed by one all-reduce a step instead of by DistributedDataParallel's hooks inside
the backward pass: each process may then split its share into micro-batches as its own memory
allows, and repeat them after running out of it, while the others simply wait.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import UserError
from .parsing import parse_integer, parse_json

_PATIENCE = timedelta(days=1)
"""How long a process waits for one that is silent: the first checks and prepares all cases, which
may take hours, while the others wait; a dead one shows at once."""


class LostProcess(Exception):
    """Another process of the run is gone; this one's last finished step is whole."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """This process's part of ``count`` things in a row: from, to."""
        return count * self.rank // self.world, count * (self.rank + 1) // self.world

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, in place; raises LostProcess."""
        if self.world > 1:
            with _lost_process():
                dist.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; raises LostProcess."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        summed = self.all_reduce(torch.cat([g.reshape(-1) for g in gradients]))
        parts = summed.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def broadcast(self, value: Any) -> Any:
        """The main process's ``value``, which JSON can hold, in every process."""
        if self.world == 1:
            return value
        content = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with _lost_process():
            dist.broadcast(length, 0)
            content = content if self.is_main else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0)
        return parse_json(bytes(content.tolist()))


def ranks_here() -> Ranks:
    """This process's place as torchrun tells it; the only one without torchrun.

    Raises UserError where the environment says what torchrun never would.
    """
    try:
        rank, world, local = (
            parse_integer(os.environ.get(name) or usual)
            for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
        )
    except ValueError:
        rank, world, local = 0, 0, 0
    if not (0 <= rank < world and local >= 0):
        raise UserError(
            "RANK, LOCAL_RANK and WORLD_SIZE in the environment are not as torchrun sets them",
            "remove them, or start with torchrun",
        )
    return Ranks(rank, world)


def choose_local_device() -> None:
    """Let "cuda" mean this process's own device, where a machine has several."""
    count = torch.cuda.device_count()
    if count:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % count)


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone without torchrun.

    Small agreements go through gloo on the CPU whatever the device, since gloo notices a dead
    process at once.
    """
    ranks = ranks_here()
    if ranks.world == 1:
        yield ranks
        return
    # Its functions keep the group that exists when they are imported, which optimizers do. Kept
    # beyond its end, the group's threads run on while the interpreter shuts down, and abort it.
    import torch.distributed.nn  # noqa: F401

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


@contextmanager
def _lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(str(error)) from error
