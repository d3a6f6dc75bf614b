"""The end of a training run: its bundle, with the generator that random label maps come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...bundles.bundle import write_bundle
from ...bundles.fitting import ReadLabelMap, fit_generator
from ...bundles.manifest import Manifest, TrainingFacts
from ...bundles.model import Model
from ...compute.errors import UserError
from ...compute.files import atomic
from .names import MONTAGE_NAME, PRIVATE_NAME

_MOST_MAPS = 64
"""Label maps that are registered with each other at the end of a training: a few minutes."""


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
    """Write the label map generator, then the bundle with its training facts.

    ``label_maps`` are read one after the other, where they are needed at all. Raises UserError
    where the folder has no room.
    """
    try:
        manifest = replace(_with_generator(folder, model.manifest, label_maps), training=facts)
        write_bundle(folder, Model(manifest, model.denoiser, model.representation))
    except OSError as error:
        raise UserError(
            f"The model cannot be written to {folder} ({error.strerror}); its training is done "
            "and saved",
            "make room, then resume the run with the same end",
            code="resume",
        ) from error


def _with_generator(
    folder: Path, planned: Manifest, label_maps: Sequence[ReadLabelMap]
) -> Manifest:
    """Write the label map generator; returns the manifest that names it, or the same where the
    label maps make none."""
    try:
        return fit_generator(label_maps, planned, folder, _MOST_MAPS) or planned
    except UserError:
        return planned
