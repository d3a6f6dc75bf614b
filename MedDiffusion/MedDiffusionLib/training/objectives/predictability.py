"""How well diffusion can learn a latent: measured before hours are spent on it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...compute.execution import Execution
from ...diffusion.denoiser import Denoiser, total_weight
from ...diffusion.networks.resunet import ResUNet
from ...diffusion.parameterizations import PARAMETERIZATIONS
from ...diffusion.schedules import Cosine

STEPS = 200
LARGEST = (24, 28, 24)
"""Latent voxels that are looked at; of larger latents, parts."""
UNPREDICTABLE = 0.9
"""The loss above which a latent is called unpredictable; noise has 1."""
_BATCH = 2
_LAST = 0.25
"""Share of the steps whose mean loss is the result."""


def predictability(
    latents: Tensor, execution: Execution, seed: int = 0, steps: int = STEPS
) -> float:
    """The v loss (Salimans & Ho 2022) that a small denoiser reaches in so many steps.

    ``latents``: ``[N, C, x, y, z]``, float32, of mean 0 and deviation 1. No label map is given:
    it says what an image's neighbourhoods tell of each other. White noise has 1; less is better.
    """
    random = torch.Generator().manual_seed(seed)
    size = [min(n, most) for n, most in zip(latents.shape[2:], LARGEST, strict=True)]
    size = [n - n % 2 for n in size]
    channels = latents.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResUNet(channels, 1, (1, 1, 1), (32, 64), 1, 8, 64, label_channels=1)
    denoiser = execution.prepare(Denoiser(network, Cosine(), PARAMETERIZATIONS["v"]))
    optimizer = torch.optim.AdamW(denoiser.parameters(), 2e-3)
    weight = torch.ones(_BATCH, 1, *size)
    nothing = torch.zeros(_BATCH, *size, dtype=torch.long), torch.zeros(_BATCH, 1)
    losses = []
    for step in range(steps):
        x0 = torch.stack([_part(latents, size, random) for _ in range(_BATCH)])
        t = (torch.arange(_BATCH) + torch.rand((), generator=random)) / _BATCH
        noise = torch.randn(x0.shape, generator=random)
        moved = [part.to(execution.device) for part in (x0, *nothing, weight, t, noise)]
        with execution.autocast():
            loss = denoiser.loss_sum(*moved) / total_weight(weight, channels)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses[-max(1, int(_LAST * steps)) :]).mean())


def _part(latents: Tensor, size: list[int], random: torch.Generator) -> Tensor:
    """A part of one of the latents."""
    part = latents[int(torch.randint(len(latents), (), generator=random))]
    for axis, wanted in enumerate(size, start=1):
        start = int(torch.randint(part.shape[axis] - wanted + 1, (), generator=random))
        part = part.narrow(axis, start, wanted)
    return part
