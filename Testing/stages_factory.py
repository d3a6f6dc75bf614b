"""What the tests of runs of two stages share: a tiny plan of two stages, and runs of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME, REPRESENTATION_NAME
from training_factory import make_plan, run, write_data

LEARNED: dict[str, Any] = {
    "name": "autoencoder",
    "factors": [2, 2, 2],
    "haar": 0,
    "channels": [8, 8],
    "blocks": 1,
    "latent_channels": 2,
    "quantizer": {"name": "none", "noise": 0.1},
    "labels": True,
}
FIRST, SECOND = "the representation", "the denoiser"
END = 8
"""Iterations, half of them in each stage."""


def staged_plan(own: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    """A plan of two stages for the tiny model."""
    usual = {"batch": 2, "patch": [8, 8, 8], "views": 2, "share": 0.5}
    own = {**usual, "losses": {"adversarial": 0.0}, **(own or {})}
    plan = copy.deepcopy(make_plan(representation=own, **training))
    plan["manifest"]["architecture"]["representation"] = copy.deepcopy(LEARNED)
    # To turn a sample takes longer than the step that it is for.
    plan["training"]["augmentation"]["affine"] = 0.0
    return plan


def cases_in(folder: Path) -> list[CaseFiles]:
    if not (folder / "images").exists():
        write_data(folder)
    return [
        CaseFiles(f"case {n}", (folder / "images" / f"case {n}.nii.gz",),
                  folder / "labels" / f"case {n}.nrrd", f"case {n}")
        for n in range(3)
    ]  # fmt: skip


def run_of(folder: Path, output: Path, iterations: int = END, **options: Any) -> Any:
    """A run on two of a folder's cases."""
    options.setdefault("plan", staged_plan())
    return run(cases_in(folder)[:2], output, iterations, **options)


def tensors(output: Path) -> dict[str, torch.Tensor]:
    """All that a finished run has learned."""
    names = (CHECKPOINT_NAME, f"{REPRESENTATION_NAME}/{CHECKPOINT_NAME}",
             f"{REPRESENTATION_NAME}/weights.safetensors")  # fmt: skip
    return {f"{n} {k}": t for n in names for k, t in load_file(output / n).items()}


def assert_same_run(one: Path, two: Path) -> None:
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
