"""A run of two stages: a representation is learned, cases are encoded, a denoiser is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.representations import Autoencoder
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.objectives import reconstruction
from MedDiffusionLib.training.plan.settings import TrainingSettings
from stages_factory import (
    END,
    FIRST,
    LEARNED,
    SECOND,
    assert_same_run,
    cases_in,
    run_of,
    staged_plan,
    tensors,
)
from training_factory import make_plan, read_log


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases, and in ``whole`` a run of two stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("data")
    run_of(folder, folder / "whole")
    return folder


def test_one_run_trains_a_representation_and_then_a_denoiser_on_its_latents(
    data: Path, tmp_path: Path
) -> None:
    plan = staged_plan({"losses": {"adversarial_start": 0.5}}, validation_minutes=0)
    validation = cases_in(data)[2:]
    reports, outcome = run_of(data, tmp_path / "model", plan=plan, validation=validation)
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


def test_images_alone_are_enough_for_both_stages_and_the_model_generates(
    data: Path, tmp_path: Path
) -> None:
    plan = staged_plan()
    plan["manifest"] |= {"labels": [], "label_dropout": 0.0}
    plan["manifest"]["architecture"]["representation"]["labels"] = False
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = ["train", "--images", str(data / "images"), "--preset", str(tmp_path / "plan.json"),
               "--device", "cpu", "--iterations", "2", "--output"]  # fmt: skip
    assert main([*command, str(tmp_path / "model")]) == 0
    model = read_bundle(tmp_path / "model")
    assert isinstance(model.representation, Autoencoder)
    assert model.manifest.labels == ()
    out = tmp_path / "volume.nii"
    assert main(["generate", "--model", str(tmp_path / "model"), "-o", str(out)]) == 0
    array = sitk.GetArrayFromImage(sitk.ReadImage(out))
    assert array.shape == (16, 16, 16)
    assert array.std() > 0


def test_a_run_of_two_stages_is_a_function_of_its_input(data: Path, tmp_path: Path) -> None:
    run_of(data, tmp_path / "again")
    assert_same_run(data / "whole", tmp_path / "again")


@pytest.mark.parametrize("quantizer", [LEARNED["quantizer"], {"name": "vq", "codes": 8}])
def test_micro_batches_train_the_same_model_in_both_stages(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantizer: dict[str, Any]
) -> None:
    """Also where an adversary is weighed, and codes move, by what a whole batch gathers."""
    plan = staged_plan({"batch": 4, "losses": {"adversarial_start": 0.5}}, warmup=1)
    plan["manifest"]["architecture"]["representation"]["quantizer"] = quantizer
    original = TrainingSettings.of_representation
    outputs = tmp_path / "one", tmp_path / "two"
    for output, parts in zip(outputs, (4, 1), strict=True):

        def in_parts(self: TrainingSettings, parts: int = parts) -> TrainingSettings:
            return replace(original(self), micro_batch=parts)

        monkeypatch.setattr(TrainingSettings, "of_representation", in_parts)
        plan["training"]["micro_batch"] = min(parts, 2)
        run_of(data, output, 6, plan=plan)
    for folder in ("representation", "."):
        lines = [[x["loss"] for x in read_log(o / folder) if "loss" in x] for o in outputs]
        assert lines[0] == pytest.approx(lines[1], rel=1e-3)
    first, second = (tensors(output) for output in outputs)
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0.01, atol=1e-3)


def test_latents_that_cannot_be_predicted_are_an_alarm(data: Path, tmp_path: Path) -> None:
    """Two channels that next to no noise bounds: each says a dozen bits."""
    plan = staged_plan()
    plan["manifest"]["architecture"]["representation"]["quantizer"]["noise"] = 1e-5
    reports, _ = run_of(data, tmp_path / "model", 2, plan=plan)
    (alarm,) = [r.note for r in reports if "hardly be predicted" in r.note]
    notes = [x["note"] for x in read_log(tmp_path / "model" / "representation") if "note" in x]
    assert "A latent voxel says" in notes[-2]
    assert notes[-1] == alarm
    assert "hardly" not in (data / "whole" / "representation" / "log.jsonl").read_text()


def test_a_codebook_that_collapses_is_an_alarm_and_in_the_log(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that says nothing: all latents are served by one code."""
    monkeypatch.setattr(reconstruction, "_EARLY", 2)
    original = Autoencoder._encode
    monkeypatch.setattr(Autoencoder, "_encode", lambda self, image: 0 * original(self, image))
    plan = staged_plan()
    codes = {"name": "vq", "codes": 16}
    plan["manifest"]["architecture"]["representation"]["quantizer"] = codes
    reports: list[TrainingReport] = []
    # What does not vary has no scale, and is not trained on.
    with pytest.raises(UserError, match="representation cannot be used"):
        run_of(data, tmp_path / "model", plan=plan, on_report=reports.append)
    (alarm,) = [r for r in reports if "collapsed" in r.note]
    assert "The latent has collapsed: nearly all images become the same" in alarm.note
    assert (alarm.part, alarm.iteration) == (FIRST, 2)
    lines = read_log(tmp_path / "model" / "representation")
    used = [(x["codes"], x["perplexity"]) for x in lines if "loss" in x]
    assert len(used) == END // 2
    # Of 16 codes one, and at most one more that was revived.
    assert all(codes <= 2 / 16 and perplexity < 2 for codes, perplexity in used)
    assert alarm.note in [x["note"] for x in lines if "note" in x]
    assert not (tmp_path / "model" / "model.json").exists()


# ---- a representation that was trained before


def test_a_representation_of_a_model_is_used_as_it_is(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    plan = staged_plan({"from": str(data / "whole")})
    reports, outcome = run_of(data, output, 3, plan=plan)
    assert outcome.iteration == 3
    assert {r.part for r in reports if r.stage == "training"} == {SECOND}
    source, made = (read_bundle(p).representation for p in (data / "whole", output))
    for name, weight in source.named_parameters():
        assert torch.equal(weight, made.get_parameter(name))
    # It is needed no more once the cases are encoded.
    moved = (data / "whole").rename(data / "elsewhere")
    try:
        run_of(data, output, 4, plan=plan, resume=True)
    finally:
        moved.rename(data / "whole")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": [{"name": "FLAIR", "units": "arbitrary", "range": [0, 1000]}]},
         "is of the contrasts c0, and the data have FLAIR"),
        ({"intensity": {"window": [[0, 200]]}}, "was trained on other intensities"),
        ({"labels": [{"value": 1, "name": "a", "color": [1, 2, 3], "code": ""}]},
         "sees the labels 1, 2, and the plan has 1"),
    ],
)  # fmt: skip
def test_a_representation_that_does_not_suit_is_refused_with_a_sentence(
    data: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    plan = staged_plan({"from": str(data / "whole")})
    plan["manifest"] |= change
    with pytest.raises(UserError, match=words):
        run_of(data, tmp_path / "model", 1, plan=plan)
    assert not (tmp_path / "model").exists()


def test_the_plan_of_a_first_stage_is_checked_before_any_work(data: Path, tmp_path: Path) -> None:
    def refused(plan: dict[str, Any]) -> str:
        with pytest.raises(UserError) as caught:
            run_of(data, tmp_path / "model", 1, plan=plan)
        assert not (tmp_path / "model").exists()
        return str(caught.value)

    assert "patch is 8 x 8 x 7: give multiples of 2 x 2 x 2, 3 times as much or more" in refused(
        staged_plan({"patch": [8, 8, 7]})
    )
    assert "patch is 8 x 8 x 4: give multiples" in refused(staged_plan({"patch": [8, 8, 4]}))
    assert "up to the grid's 16 x 16 x 16" in refused(staged_plan({"patch": [32, 8, 8]}))
    assert "share is 1.5, out of range" in refused(staged_plan({"share": 1.5}))
    assert "There is no model nobody" in refused(staged_plan({"from": "nobody"}))
    lacking = staged_plan()
    del lacking["training"]["representation"]
    assert "needs training.representation" in refused(lacking)
    needless = make_plan(representation={"batch": 1})
    assert "haar has no weights" in refused(needless)
