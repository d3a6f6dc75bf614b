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

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...bundles.manifest import Manifest, parse_plan_manifest
from ...compute.devices import choose_device
from ...compute.errors import UserError
from ...compute.parsing import shortened
from ..data.cases import DataSet
from ..data.findings import DataReport
from ..data.latents import view_bytes
from .contents import channels_of, description_of, labels_of, may_flip, model_name
from .describing import LEARNED, describe_plan, why_not_learned, why_representation
from .estimates import Estimate, estimate, footprint, representation_footprint
from .layouts import (
    HAAR_VOXELS,
    HAAR_VOXELS_CPU,
    Layout,
    Limits,
    choose_layout,
    choose_spacing,
    field_of_view,
)
from .overrides import merge

__all__ = [
    "Estimate", "describe_plan", "estimate", "make_plan", "merge", "model_name", "split_groups",
    "why_not_learned", "why_representation",
]  # fmt: skip

_MOST_VOXELS, _MOST_VOXELS_CPU, _LEAST_VOXELS = 192**3, 128**3, 16**3
_GROUPS = 8
_WIDTHS, _WIDTHS_CPU = (64, 96, 128), (32, 48, 64)
_MEMORY_SHARE, _MEMORY_CPU, _MEMORY_UNKNOWN = 0.7, 7_000_000_000, 8_000_000_000
_MOST_BATCH, _LEARNING_RATE = 8, 1e-3
_LATENT_CHANNELS, _MORE_CHANNELS, _LABEL_CHANNELS = 4, 2, 64
_PATCH, _MOST_PATCHES = 48, 4
_LATENTS, _LEAST_VIEWS, _MOST_VIEWS = 2000, 4, 32
_SHARE, _VOXEL_SECONDS = 0.1, 1e-6
_LEAST_GROUPS = 5


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
    labels = labels_of(report)
    channels, intensity = channels_of(data.channels, report.intensities)
    memory = memory_bytes if memory_bytes is not None else _free_memory(device)
    manifest: dict[str, Any] = {
        "name": model_name(name) or "model",
        "version": "1.0.0",
        "title": shortened(name, 200),
        "description": description_of(labels, channels),
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
            "flip_axes": [0] if may_flip(report) else [],
            "rotation": 10.0,
            "scale": 0.08,
            "shift": max(1, round(min(manifest["grid"]["size"]) / 10)),
            "far_shift": 0.2,
            "affine": 0.5,
        },
    }
    if manifest["architecture"]["representation"]["name"] == LEARNED:
        training["representation"] = _representation(
            parse_plan_manifest(manifest), len(report.facts), memory, disk_bytes,
            minutes if device == "cpu" else None,
        )  # fmt: skip
    return {"manifest": manifest, "training": training}


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
            "name": LEARNED,
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
