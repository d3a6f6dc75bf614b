"""The end of a training run: its bundle, with the shape model that random label maps come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ...bundles.bundle import write_bundle
from ...bundles.manifest import Manifest, TrainingFacts
from ...bundles.model import Model
from ...bundles.shape_model import fit_shape_model, save_shape_model
from ...compute.errors import UserError
from ...compute.files import atomic
from ...volumes.volume import Volume
from .names import MONTAGE_NAME, PRIVATE_NAME

_MAX_SHAPE_VALUES, _SHAPE_VALUES = 2**28, 2**23
"""Distances that a shape model may be fitted to, 1 GiB, and those that it is fitted to where
:data:`_SHAPE_MAPS` label maps have fewer: memory must not grow with the number of cases."""
_SHAPE_MAPS = 32

ReadLabelMap = Callable[[], Volume]


_PRIVATE = """\
This folder is not to be passed on: montage.png shows slices of patients' scans, and the checkpoint
and the folder "cases" hold the names of cases, as do the folders "representation" and
"distillation" where there are such. What may be shared, as far as the license of your data allows,
is the file that this command writes, which holds the model and nothing else:

    meddiffusion export THIS-FOLDER -o MODEL.zip
"""


def write_notice(folder: Path) -> None:
    """Say in the folder itself what in it is private; raises OSError."""
    with atomic(folder / PRIVATE_NAME) as temporary:
        temporary.write_text(_PRIVATE, "utf-8")


def sharing_sentence(folder: Path) -> str:
    """What to know before a finished training's folder is passed on."""
    return (
        f"{folder} also holds what is private ({MONTAGE_NAME} shows patients' scans): to share the "
        "model, pass on the file that meddiffusion export writes."
    )


def write_trained(
    folder: Path, model: Model, label_maps: Sequence[ReadLabelMap], facts: TrainingFacts
) -> None:
    """Write the shape model, then the bundle with its training facts.

    ``label_maps`` are read one after the other, where they are needed at all. Raises UserError
    where the folder has no room.
    """
    try:
        manifest = replace(
            model.manifest,
            training=facts,
            shape_model_sha256=_write_shape_model(folder, model.manifest, label_maps),
        )
        write_bundle(folder, Model(manifest, model.denoiser, model.representation))
    except OSError as error:
        raise UserError(
            f"The model cannot be written to {folder} ({error.strerror}); its training is done "
            "and saved",
            "make room, then resume the run with the same end",
            code="resume",
        ) from error


def _write_shape_model(
    folder: Path, planned: Manifest, label_maps: Sequence[ReadLabelMap]
) -> str | None:
    """Write the shape model; returns its SHA-256.

    It is fitted to evenly chosen label maps where there are many. No shape model where it would not
    fit into memory, where the label maps have not all labels, or where there are none.
    """
    if not planned.labels:
        return None
    fields = (1 + len(planned.labels)) * math.prod(planned.grid.size) // 8
    most = max(_SHAPE_MAPS, _SHAPE_VALUES // fields)
    count = min(len(label_maps), most)
    if fields * count > _MAX_SHAPE_VALUES:
        return None
    chosen = [label_maps[number * len(label_maps) // count] for number in range(count)]
    values = [label.value for label in planned.labels]
    try:
        model = fit_shape_model((read() for read in chosen), planned.grid, values)
    except UserError:
        return None
    return save_shape_model(model, folder)
