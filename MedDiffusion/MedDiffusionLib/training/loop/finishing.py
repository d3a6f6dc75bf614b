"""The end of a training run: its bundle, with the shape model that random label maps come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...bundles.bundle import save_bundle
from ...bundles.manifest import Manifest
from ...bundles.shape_model import fit_shape_model, save_shape_model
from ...compute.errors import UserError
from ...diffusion.denoiser import Denoiser
from ...volumes.reading import read_label_map

_MAX_SHAPE_VALUES = 2**28
"""Distances of all training label maps together that a shape model may be fitted to: 1 GiB."""


def write_bundle(
    folder: Path,
    planned: Manifest,
    label_maps: Sequence[Path],
    training: dict[str, Any],
    denoiser: Denoiser,
) -> None:
    """Write the shape model, the weights, then the manifest with its ``training`` facts.

    Raises UserError where the folder has no room.
    """
    try:
        shape = _write_shape_model(folder, planned, label_maps)
        content = {**planned.content, **shape, "training": training, "figures": []}
        save_bundle(folder, content, denoiser)
    except OSError as error:
        raise UserError(
            f"The model cannot be written to {folder} ({error.strerror})",
            "make room, then use --resume with the same end; the training is done and saved",
        ) from error


def _write_shape_model(
    folder: Path, planned: Manifest, label_maps: Sequence[Path]
) -> dict[str, Any]:
    """Write the shape model; returns its manifest entry.

    No shape model where it would not fit into memory, or where the label maps have not all labels.
    """
    fields = (1 + len(planned.labels)) * math.prod(planned.grid.size) // 8
    if fields * len(label_maps) > _MAX_SHAPE_VALUES:
        return {}
    try:
        model = fit_shape_model(
            map(read_label_map, label_maps), planned.grid, [v.value for v in planned.labels]
        )
    except UserError:
        return {}
    return {"shape_model": {"sha256": save_shape_model(model, folder)}}
