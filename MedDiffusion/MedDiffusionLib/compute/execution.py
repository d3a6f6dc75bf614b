"""How a network runs: device, precision and memory format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

_Module = TypeVar("_Module", bound=nn.Module)
_AMPERE = (8, 0)
"""The compute capability from which on NVIDIA's tensor cores know bfloat16."""


@dataclass(frozen=True)
class Execution:
    """Device, autocast precision and memory format of a run."""

    device: torch.device
    bf16: bool = False
    channels_last: bool = False

    def prepare(self, module: _Module) -> _Module:
        """The module on the device in this memory format; its weights stay float32."""
        layout = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        # torch's stubs do not know this overload.
        return module.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]

    @property
    def precision(self) -> str:
        """In which numbers convolutions are computed."""
        return "bfloat16" if self.bf16 else "float32"

    @property
    def memory_format(self) -> str:
        """In which order a tensor's numbers lie in memory."""
        return "channels last" if self.channels_last else "contiguous"

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in bfloat16, where that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def choose_execution(device: torch.device) -> Execution:
    """The precision and memory format for a device, by what its hardware computes natively.

    By a rule and not by measuring, so that the same machine always gives the same bits. bfloat16
    where the processor multiplies in it: elsewhere it is emulated, and slower than float32.
    Channels last is what oneDNN and the tensor cores compute in; where there are none of either
    nothing is gained by it.
    """
    if device.type == "cuda":
        has_tensor_cores = torch.cuda.get_device_capability(device) >= _AMPERE
        return Execution(device, bf16=has_tensor_cores, channels_last=has_tensor_cores)
    if device.type == "cpu":
        return Execution(device, bf16=_cpu_has_bf16(), channels_last=True)
    return Execution(device)


def _cpu_has_bf16() -> bool:
    # torch tells of Intel's and AMD's processors only, and not in every version.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
