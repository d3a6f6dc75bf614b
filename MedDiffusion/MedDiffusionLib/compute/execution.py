"""Where and how the network runs: device, precision and memory format."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from ..bundles.bundle import build_denoiser, build_representation
from ..bundles.catalog import user_folder
from ..bundles.manifest import Manifest
from ..diffusion.denoiser import Denoiser
from .errors import UserError
from .files import write_json

_PROBE_SIZE = 16
"""Latent voxels along each axis of the timing probe; fits networks of up to five levels."""


@dataclass(frozen=True)
class Execution:
    """Device, autocast precision and memory format of a run."""

    device: torch.device
    bf16: bool = False
    channels_last: bool = False

    def prepare(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser on the device in this memory format; its weights stay float32."""
        layout = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        # torch's stubs do not know this overload.
        return denoiser.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in bfloat16, where that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``mps``; raises UserError where the device is absent."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(n for n in ("cuda", "mps", "cpu") if available[n]))
    if not available.get(name, False):
        raise UserError(
            f"No {name} device is available here", "choose auto or cpu", code="device-missing"
        )
    return torch.device(name)


def choose_execution(device: torch.device, manifest: Manifest) -> Execution:
    """The fastest precision and memory format for this network on this machine.

    Measured once and kept in the user's folder, because a choice that flipped from run to run
    would change the last bits of the results. Without a writable folder it is measured anew.
    """
    path = user_folder() / "execution.json"
    key = f"{_device_name(device)}, torch {torch.__version__}, {_architecture(manifest)}"
    known: dict[str, Any] = {}
    try:
        known = json.loads(path.read_text("utf-8"))
        return Execution(device, *(bool(known[key][n]) for n in ("bf16", "channels_last")))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    execution = _fastest(device, manifest)
    choice = {"bf16": execution.bf16, "channels_last": execution.channels_last}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**(known if isinstance(known, dict) else {}), key: choice})
    except OSError:
        pass
    return execution


def _fastest(device: torch.device, manifest: Manifest) -> Execution:
    if device.type == "mps":
        return Execution(device)
    candidates = [Execution(device, b, c) for b in (True, False) for c in (True, False)]
    return min(candidates, key=lambda execution: _seconds(execution, manifest))


@torch.inference_mode()
def _seconds(execution: Execution, manifest: Manifest) -> float:
    """The best of three forward passes of the untrained network on a small latent."""
    denoiser = execution.prepare(build_denoiser(manifest.content).eval())
    representation = build_representation(manifest.content)
    channels = len(manifest.channels) * representation.channels
    size, full_size = [_PROBE_SIZE] * 3, [_PROBE_SIZE * representation.factor] * 3
    x = torch.zeros(1, channels, *size, device=execution.device)
    labels = torch.zeros(1, *full_size, dtype=torch.long, device=execution.device)
    present = torch.ones(1, len(manifest.labels), device=execution.device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with execution.autocast():
            # Reading a value back waits for the device to finish.
            float(denoiser(x, torch.ones(1, device=x.device), labels, present).sum())
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} x{torch.get_num_threads()}"


def _architecture(manifest: Manifest) -> str:
    return json.dumps(manifest.content["architecture"], sort_keys=True)
