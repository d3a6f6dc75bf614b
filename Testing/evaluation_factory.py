"""What the tests of evaluation share: a tiny model, small cases, and segmenters of two steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from conftest import make_bundle
from MedDiffusionLib.evaluation.evaluate import Evaluation, evaluate
from MedDiffusionLib.evaluation.request import EvaluationRequest
from MedDiffusionLib.training.loop.stopping import StopWatch
from training_factory import boxes, write

TRAINING, HELD_OUT = 5, 4


def write_cases(folder: Path, training: int = TRAINING, held_out: int = HELD_OUT) -> Path:
    """Cases in ``images`` and ``labels``, whose labels are bright, and ``split.json``."""
    random = np.random.default_rng(3)
    names = [f"case{n}" for n in range(training + held_out)]
    for n, name in enumerate(names):
        labels = np.roll(boxes(3 + n % 3), n % 4, axis=2)
        image = random.normal(100, 10 + n, labels.shape) + 60.0 * labels
        write(folder / "images", f"{name}.nii.gz", image.astype(np.float32))
        write(folder / "labels", f"{name}.nii.gz", labels)
    split = {"train": names[:training], "validation": names[training:]}
    (folder / "split.json").write_text(json.dumps(split), "utf-8")
    return folder


def make_request(folder: Path, **changes: Any) -> EvaluationRequest:
    """A request on the cases in ``folder``, of the tiny bundle there."""
    bundle = folder / "tiny"
    if not bundle.exists():
        make_bundle(bundle)
    usual: dict[str, Any] = {
        "model": str(bundle), "output": folder / "report", "images": folder / "images",
        "labels": folder / "labels", "split": folder / "split.json", "seeds": (0,),
        "segmenters": ("unet",), "segmenter_iterations": 2, "device": "cpu",
    }  # fmt: skip
    return EvaluationRequest(**{**usual, **changes})


def run(request: EvaluationRequest) -> Evaluation:
    """Evaluate, as the command does."""
    with StopWatch() as stop:
        return evaluate(request, stop)
