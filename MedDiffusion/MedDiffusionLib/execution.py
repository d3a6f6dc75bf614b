"""Where and how the network runs: device, precision and memory format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from .denoiser import Denoiser
from .errors import UserError


@dataclass(frozen=True)
class Execution:
    """Device, autocast precision and memory format of a run."""

    device: torch.device
    bf16: bool
    channels_last: bool

    def prepare(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser on the device in this memory format; its weights stay float32."""
        layout = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        return denoiser.to(self.device).to(memory_format=layout)

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in bfloat16, where that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``mps``; raises UserError where the device is absent."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        return torch.device(next(n for n in ("cuda", "mps", "cpu") if available[n]))
    if not available.get(name, False):
        raise UserError(f"No {name} device is available here: use --device auto or --device cpu.")
    return torch.device(name)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
