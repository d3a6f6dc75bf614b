"""A training plan chosen from the data, in the form of a preset. The rules:

1.  Orientation: RAS.
2.  Spacing: the median of the cases along each axis. Where the coarsest axis is more than 3 times
    the finest, its 10th percentile, but nothing finer than the other axes (as nnU-Net does). Axes
    within 25 % of each other get their geometric mean.
3.  Field of view: the 95th percentile of the labelled boxes and 12 mm on each side, at most the
    median scan.
4.  Grid: at most 128^3 voxels on a CPU, 192^3 elsewhere; beyond, the finest axes get coarser.
5.  Representation: the voxels themselves up to 24^3 of them; one Haar level up to 96^3 on a CPU,
    128^3 elsewhere; above, a learned latent of 4 voxels to one along each axis (2 along one of
    voxels twice as thick as the finest), for which there must be 10 cases and, where the time is
    told, 20 minutes on a CPU, 5 elsewhere. Otherwise the grid gets coarser until one Haar level is
    enough. (Two Haar levels do not learn: measured.)
6.  Levels of the network: three, or as many as leave its coarsest grid 3 voxels along the shortest
    axis. The grid's size is rounded up to multiples of what the levels halve.
7.  Width: 32, 48 or 64 for voxels, a Haar level or a learned latent on a CPU, 64, 96 or 128
    elsewhere; a tenth more for each contrast after the first, at most twice; rounded to 16; doubled
    below the top. A learned latent has 4 channels, and 2 more for each contrast after the first.
8.  Memory: that given, else 70 % of what is free, on a CPU at most 7 GB. Where one sample does not
    fit in float32, the network gets narrower by a quarter, by half, then the grid half as large.
9.  Batch: the largest power of two up to 8 that fits. Learning rate: 1e-3 times sqrt(batch / 8).
    A learned representation: 0.3 of the run, patches of up to 48 voxels along each axis, as many as
    fit, up to 4; then 2,000 latents of the cases in all, 4 to 32 of each, as far as they take no
    more than a tenth of the disk that is free and, on a CPU, of the time (a second for a million
    voxels).
10. Intensities: CT (named so, or whole numbers with air below -500) by a fixed window, from the
    0.5 to the 99.5 percentile of the labelled voxels and of all, rounded outwards to tens; else
    the 0.5 and 99.5 percentiles of each scan.
11. Labels: the values that occur. Labels may be missing (dropout 0.1).
12. Flips: left-right only, where there are labels, all have names and none of them is of a side.
13. Shifts: a tenth of the field of view's shortest axis.

Of fewer than 5 patients all are trained on; else a tenth of them, at least one, validates.
"""

from __future__ import annotations

import colorsys
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...bundles.manifest import Manifest, parse_plan_manifest
from ...compute.devices import choose_device
from ...compute.errors import UserError
from ...compute.parsing import shortened
from ..data.cases import DataSet
from ..data.findings import DataReport, Intensities
from ..data.latents import view_bytes
from .estimates import Estimate, estimate, footprint, representation_footprint
from .layouts import (
    HAAR_VOXELS,
    HAAR_VOXELS_CPU,
    IDENTITY_VOXELS,
    Layout,
    Limits,
    choose_layout,
    choose_spacing,
    field_of_view,
)
from .overrides import merge

__all__ = ["Estimate", "describe_plan", "estimate", "make_plan", "merge", "split_groups"]

_MOST_VOXELS, _MOST_VOXELS_CPU, _LEAST_VOXELS = 192**3, 128**3, 16**3
_GROUPS = 8
_WIDTHS, _WIDTHS_CPU = (64, 96, 128), (32, 48, 64)
_MEMORY_SHARE, _MEMORY_CPU, _MEMORY_UNKNOWN = 0.7, 7_000_000_000, 8_000_000_000
_MOST_BATCH, _LEARNING_RATE = 8, 1e-3
_LEAST_CASES, _LEAST_MINUTES, _LEAST_MINUTES_CPU = 10, 5.0, 20.0
_LATENT_CHANNELS, _MORE_CHANNELS, _LABEL_CHANNELS = 4, 2, 64
_PATCH, _MOST_PATCHES = 48, 4
_LATENTS, _LEAST_VIEWS, _MOST_VIEWS = 2000, 4, 32
_SHARE, _VOXEL_SECONDS = 0.1, 1e-6
_MOST_LABELS = 256
_LEARNED = "autoencoder"
_LEAST_GROUPS = 5
_LONGEST_NAME = 64
_SIDES = {"left", "right", "l", "r", "lh", "rh"}


def make_plan(
    data: DataSet,
    report: DataReport,
    device: str,
    name: str,
    memory_bytes: int | None = None,
    minutes: float | None = None,
    disk_bytes: int | None = None,
) -> dict[str, Any]:
    """The plan for a data set that was checked, with the keys of a preset file.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``mps``; ``memory_bytes`` what the training may
    take (default: rule 8); ``minutes`` its time and ``disk_bytes`` the free disk, where known.
    Raises UserError where no case is usable, labels are too many, or no memory is enough.
    """
    if not report.facts:
        raise UserError("No case is usable", "see the check's findings")
    if device == "auto":
        device = choose_device(device).type
    labels = _labels(report)
    channels, intensity = _channels(data.channels, report.intensities)
    memory = memory_bytes if memory_bytes is not None else _free_memory(device)
    manifest: dict[str, Any] = {
        "name": model_name(name) or "model",
        "version": "1.0.0",
        "title": shortened(name, 200),
        "description": _description(labels, channels),
        "architecture": {},
        "labels": labels,
        "label_dropout": 0.1 if labels else 0.0,
        "channels": channels,
        "grid": {},
        "intensity": intensity,
        "sampling": {"sampler": "dpmpp-2m", "steps": 8, "guidance": 1.5 if labels else 1.0},
        "license": "unspecified: add the license of your training data",
        "attribution": "unspecified: say whose data the model was trained on",
    }
    may_learn = not why_not_learned(len(report.facts), device, minutes)
    batch = _fit(manifest, report, device, memory, may_learn)
    groups = len({case.group for case in report.usable(data).cases})
    training = {
        "data": f"cases: {len(report.facts)}, patients: {groups}; say which data these are",
        "batch": batch,
        "learning_rate": round(_LEARNING_RATE * math.sqrt(batch / _MOST_BATCH), 6),
        "weight_decay": 0.01,
        "warmup": 100,
        "ema": 0.999,
        "clip": 1.0,
        "checkpoint_minutes": 5,
        "outside_weight": 0.25,
        "augmentation": {
            "flip_axes": [0] if _may_flip(report) else [],
            "rotation": 10.0,
            "scale": 0.08,
            "shift": max(1, round(min(manifest["grid"]["size"]) / 10)),
            "far_shift": 0.2,
            "affine": 0.5,
        },
    }
    if manifest["architecture"]["representation"]["name"] == _LEARNED:
        training["representation"] = _representation(
            parse_plan_manifest(manifest), len(report.facts), memory, disk_bytes,
            minutes if device == "cpu" else None,
        )  # fmt: skip
    return {"manifest": manifest, "training": training}


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


def model_name(text: str) -> str:
    """A text as a model's name may be like it; empty where nothing of it may be in one."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:_LONGEST_NAME].strip("._-")


def describe_plan(
    plan: dict[str, Any], estimate: Estimate, disk_bytes: int, reason: str = ""
) -> str:
    """The plan and what it needs as text; ``disk_bytes`` are what the cases take on disk,
    ``reason`` why it has its representation."""
    manifest, training = plan["manifest"], plan["training"]
    grid, network = manifest["grid"], manifest["architecture"]["network"]
    representation = manifest["architecture"]["representation"]
    if representation["name"] == _LEARNED:
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
        f"Labels          {len(labels)}: {_listed(labels)}" if labels else "Labels          none",
        f"Contrasts       {', '.join(c['name'] for c in manifest['channels'])}",
        f"Representation  {shown}{f': {reason}' if reason else ''}",
        f"Network         {network['name']}, widths {', '.join(map(str, network['channels']))}",
        f"Training        batch {training['batch']}, learning rate {training['learning_rate']:g}, "
        f"{flips}",
        *_stages(training),
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


def split_groups(data: DataSet, seed: int, share: float = 0.1) -> tuple[DataSet, DataSet]:
    """The data set in two, to train and to validate; no patient is in both.

    ``share`` of the patients validate, at least one; none of fewer than five. The same data and
    seed give the same split.
    """
    groups = sorted({case.group for case in data.cases})
    count = max(1, round(share * len(groups))) if len(groups) >= _LEAST_GROUPS else 0
    order = np.random.default_rng(seed).permutation(len(groups))
    held_out = {groups[n] for n in order[:count]}
    parts = [
        replace(data, cases=tuple(c for c in data.cases if (c.group in held_out) == is_held_out))
        for is_held_out in (False, True)
    ]
    return parts[0], parts[1]


def _fit(
    manifest: dict[str, Any], report: DataReport, device: str, memory: int, may_learn: bool
) -> int:
    """Fill in grid and architecture so that they fit into memory; returns the batch (rules 4-9)."""
    spacing, extent = choose_spacing(report), field_of_view(report)
    widths = _WIDTHS_CPU if device == "cpu" else _WIDTHS
    most = _MOST_VOXELS_CPU if device == "cpu" else _MOST_VOXELS
    haar = HAAR_VOXELS_CPU if device == "cpu" else HAAR_VOXELS
    wider = min(2.0, 1 + 0.1 * (len(manifest["channels"]) - 1))
    needed = 0
    while most >= _LEAST_VOXELS:
        layout = choose_layout(spacing, extent, Limits(most, haar, may_learn))
        kind = 2 if layout.learned else int(max(layout.factors) > 1)
        for narrower in (1.0, 0.75, 0.5):
            width = round(widths[kind] * wider * narrower / 16) * 16
            manifest["grid"] = {
                "orientation": "RAS",
                "spacing": layout.spacing.tolist(),
                "size": list(layout.size),
            }
            manifest["architecture"] = _architecture(layout, width, manifest, device)
            needs = footprint(parse_plan_manifest(manifest))
            needed = needs.fixed + needs.sample
            if needed <= memory:
                fitting = (memory - needs.fixed) // needs.sample
                return min(_MOST_BATCH, 2 ** (int(fitting).bit_length() - 1))
        most = min(most, math.prod(layout.size)) // 2
    raise UserError(
        f"Training needs at least {needed / 1e9:.1f} GB of memory and may take {memory / 1e9:.1f} "
        "GB",
        "close other programs, or train on another machine",
    )


def _architecture(
    layout: Layout, width: int, manifest: dict[str, Any], device: str
) -> dict[str, Any]:
    network: dict[str, Any] = {
        "name": "resunet",
        "channels": [width, *[2 * width] * (layout.levels - 1)],
        "blocks": 2,
        "groups": _GROUPS,
        "embedding": 4 * width,
    }
    representation: dict[str, Any] = {"name": "identity"}
    if layout.learned:
        more = len(manifest["channels"]) - 1
        representation = {
            "name": _LEARNED,
            "factors": list(layout.factors),
            "haar": 1,
            "channels": [48, 96] if device == "cpu" else [64, 128],
            "blocks": 2,
            "latent_channels": _LATENT_CHANNELS + _MORE_CHANNELS * more,
            "quantizer": {"name": "none", "noise": 0.4, "penalty": 0.01},
            "labels": bool(manifest["labels"]),
        }
        if manifest["labels"]:
            network["label_channels"] = _LABEL_CHANNELS
    elif max(layout.factors) > 1:
        representation = {"name": "haar", "levels": 1}
    return {
        "network": network,
        "representation": representation,
        "parameterization": "v",
        "schedule": {"name": "cosine"},
    }


def _representation(
    manifest: Manifest,
    cases: int,
    memory: int,
    disk_bytes: int | None,
    minutes: float | None,
) -> dict[str, Any]:
    """How a learned representation is trained (rule 9); ``minutes`` where they are few."""
    factors = manifest.architecture.representation.options["factors"]
    sizes = zip(manifest.grid.size, factors, strict=True)
    patch = [min(_PATCH // f * f, n) for n, f in sizes]
    needs = representation_footprint(manifest, (patch[0], patch[1], patch[2]))
    fitting = max(1, (memory - needs.fixed) // needs.sample)
    views = min(max(_LATENTS // cases, _LEAST_VIEWS), _MOST_VIEWS)
    if disk_bytes is not None:
        views = min(views, int(_SHARE * disk_bytes / cases / view_bytes(manifest)))
    if minutes is not None:
        seconds = _VOXEL_SECONDS * math.prod(manifest.grid.size)
        views = min(views, int(_SHARE * 60 * minutes / cases / seconds))
    return {
        "share": 0.3,
        "batch": min(_MOST_PATCHES, 2 ** (int(fitting).bit_length() - 1)),
        "patch": patch,
        "learning_rate": _LEARNING_RATE,
        "views": max(1, views),
    }


def _description(labels: list[dict[str, Any]], channels: list[dict[str, Any]]) -> str:
    volume = f"a volume ({_listed([x['name'] for x in channels])})"
    if not labels:
        return f"Makes {volume}."
    return f"Turns a label map ({_listed([x['name'] for x in labels])}) into {volume}."


def _free_memory(device: str) -> int:
    """What the training may take, in bytes (rule 8)."""
    if device == "cuda":
        return int(_MEMORY_SHARE * torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(_MEMORY_SHARE * torch.mps.recommended_max_memory())
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        # Neither Windows nor macOS tells this way.
        free = _MEMORY_UNKNOWN
    return min(_MEMORY_CPU, int(_MEMORY_SHARE * free))


def _channels(
    names: Sequence[str], intensities: Sequence[Intensities]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The manifest's channels and intensity (rule 10)."""
    cleaned: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[: _LONGEST_NAME - 4].strip("-") or "image"
        cleaned.append(_distinct(base, cleaned, "{}-{}"))
    are_ct = [_is_ct(channel) for channel in intensities]
    if not any(are_ct):
        channels = [{"name": n, "units": "arbitrary", "range": [0, 1000]} for n in cleaned]
        return channels, {"percentiles": [0.5, 99.5]}
    windows = [_window(channel) for channel in intensities]
    channels = [
        {"name": name, "units": "HU" if is_ct else "arbitrary", "range": window}
        for name, is_ct, window in zip(cleaned, are_ct, windows, strict=True)
    ]
    return channels, {"window": windows}


def _is_ct(channel: Intensities) -> bool:
    return channel.channel.lower() == "ct" or (channel.whole_numbers and channel.whole[0] < -500)


def _window(channel: Intensities) -> list[int]:
    low = min(channel.whole[0], channel.labelled[0])
    high = max(channel.whole[2], channel.labelled[2])
    return [math.floor(low / 10) * 10, math.ceil(high / 10) * 10]


def _labels(report: DataReport) -> list[dict[str, Any]]:
    values = report.label_values
    if len(values) > _MOST_LABELS:
        raise UserError(
            f"The label maps have {len(values)} different labels together",
            f"use at most {_MOST_LABELS}",
        )
    names: list[str] = []
    for value in values:
        known = shortened(report.label_names.get(value, ""), _LONGEST_NAME - 8).strip()
        names.append(_distinct(known or f"label {value}", names, "{} ({})"))
    return [
        {"value": value, "name": name, "color": _color(number), "code": ""}
        for number, (value, name) in enumerate(zip(values, names, strict=True))
    ]


def _distinct(name: str, taken: Sequence[str], pattern: str) -> str:
    """The name, numbered where it is taken; case does not tell two apart."""
    lower = {other.lower() for other in taken}
    numbered = (pattern.format(name, number) for number in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n.lower() not in lower)


def _color(number: int) -> list[int]:
    """Of the labels' colors one that differs from the others: hues by the golden ratio."""
    hue = (0.05 + number * 0.618034) % 1
    saturation, value = (0.75, 0.55, 0.9)[number // 8 % 3], (0.9, 0.7)[number // 24 % 2]
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value)]


def _may_flip(report: DataReport) -> bool:
    names = [report.label_names.get(value, "") for value in report.label_values]
    words = {word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    # Of what has no names nobody knows whether it has sides.
    return bool(names) and all(names) and not words & _SIDES


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
