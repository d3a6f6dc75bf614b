"""Guidance that costs nothing: learned by the network itself in the last part of a training."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import tiny_manifest
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.objectives.guided import Guided
from training_factory import make_plan, read_log, run, write_data

DISTILLED = {"share": 0.5, "guidance": 3.0, "learning_rate": 0.01}


def distilled_plan(**training: Any) -> dict[str, Any]:
    plan = make_plan(distillation=DISTILLED, warmup=1, **training)
    plan["training"]["augmentation"]["affine"] = 0.0
    plan["manifest"]["sampling"] |= {"guidance": 3.0, "guidance_range": [0.2, 0.9]}
    return plan


def test_a_lesson_is_what_the_teacher_predicts_with_guidance() -> None:
    """Ho & Salimans 2022, eq. 6: unconditional + scale (conditional - unconditional)."""
    torch.manual_seed(0)
    model = build_model(tiny_manifest())
    for parameter in model.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    labels = torch.randint(0, 3, (2, 16, 16, 16))
    known, nothing = torch.ones(2, 2), torch.zeros(2, 2)
    x, t = torch.randn(2, 8, 8, 8, 8), torch.tensor([0.3, 0.8])
    predict = model.denoiser.predict
    with torch.no_grad():
        with_labels, without = predict(x, t, labels, known), predict(x, t, 0 * labels, nothing)
    assert not torch.allclose(with_labels, without, atol=0.1)
    lesson = Guided(model.denoiser, 3.0)
    wanted = without + 3.0 * (with_labels - without)
    torch.testing.assert_close(lesson(x, t, labels, known), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lesson(x, t, 0 * labels, nothing), without)
    assert not lesson(x, t, labels, known).requires_grad


def test_a_run_ends_with_its_own_guidance_learned_however_it_is_interrupted(tmp_path: Path) -> None:
    cases = write_data(tmp_path, 2)
    plan, end = distilled_plan(), 8
    reports, outcome = run(cases, tmp_path / "whole", end, plan=plan)
    assert (outcome.iteration, outcome.part, outcome.is_written) == (4, "guidance", True)
    parts = [(r.part, r.iteration) for r in reports if r.stage == "training" and not r.note]
    assert parts == [(p, n) for p in ("the denoiser", "guidance") for n in (1, 2, 3, 4)]
    progress = [r.progress for r in reports if r.stage != "reading"]
    assert progress == sorted(progress)
    manifest = read_bundle(tmp_path / "whole").manifest.to_json()
    assert manifest["sampling"] == {"sampler": "ddim", "steps": 2, "guidance": 1.0}
    assert manifest["training"]["iterations"] == end
    folder = tmp_path / "whole" / "distillation"
    assert [x["iteration"] for x in read_log(folder) if "loss" in x] == [1, 2, 3, 4]
    # It began as its teacher, who stayed as the denoiser had become.
    teacher = load_file(folder / "weights.safetensors")
    before = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    made = load_file(tmp_path / "whole" / "weights.safetensors")
    for name, tensor in teacher.items():
        assert torch.equal(tensor, before[f"average.{name}"])
    assert any(
        not torch.allclose(made[f"denoiser.{name}"].float(), tensor, atol=2e-3)
        for name, tensor in teacher.items()
    )

    def stop_at(part: str, iteration: int) -> Any:
        def ask(report: TrainingReport) -> None:
            if (report.stage, report.part, report.iteration) == ("training", part, iteration):
                os.kill(os.getpid(), signal.SIGTERM)

        return ask

    output = tmp_path / "stopped"
    for part, resume in (("the denoiser", False), ("guidance", True)):
        _, outcome = run(cases, output, end, plan=plan, on_report=stop_at(part, 2), resume=resume)
        assert (outcome.iteration, outcome.reason, outcome.part) == (2, "SIGTERM", part)
        assert not (output / "model.json").exists()
    run(cases, output, end, plan=plan, resume=True)
    again = load_file(output / "weights.safetensors")
    assert made.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in made.items())


def test_guidance_that_has_no_meaning_is_not_learned(tmp_path: Path) -> None:
    plan = distilled_plan()
    plan["manifest"]["label_dropout"] = 0.0
    with pytest.raises(UserError, match="its model no guidance to learn: give it labels"):
        run(write_data(tmp_path, 1), tmp_path / "model", 2, plan=plan)
    assert not (tmp_path / "model").exists()
