"""What a planned training needs: memory by a measured rule, time by two real steps.

Memory rule, for training in float32 and under bfloat16 autocast. Measured as peak resident memory
on a CPU, for five networks of 4 to 57 M parameters with and without wavelets, it is within 10 %:

    400 MB of libraries
    + 5 (bf16: 5.5) x weights      weights, gradients, two Adam moments, average; bf16 copies
    + 1.6 (bf16: 0.85) x samples computed at once x what the forward pass of one of them keeps

What a sample keeps is not estimated but counted: the forward pass runs on PyTorch's meta device,
which has shapes and no data. The cases lie on disk, and take none of it however many they are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...bundles.manifest import Manifest, parse_plan_manifest
from ...bundles.model import Model, build_model
from ...compute.devices import choose_device
from ...compute.errors import UserError
from ...compute.execution import choose_execution

_LIBRARIES = 400_000_000
_WEIGHTS_FACTOR, _ACTIVATIONS_FACTOR = 5.0, 1.6
_WEIGHTS_FACTOR_BF16, _ACTIVATIONS_FACTOR_BF16 = 5.5, 0.85
_IMAGES_A_CASE, _LEAST_IMAGES, _MOST_IMAGES = 100, 16_000, 200_000
"""How often each case is to be seen, and how many images a run is to see in all."""


@dataclass(frozen=True)
class Estimate:
    """What a training needs; the seconds of an iteration and the minutes only where measured.

    ``memory_bytes`` is the peak of one process.
    """

    memory_bytes: int
    seconds_per_iteration: float | None
    iterations_recommended: int
    minutes_recommended: float | None


@dataclass(frozen=True)
class Footprint:
    """Bytes that training takes in any case, and those that each sample of a batch adds."""

    fixed: int
    sample: int


def estimate(
    plan: dict[str, Any], device: str, cases: int = 0, *, measure: bool = False
) -> Estimate:
    """Memory and time of a plan's training on ``auto``, ``cpu``, ``cuda`` or ``mps``.

    ``cases`` is how many there are to train on; the recommended length grows with them. With
    ``measure`` two steps are run on the device, which takes seconds and the memory of one sample,
    and its precision counts; otherwise float32 does.
    """
    manifest, batch = parse_plan_manifest(plan["manifest"]), plan["training"]["batch"]
    at_once = plan["training"].get("micro_batch") or batch
    execution = None
    if measure:
        model = build_model(manifest)
        execution = choose_execution(choose_device(device))
    needed = footprint(manifest, bf16=execution is not None and execution.bf16)
    memory = needed.fixed + at_once * needed.sample
    own = plan["training"].get("representation")
    if own and not own.get("from"):
        first = representation_footprint(manifest, tuple(own["patch"]))
        memory = max(memory, first.fixed + own["batch"] * first.sample)
    images = min(max(_IMAGES_A_CASE * cases, _LEAST_IMAGES), _MOST_IMAGES)
    iterations = math.ceil(images / batch)
    if execution is None:
        return Estimate(memory, None, iterations, None)
    network = execution.prepare(model.denoiser).network
    optimizer = torch.optim.AdamW(network.parameters())
    inputs = _inputs(model, execution.device)
    seconds = 0.0
    for _ in range(2):
        # The first step warms up, the second counts.
        start = time.perf_counter()
        with execution.autocast():
            loss = network(*inputs).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # Reading a value back waits for the device to finish.
        float(next(network.parameters()).detach().sum())
        seconds = time.perf_counter() - start
    seconds *= batch
    return Estimate(memory, seconds, iterations, iterations * seconds / 60)


def footprint(manifest: Manifest, *, bf16: bool = False) -> Footprint:
    """The memory of training a manifest's model, by the rule above."""
    meta = torch.device("meta")
    with meta:
        model = build_model(manifest)
    network = model.denoiser.network
    inputs = _inputs(model, meta)
    return _footprint(network, lambda: network(*inputs).square().sum(), bf16=bf16)


def _footprint(module: nn.Module, forward: Callable[[], Tensor], *, bf16: bool) -> Footprint:
    """Of training a module on the meta device; ``forward`` computes a sample's loss."""
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            # Held until the end, or a storage freed meanwhile could hand its number to the next.
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    parameters = sum(4 * parameter.numel() for parameter in module.parameters())
    return Footprint(
        _LIBRARIES + int((_WEIGHTS_FACTOR_BF16 if bf16 else _WEIGHTS_FACTOR) * parameters),
        int((_ACTIVATIONS_FACTOR_BF16 if bf16 else _ACTIVATIONS_FACTOR) * activations),
    )


def representation_footprint(manifest: Manifest, patch: tuple[int, int, int]) -> Footprint:
    """The memory of training a manifest's representation on patches, by the rule above."""
    meta = torch.device("meta")
    with meta:
        model = build_model(manifest)
        image = torch.zeros(1, len(manifest.channels), *patch)
        labels = torch.zeros(1, *patch, dtype=torch.long)
        annotated = torch.ones(1, len(manifest.labels))
    representation: Any = model.representation
    return _footprint(
        representation,
        lambda: representation.reconstruct(image, labels, annotated)[0].square().sum(),
        bf16=False,
    )


def check_memory(manifest: Manifest, device: torch.device) -> None:
    """Raise UserError where training could not even begin: before any memory is taken for it."""
    needed, there = footprint(manifest).fixed, _memory(device)
    if there is not None and needed > there:
        raise UserError(
            f"Training this plan needs at least {needed / 1e9:,.1f} GB of memory, and there are "
            f"{there / 1e9:,.1f} GB",
            "give the plan fewer channels in its network, or use a larger device",
        )


def _memory(device: torch.device) -> int | None:
    """All memory of a device in bytes, used or not; None where it does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _inputs(model: Model, device: torch.device) -> tuple[Tensor, ...]:
    """A sample as the network takes it: latent, time, label indices, annotated labels."""
    return (
        torch.ones(1, *model.latent_shape, device=device),
        torch.full((1,), 0.5, device=device),
        torch.zeros(1, *model.manifest.grid.size, dtype=torch.long, device=device),
        torch.ones(1, len(model.labels), device=device),
    )
