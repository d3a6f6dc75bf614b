"""The whole heads of the data ``head-t1``, and a segmenter that judges volumes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from MedDiffusionLib.evaluation.figures.dice import dice_per_label
from MedDiffusionLib.evaluation.segmenters.segmenter import Segmenter
from MedDiffusionLib.training.data.loaded_cases import Case, make_case
from MedDiffusionLib.training.plan.presets import load_preset
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from segmenter import data_of, trained

PRESET = load_preset("head-t1")
MANIFEST = check_manifest(PRESET["manifest"])
VALUES = [label.value for label in MANIFEST.labels]


def head_cases(folder: Path, part: str, count: int | None = None) -> list[Case]:
    """The "train" or "validation" cases, in the order of the split."""
    names = json.loads((folder / "split.json").read_text("utf-8"))[part][:count]
    return [
        make_case(
            name,
            [read_image(folder / "images" / f"{name}.nii.gz")],
            read_label_map(folder / "labels" / f"{name}.nii.gz"),
            MANIFEST.grid,
            VALUES,
            MANIFEST.intensity,
        )
        for name in names
    ]


def on_grid(case: Case) -> tuple[Tensor, Tensor]:
    """A case's image ``[1, 1, X, Y, Z]`` and label indices ``[1, X, Y, Z]`` on its grid."""
    labels = torch.from_numpy(case.labels_on(case.fov).astype(np.int64))
    return torch.from_numpy(case.images_on(case.fov))[None], labels[None]


def segmenter(cases: Sequence[Case], iterations: int) -> Segmenter:
    """The trained segmenter, trained on the real ``cases`` of the data first where it is not there
    yet."""
    names = {case.name for case in cases}
    files = [case for case in data_of("head-t1") if case.name in names]
    return trained("dynunet", MANIFEST, files, iterations=iterations)


def dice(judge: Segmenter, image: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Dice per label ``[L]`` of the segmented image; NaN where a label is in neither."""
    found, valid = judge.segment(image[0].numpy()), np.ones(labels.shape[1:], bool)
    return dice_per_label(found, labels[0].numpy(), valid, len(VALUES))
