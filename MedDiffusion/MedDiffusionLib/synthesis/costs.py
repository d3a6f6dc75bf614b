"""What a synthesis takes, known before it starts: memory, blocks and time.

Memory beyond what the process has already, as peak bytes: of sampling, eight latents of the region
and the network on one block; of the output, the region's image and the volumes themselves, with
what interpolating them takes. What the network takes is the share below of all that its layers put
out, which are counted on a small grid, and grow with the voxels: five networks
of fields of view of 64 to 160 voxels took 0.14 to 0.30 of it. (PyTorch's meta device would count
without computing, and takes a second to load.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..bundles.model import Model, smallest_latent
from ..compute.errors import UserError
from ..compute.memory import available_memory
from ..diffusion.blocks import block_starts
from ..diffusion.schedules import NoiseSchedule
from ..volumes.resampling import share_lattice
from ..volumes.volume import Grid
from .settings import ResolvedSettings

LONGEST = 3600.0
"""Seconds that a synthesis may take unasked."""
_LATENTS = 8
_NETWORK_SHARE = 0.3
_LABEL_BYTES, _SOURCE_BYTES = 12, 16
"""For each voxel of the region, and of the label map where it is interpolated."""
_SPLINE_BYTES, _SPLINE_SOURCE_BYTES = 21, 16
"""For each voxel that is interpolated, and of the image that it is interpolated from."""


@dataclass(frozen=True)
class Costs:
    """What making some samples takes; ``seconds`` only where they were measured.

    ``memory_bytes`` is the peak of the main memory beyond what is in use already, ``device_bytes``
    that of a GPU's own (0 on a CPU).
    """

    region: tuple[int, int, int]
    output: tuple[int, int, int]
    memory_bytes: int
    device_bytes: int
    blocks: int
    evaluations: int
    seconds: float | None = None

    def describe(self) -> str:
        """What there is to be computed, as a clause."""
        region, output = (" x ".join(map(str, size)) for size in (self.region, self.output))
        blocks = "1 block" if self.blocks == 1 else f"{self.blocks:,} blocks"
        return (
            f"a region of {region} voxels in {blocks}, {self.evaluations:,} evaluations of the "
            f"network, a volume of {output} voxels"
        )


def estimate_costs(
    model: Model,
    source: Grid | None,
    region: Grid,
    target: Grid,
    settings: ResolvedSettings,
    samples: int,
    network: int,
    device: torch.device,
) -> Costs:
    """The costs, without seconds, of ``samples`` from a label map on the grid ``source``, or none.

    ``region``: the grid to synthesize on; ``target``: that of the volumes; ``network``: of
    :func:`network_bytes`.
    """
    factors, channels = model.representation.factors, len(model.channels)
    voxels, out = math.prod(region.size), math.prod(target.size)
    latent = 4 * model.representation.latent_channels * voxels // math.prod(factors)
    starts = [
        len(block_starts(n, block))
        for n, block in zip(
            model.representation.latent_size(region.size), model.latent_size, strict=True
        )
    ]
    blocks = math.prod(starts)
    labels = _LABEL_BYTES * voxels
    if source is not None and not share_lattice(source, region):
        labels += _SOURCE_BYTES * math.prod(source.size)
    sampling = _LATENTS * latent + network
    # Decoding holds the latent and the image twice, and what a learned one takes; then the volumes
    # come one by one.
    image = 4 * channels * voxels
    decoding = model.representation.decoding_bytes(region.size)
    output = image + 4 * channels * out
    if not share_lattice(region, target):
        spacing = region.spacing.prod() / target.spacing.prod()
        output += int(_SPLINE_SOURCE_BYTES * voxels + _SPLINE_BYTES * min(out, voxels * spacing))
    on_device = device.type != "cpu"
    decoded = latent + 3 * image + decoding
    peak = [labels, output, decoded, *([] if on_device else [voxels + sampling])]
    return Costs(
        region.size, target.size, max(peak), sampling + 3 * image + decoding if on_device else 0,
        blocks, samples * blocks * _evaluations(model.denoiser.schedule, settings),
    )  # fmt: skip


def _evaluations(schedule: NoiseSchedule, settings: ResolvedSettings) -> int:
    """Of a block in a sample: one a step, two where there is guidance."""
    levels = schedule(schedule.times(settings.steps)[:-1])[1].tolist()
    return sum(1 if settings.guidance_at(level) == 1 else 2 for level in levels)


def check_memory(costs: Costs, device: torch.device) -> None:
    """Raise UserError where a synthesis takes more memory than the machine has free."""
    main, own = available_memory(torch.device("cpu")), available_memory(device)
    for needed, free, where in (
        (costs.memory_bytes, main, "memory"),
        (costs.device_bytes, own, "the GPU's memory"),
    ):
        if free is not None and needed > free:
            raise _too_much(
                f"needs about {_gigabytes(needed)} of {where}, and {_gigabytes(free)} are free",
                costs,
            )


def check_time(costs: Costs) -> None:
    """Raise UserError where a synthesis takes longer than an hour, as far as that is known."""
    if costs.seconds is not None and costs.seconds > LONGEST:
        raise _too_much(f"takes about {duration(costs.seconds)}", costs)


def duration(seconds: float) -> str:
    """So many seconds in words: ``40 seconds``, ``25 minutes``, ``3.5 hours``."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} hours"


@torch.inference_mode()
def network_bytes(model: Model) -> int:
    """The memory of the network on one block, by the rule above."""
    network = model.denoiser.network
    device = next(network.parameters()).device
    # Twice the smallest: no norm takes a single voxel.
    latent = [
        min(2 * n, m) for n, m in zip(smallest_latent(network), model.latent_size, strict=True)
    ]
    size = [n * f for n, f in zip(latent, model.representation.factors, strict=True)]
    with _counted(network) as outputs:
        network(
            torch.zeros(1, model.representation.latent_channels, *latent, device=device),
            torch.ones(1, device=device),
            torch.zeros(1, *size, dtype=torch.long, device=device),
            torch.ones(1, len(model.labels), device=device),
        )
    larger = math.prod(model.latent_size) / math.prod(latent)
    return int(_NETWORK_SHARE * sum(outputs) * larger)


@contextmanager
def _counted(network: nn.Module) -> Iterator[list[int]]:
    """The bytes, in float32, that each layer puts out."""
    outputs: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(4 * output.numel())

    layers = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _too_much(clause: str, costs: Costs) -> UserError:
    return UserError(
        f"This {clause} ({costs.describe()})",
        "crop the label map to the region of interest, stay on the model's own grid or use a "
        "coarser label map, take fewer steps or samples, or accept it expressly",
        code="too-much",
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
