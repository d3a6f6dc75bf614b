"""What the tests of training share: small cases on disk, a plan for the tiny model, and a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from conftest import TINY
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.data.loaded_cases import StoredCase
from MedDiffusionLib.training.data.store import CaseStore
from MedDiffusionLib.training.loop.job import TrainingJob
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import LOG_NAME
from MedDiffusionLib.training.loop.run import Outcome
from MedDiffusionLib.training.loop.train import train
from MedDiffusionLib.training.plan.presets import load_preset
from MedDiffusionLib.training.plan.settings import Limits

CPU = Execution(torch.device("cpu"))


def write(folder: Path, name: str, array: NDArray, spacing: float = 1.0) -> Path:
    """Write an array ``[k, j, i]`` with SimpleITK."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * 3)
    path = folder / name
    sitk.WriteImage(image, path)
    return path


def boxes(width: int = 4) -> NDArray[np.uint8]:
    """A label map of two boxes ``width`` voxels wide."""
    labels = np.zeros((14, 20, 18), np.uint8)
    labels[5:9, 6:10, 6 : 6 + width], labels[5:9, 10:14, 6 : 6 + width] = 1, 2
    return labels


def write_data(folder: Path, count: int = 3, contrasts: int = 1) -> list[CaseFiles]:
    """Cases in the folders ``images`` and ``labels`` of ``folder``."""
    random = np.random.default_rng(0)
    cases = []
    for n in range(count):
        labels = boxes(3 + n % 3)
        images = []
        for contrast in range(contrasts):
            name = f"case {n}.nii.gz" if contrasts == 1 else f"case {n}_{contrast:04}.nii.gz"
            image = random.normal(100, 10, labels.shape) + (30.0 - 60 * contrast) * labels
            images.append(write(folder / "images", name, image.astype(np.float32)))
        path = write(folder / "labels", f"case {n}.nrrd", labels)
        cases.append(CaseFiles(f"case {n}", tuple(images), path, f"case {n}"))
    return cases


def make_plan(contrasts: int = 1, **training: Any) -> dict[str, Any]:
    """A plan for the tiny model, its training settings changed as told."""
    manifest = copy.deepcopy(TINY)
    for key in ("bundle_version", "training", "figures"):
        del manifest[key]
    manifest["channels"] = [
        {"name": f"c{n}", "units": "arbitrary", "range": [0, 1000]} for n in range(contrasts)
    ]
    settings = copy.deepcopy(load_preset("hippocampus-mr")["training"])
    changes = {"batch": 2, "data": "made up", "log_seconds": 0, **training}
    return {"manifest": manifest, "training": {**settings, **changes}}


def make_job(
    cases: list[CaseFiles],
    output: Path,
    iterations: int = 1,
    plan: dict[str, Any] | None = None,
    validation: Sequence[CaseFiles] = (),
    **facts: Any,
) -> TrainingJob:
    """A job of a few iterations; ``plan`` is the tiny one unless another is given."""
    return TrainingJob(
        tuple(cases), output, plan or make_plan(), Limits(iterations=iterations), CPU,
        tuple(validation), **facts,
    )  # fmt: skip


def run(
    cases: list[CaseFiles],
    output: Path,
    iterations: int,
    on_report: Callable[[TrainingReport], None] | None = None,
    ranks: Ranks | None = None,
    **job: Any,
) -> tuple[list[TrainingReport], Outcome]:
    """Do the job that :func:`make_job` makes; returns what it reported, and its outcome."""
    reports: list[TrainingReport] = []
    made = make_job(cases, output, iterations, **job)
    return reports, train(made, ranks=ranks, on_report=on_report or reports.append)


def prepared(cases: Iterable[CaseFiles], output: Path, manifest: Manifest) -> list[StoredCase]:
    """The cases as a run in ``output`` would draw samples from them."""
    store = CaseStore(output)
    made = [store.prepare(case, manifest) for case in cases]
    store.save()
    return made


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / LOG_NAME).read_text("utf-8").splitlines()]
