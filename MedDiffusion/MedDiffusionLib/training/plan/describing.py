"""A plan in words: what it is, why its representation was chosen, and what it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .contents import listed
from .estimates import Estimate
from .layouts import HAAR_VOXELS, HAAR_VOXELS_CPU, IDENTITY_VOXELS

LEARNED = "autoencoder"
"""The representation that is planned for large grids."""
_LEAST_CASES, _LEAST_MINUTES, _LEAST_MINUTES_CPU = 10, 5.0, 20.0


def why_not_learned(cases: int, device: str, minutes: float | None) -> str:
    """Why no latent may be learned, in words; empty where one may (rule 5)."""
    if cases < _LEAST_CASES:
        return f"{cases} cases are too few to learn a latent from"
    least = _LEAST_MINUTES_CPU if device == "cpu" else _LEAST_MINUTES
    if minutes is not None and minutes < least:
        return f"{minutes:g} minutes are too few to learn a latent in"
    return ""


def why_representation(manifest: dict[str, Any], device: str, refusal: str) -> str:
    """Why the rules choose what they choose for a plan's grid; ``refusal``: why no latent may be
    learned."""
    count = math.prod(manifest["grid"]["size"])
    haar = HAAR_VOXELS_CPU if device == "cpu" else HAAR_VOXELS
    name = manifest["architecture"]["representation"]["name"]
    if name == "identity":
        return f"{count:,} voxels, up to {IDENTITY_VOXELS:,} as they are"
    if name == "haar":
        more = f"; {refusal}, so the grid is no finer" if refusal else ""
        return f"{count:,} voxels, up to {haar:,} in wavelets{more}"
    return f"{count:,} voxels, more than the {haar:,} that wavelets are good for"


def describe_plan(
    plan: dict[str, Any], estimate: Estimate, disk_bytes: int, reason: str = ""
) -> str:
    """The plan and what it needs as text; ``disk_bytes`` are what the cases take on disk,
    ``reason`` why it has its representation."""
    manifest, training = plan["manifest"], plan["training"]
    grid, network = manifest["grid"], manifest["architecture"]["network"]
    representation = manifest["architecture"]["representation"]
    if representation["name"] == LEARNED:
        to_one = f"{_times(representation['factors'])} voxels to one"
        shown = f"learned, {to_one}, channels {representation['latent_channels']}"
    else:
        levels = f", levels {representation['levels']}" if "levels" in representation else ""
        shown = f"{representation['name']}{levels}"
    labels = [label["name"] for label in manifest["labels"]]
    extent = [n * s for n, s in zip(grid["size"], grid["spacing"], strict=True)]
    flips = "left-right flips" if training["augmentation"]["flip_axes"] else "no flips"
    lines = [
        f"Grid            {_times(grid['size'])} voxels of {_times(grid['spacing'])} mm, "
        f"{grid['orientation']}",
        f"Field of view   {_times(extent)} mm",
        f"Labels          {len(labels)}: {listed(labels)}" if labels else "Labels          none",
        f"Contrasts       {', '.join(c['name'] for c in manifest['channels'])}",
        f"Representation  {shown}{f': {reason}' if reason else ''}",
        f"Network         {network['name']}, widths {', '.join(map(str, network['channels']))}",
        f"Training        batch {training['batch']}, learning rate {training['learning_rate']:g}, "
        f"{flips}",
        *_stages(training),
        *_guidance(training),
        *(
            ["Random maps     drawn from distances or, where a label is thin, from templates"]
            if labels
            else []
        ),
        f"Memory          {estimate.memory_bytes / 1e9:.1f} GB",
        f"Disk            {disk_bytes / 1e9:.1f} GB for the cases, until the training is done",
    ]
    time = f"at least {estimate.iterations_recommended:,} iterations"
    if estimate.seconds_per_iteration is not None and estimate.minutes_recommended is not None:
        time += (
            f" of about {estimate.seconds_per_iteration:.2g} s: "
            f"{estimate.minutes_recommended / 60:.1f} hours"
        )
    return "\n".join([*lines, f"Length          {time}"])


def _stages(training: dict[str, Any]) -> list[str]:
    """What is said of the first stage, where there is one."""
    own = training.get("representation")
    if not own:
        return []
    if own.get("from"):
        return [f"Stages          the representation is that of {own['from']}; the denoiser"]
    return [
        f"Stages          the representation ({own['share']:.0%} of the run, patches of "
        f"{_times(own['patch'])}, batch {own['batch']}), then the denoiser, on {own['views']} "
        "latents of each case"
    ]


def _guidance(training: dict[str, Any]) -> list[str]:
    """What is said of guidance, where it is learned."""
    own = training.get("distillation") or {}
    if not own.get("share"):
        return []
    return [f"Guidance        learned in the last {own['share']:.0%} of the run"]


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
