"""Batches: what an objective learns from; the run knows them by their length and parts alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

_Batch = TypeVar("_Batch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Tensors of samples, an axis for the samples in front; or of one sample, then without it.

    An objective's batch is a dataclass of this kind, with tensors alone.
    """

    def __len__(self) -> int:
        return len(self._tensors()[0])

    def part(self: _Batch, start: int, stop: int) -> _Batch:
        """The samples from ``start`` to before ``stop``."""
        return type(self)(*(tensor[start:stop] for tensor in self._tensors()))

    def to(self: _Batch, device: torch.device) -> _Batch:
        """The batch on a device."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def pin_memory(self: _Batch) -> _Batch:
        """For the data loader: where a GPU fetches it without the CPU's help."""
        return type(self)(*(tensor.pin_memory() for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


def stack(samples: Sequence[_Batch]) -> _Batch:
    """Single samples as a batch."""
    columns = zip(*(sample._tensors() for sample in samples), strict=True)
    return type(samples[0])(*(torch.stack(column) for column in columns))


class BatchSamples(Dataset[Batch], ABC):
    """Samples by number, each a function of its number and a seed, for batches of ``batch``."""

    batch: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Batch: ...
