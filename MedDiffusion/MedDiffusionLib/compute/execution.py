"""How a network runs: device, precision and memory format."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from .files import user_folder, write_json

_Module = TypeVar("_Module", bound=nn.Module)


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

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in bfloat16, where that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def choose_execution(
    device: torch.device, what: str, seconds: Callable[[Execution], float]
) -> Execution:
    """The fastest precision and memory format on a device, by ``seconds``, which measures one.

    Measured once for each ``what`` (a network in words) and kept in the user's folder, because a
    choice that flipped from run to run would change the last bits of the results. Without a
    writable folder it is measured anew.
    """
    if device.type == "mps":
        return Execution(device)
    path = user_folder() / "execution.json"
    key = f"{_device_name(device)}, torch {torch.__version__}, {what}"
    known: dict[str, dict[str, bool]] = {}
    try:
        known = json.loads(path.read_text("utf-8"))
        return Execution(device, *(bool(known[key][n]) for n in ("bf16", "channels_last")))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    candidates = [Execution(device, b, c) for b in (True, False) for c in (True, False)]
    execution = min(candidates, key=seconds)
    choice = {"bf16": execution.bf16, "channels_last": execution.channels_last}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**(known if isinstance(known, dict) else {}), key: choice})
    except OSError:
        pass
    return execution


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} x{torch.get_num_threads()}"
