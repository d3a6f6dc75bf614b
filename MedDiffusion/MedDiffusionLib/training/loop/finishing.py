"""The end of a training run: its bundle, with the shape model that random label maps come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...bundles.bundle import save_bundle
from ...bundles.manifest import Manifest
from ...bundles.shape_model import fit_shape_model, save_shape_model
from ...compute.errors import UserError
from ...diffusion.denoiser import Denoiser
from ...volumes.volume import Volume

_MAX_SHAPE_VALUES = 2**28
"""Distances of all training label maps together that a shape model may be fitted to: 1 GiB."""


def write_bundle(
    folder: Path,
    planned: Manifest,
    label_maps: Sequence[Callable[[], Volume]],
    training: dict[str, Any],
    denoiser: Denoiser,
) -> None:
    """Write the shape model, the weights, then the manifest with its ``training`` facts.

    ``label_maps`` are read one after the other, where they are needed at all.

    Raises UserError where the folder has no room.
    """
    try:
        shape = _write_shape_model(folder, planned, label_maps)
        content = {**planned.content, **shape, "training": training, "figures": []}
        save_bundle(folder, content, denoiser)
    except OSError as error:
        raise UserError(
            f"The model cannot be written to {folder} ({error.strerror})",
            "make room, then resume the run with the same end; the training is done and saved",
            code="resume",
        ) from error


def _write_shape_model(
    folder: Path, planned: Manifest, label_maps: Sequence[Callable[[], Volume]]
) -> dict[str, Any]:
    """Write the shape model; returns its manifest entry.

    No shape model where it would not fit into memory, or where the label maps have not all labels.
    """
    fields = (1 + len(planned.labels)) * math.prod(planned.grid.size) // 8
    if fields * len(label_maps) > _MAX_SHAPE_VALUES:
        return {}
    try:
        model = fit_shape_model(
            (read() for read in label_maps), planned.grid, [v.value for v in planned.labels]
        )
    except UserError:
        return {}
    return {"shape_model": {"sha256": save_shape_model(model, folder)}}
