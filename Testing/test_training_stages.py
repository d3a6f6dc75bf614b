"""A run of two stages: a representation is learned, cases are encoded, a denoiser is trained."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME, REPRESENTATION_NAME
from training_factory import make_plan, read_log, run, write_data

LEARNED: dict[str, Any] = {
    "name": "autoencoder",
    "factors": [4, 4, 4],
    "haar": 1,
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
    own = {"batch": 2, "patch": [8, 8, 8], "views": 2, "share": 0.5, **(own or {})}
    plan = copy.deepcopy(make_plan(representation=own, **training))
    plan["manifest"]["architecture"]["representation"] = copy.deepcopy(LEARNED)
    return plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases, and in ``whole`` a run of two stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("data")
    run_of(folder, folder / "whole")
    return folder


def cases_in(folder: Path) -> list[CaseFiles]:
    if not (folder / "images").exists():
        write_data(folder)
    return [
        CaseFiles(f"case {n}", (folder / "images" / f"case {n}.nii.gz",),
                  folder / "labels" / f"case {n}.nrrd", f"case {n}")
        for n in range(3)
    ]  # fmt: skip


def run_of(folder: Path, output: Path, iterations: int = END, **options: Any) -> Any:
    """A run on two of a folder's cases, with the third one to validate."""
    cases = cases_in(folder)
    options.setdefault("plan", staged_plan())
    return run(cases[:2], output, iterations, validation=cases[2:], **options)


def tensors(output: Path) -> dict[str, torch.Tensor]:
    """All that a finished run has learned."""
    names = (CHECKPOINT_NAME, f"{REPRESENTATION_NAME}/{CHECKPOINT_NAME}",
             f"{REPRESENTATION_NAME}/weights.safetensors")  # fmt: skip
    return {f"{n} {k}": t for n in names for k, t in load_file(output / n).items()}


def assert_same_run(one: Path, two: Path) -> None:
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


# ---- what a run of two stages is


def test_one_run_trains_a_representation_and_then_a_denoiser_on_its_latents(
    data: Path, tmp_path: Path
) -> None:
    plan = staged_plan(validation_minutes=0)
    reports, outcome = run_of(data, tmp_path / "model", plan=plan)
    assert (outcome.iteration, outcome.reason, outcome.is_written) == (END // 2, None, True)
    seen = list(dict.fromkeys(r.words for r in reports if not r.note and r.stage != "validating"))
    assert seen == [
        "reading", f"training {FIRST}", "encoding case 1 of 2", "encoding case 2 of 2",
        f"training {SECOND}", f"writing {SECOND}",
    ]  # fmt: skip
    progress = [r.progress for r in reports if r.stage != "reading"]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    training = [(r.part, r.iteration) for r in reports if r.stage == "training" and not r.note]
    assert training == [(part, n) for part in (FIRST, SECOND) for n in range(1, END // 2 + 1)]
    model = read_bundle(tmp_path / "model")
    assert model.manifest.to_json()["training"]["iterations"] == END
    # The bundle has the representation, in half precision, and its scale as it was found.
    kept = load_file(tmp_path / "model" / "representation" / "weights.safetensors")
    for name, tensor in model.representation.state_dict().items():
        torch.testing.assert_close(tensor, kept[name], rtol=1e-3, atol=1e-6)
    assert (kept["latent_deviation"] != 1).all()
    for folder in (tmp_path / "model", tmp_path / "model" / "representation"):
        lines = read_log(folder)
        assert [x["iteration"] for x in lines if "loss" in x] == [1, 2, 3, 4]
        assert all(np.isfinite(x["validation_loss"]) for x in lines if "validation_loss" in x)
        montage = sitk.GetArrayFromImage(sitk.ReadImage(folder / "montage.png"))
        left, right = np.split(montage, 2, axis=1)
        assert left.std() > 10
        assert (left != right).any()


def test_nothing_of_the_cases_is_left_in_a_finished_folder(data: Path) -> None:
    assert [path.name for path in (data / "whole" / "cases").iterdir()] == ["fingerprint.json"]


def test_a_run_of_two_stages_is_a_function_of_its_input(data: Path, tmp_path: Path) -> None:
    run_of(data, tmp_path / "again")
    assert_same_run(data / "whole", tmp_path / "again")
    other, same = (load_file(p / "checkpoint.safetensors") for p in (data / "whole",) * 2)
    assert other.keys() == same.keys()


def test_micro_batches_train_the_same_model_in_both_stages(data: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "one", tmp_path / "two"
    for output, parts in zip(outputs, (2, 1), strict=True):
        plan = staged_plan(batch=2, micro_batch=parts)
        plan["training"]["representation"]["batch"] = 2
        run_of(data, output, plan=plan)
    first, second = (tensors(output) for output in outputs)
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=1e-3)


# ---- interrupted and resumed


def stop_at(output: Path, part: str, how: str) -> Any:
    """What asks for a stop, one of three ways, after two iterations of a stage."""

    def ask(report: TrainingReport) -> None:
        if (report.stage, report.part, report.iteration) != ("training", part, 2) or report.note:
            return
        if how == "stop file":
            (output / "stop").touch()
        else:
            os.kill(os.getpid(), signal.Signals[how])

    return ask


@pytest.mark.parametrize("part", [FIRST, SECOND])
@pytest.mark.parametrize("how", ["stop file", "SIGTERM", "SIGINT"])
def test_a_run_that_is_stopped_in_either_stage_goes_on_as_if_nothing_had_been(
    data: Path, tmp_path: Path, part: str, how: str
) -> None:
    output = tmp_path / "model"
    _, outcome = run_of(data, output, on_report=stop_at(output, part, how))
    assert (outcome.iteration, outcome.reason, outcome.part) == (2, how, part)
    written = part == SECOND and how == "stop file"
    assert (output / "model.json").exists() == outcome.is_written == written
    codes = {"stop file": 0 if written else 130, "SIGTERM": 143, "SIGINT": 130}
    assert outcome.exit_code == codes[how]
    assert f"at iteration 2 of {part} by" in outcome.sentence(output)
    _, outcome = run_of(data, output, resume=True)
    assert (outcome.iteration, outcome.reason) == (END // 2, None)
    assert_same_run(data / "whole", output)
