"""Tiny studies of random voxels, made by the pipeline, for what shows cases and rates them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.request import StudyRequest
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume

SIZE = 20


def make_tiny_study(folder: Path, cases: int = 12, **asked: Any) -> Path:
    """A study of so many cases below a folder, with its key beside it."""
    per_arm = cases // 2
    for arm, seed in (("real", 1), ("synthetic", 2)):
        (folder / arm).mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for n in range(per_arm + asked.get("training", 0)):
            array = generator.normal(100 * seed, 10, (SIZE,) * 3).astype(np.float32)
            write_volume(folder / arm / f"{arm} {n}.nrrd", Volume(array, np.eye(4), Kind.INTENSITY))
    request = StudyRequest(
        folder / "study", folder / "real", folder / "synthetic",
        **{"per_arm": per_arm, "training": 0, "repeats_percent": 17, "trim": 0, **asked},
    )  # fmt: skip
    return make_study(request).study.folder
