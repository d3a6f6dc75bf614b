"""A training run: its bundle, its log and pictures, stopping, too little memory, and NaN."""

from __future__ import annotations

import copy
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.generators import load_generator
from MedDiffusionLib.bundles.membership import TrainingImages, voxels_sha256
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.data.samples import TrainingSamples
from MedDiffusionLib.training.loop import step
from MedDiffusionLib.training.loop.loading import Batches
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.state import initial_state
from MedDiffusionLib.training.objectives.denoising import Denoising
from MedDiffusionLib.training.plan.presets import load_preset, read_preset, read_split
from MedDiffusionLib.training.plan.settings import Limits, check_manifest, read_settings
from MedDiffusionLib.volumes.reading import read_image
from training_factory import CPU, boxes, make_plan, prepared, read_log, run, write, write_data


@pytest.fixture
def cases(tmp_path: Path) -> list[CaseFiles]:
    return write_data(tmp_path)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def assert_same_weights(a: Path, b: Path, atol: float = 0.0) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=atol)


# ---- what a run leaves


def test_a_run_leaves_a_bundle_that_loads_and_says_how_it_was_made(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    reports, outcome = run(cases, tmp_path / "model", 3, command="meddiffusion train")
    assert (outcome.iteration, outcome.reason) == (3, None)
    training = [r for r in reports if r.stage == "training" and not r.note]
    assert [r.iteration for r in training] == [1, 2, 3]
    assert [r.images for r in training] == [2, 4, 6]
    assert [round(r.progress, 3) for r in training] == [0.333, 0.667, 1]
    assert [r.progress for r in reports if r.stage == "reading"] == pytest.approx([1 / 3, 2 / 3, 1])
    assert reports[-1].stage == "writing"
    facts = read_bundle(tmp_path / "model").manifest.to_json()["training"]
    assert (facts["cases"], facts["iterations"], facts["data"]) == (3, 3, "made up")
    assert facts["command"] == "meddiffusion train"
    record = TrainingImages.from_json(facts["images"])
    scans = [read_image(case.images[0]).array for case in cases]
    assert [record.has(voxels_sha256(scan)) for scan in (*scans, scans[0] + 1)] == [True] * 3 + [
        False
    ]
    assert not list((tmp_path / "model").glob(".*"))


def test_a_model_of_several_contrasts_and_fixed_windows_is_trained(tmp_path: Path) -> None:
    two = write_data(tmp_path, contrasts=2)
    plan = make_plan(2)
    plan["manifest"]["intensity"] = {"window": [[0, 200], [-100, 200]]}
    run(two, tmp_path / "model", 1, plan=plan)
    assert [c.name for c in read_bundle(tmp_path / "model").manifest.channels] == ["c0", "c1"]


def test_a_run_begins_with_the_weights_of_the_model_that_it_starts_from(
    cases: list[CaseFiles], tmp_path: Path, tiny_bundle: Path
) -> None:
    plan = make_plan(start_from=str(tiny_bundle), learning_rate=1e-9, warmup=1)
    plan["manifest"]["channels"] = read_bundle(tiny_bundle).manifest.to_json()["channels"]
    run(cases, tmp_path / "model", 1, plan=plan)
    assert_same_weights(tmp_path / "model", tiny_bundle, atol=1e-6)


def test_a_plan_with_another_network_than_the_model_it_starts_from_is_refused(
    cases: list[CaseFiles], tmp_path: Path, tiny_bundle: Path
) -> None:
    plan = make_plan(start_from=str(tiny_bundle))
    plan["manifest"]["channels"] = read_bundle(tiny_bundle).manifest.to_json()["channels"]
    plan["manifest"]["architecture"]["network"]["blocks"] += 1
    with pytest.raises(UserError, match=r"network, .* are not those of tiny"):
        run(cases, tmp_path / "model", 1, plan=plan)
    assert not (tmp_path / "model").exists()


def test_a_run_fits_a_shape_model_where_its_label_maps_have_all_labels(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    run(cases, tmp_path / "model", 1)
    manifest = read_bundle(tmp_path / "model").manifest
    drawn = load_generator(tmp_path / "model", manifest).sample(0)
    assert set(np.unique(drawn.array)) == {0, 1, 2}

    write(tmp_path / "labels", "case 0.nrrd", boxes() % 2)
    run(cases, tmp_path / "other", 1)
    assert "shape_model" not in read_bundle(tmp_path / "other").manifest.to_json()


def test_the_loss_falls(cases: list[CaseFiles], tmp_path: Path) -> None:
    reports, _ = run(cases, tmp_path / "model", 60, plan=make_plan(learning_rate=4e-3, warmup=5))
    losses = [r.loss for r in reports if r.stage == "training" and not r.note]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_log_has_a_line_an_interval_and_a_validation_loss(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    plan = make_plan(validation_minutes=0)
    run(cases[:2], tmp_path / "model", 3, plan=plan, validation=cases[2:])
    lines = read_log(tmp_path / "model")
    steps = [line for line in lines if "loss" in line]
    assert [line["iteration"] for line in steps] == [1, 2, 3]
    assert [line["images"] for line in steps] == [2, 4, 6]
    assert all(np.isfinite(line["loss"]) and line["learning_rate"] > 0 for line in steps)
    assert steps[-1]["seconds_left"] == 0
    assert any(np.isfinite(line["validation_loss"]) for line in lines if "validation_loss" in line)
    curve, montage = (
        sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "model" / name))
        for name in ("loss.png", "montage.png")
    )
    assert curve.shape == (480, 800, 3)
    assert curve.std() > 5
    # Real planes on the left, synthetic on the right; the two halves have the same outline.
    left, right = np.split(montage, 2, axis=1)
    assert left.std() > 10
    assert (left != right).any()
    run(cases[:2], tmp_path / "again", 3, plan=plan, validation=cases[2:])
    last = [[x for x in read_log(tmp_path / n) if "validation_loss" in x][-1]["validation_loss"]
            for n in ("model", "again")]  # fmt: skip
    assert last[0] == last[1]


def test_without_validation_cases_the_log_says_so(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases, tmp_path / "model", 1)
    assert "no validation cases" in read_log(tmp_path / "model")[0]["note"]


# ---- micro-batches


def gradient(
    cases: list[CaseFiles], output: Path, micro_batch: int, world: int = 1
) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradient of one global batch of 6, added up over the parts of ``world`` ranks."""
    plan = make_plan(batch=6, outside_weight=0.25)
    manifest, settings = check_manifest(plan["manifest"]), read_settings(plan["training"])
    torch.manual_seed(0)
    model = build_model(manifest)
    objective = Denoising(model)
    samples = objective.samples(
        TrainingSamples(
            prepared(cases, output, manifest), manifest.grid, [1, 2], settings.augmentation,
            0.1, 2**40, 0, 0.25,
        ),
        settings.batch,
    )  # fmt: skip
    playing = initial_state(objective.players, settings).trained
    parts = []
    for rank in range(world):
        with closing(Batches(samples, 5, Ranks(rank, world), CPU.device)) as batches:
            parts.append(next(iter(batches)))
    denoiser = model.denoiser
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    total = sum(objective.weight(part) for part in parts)
    loss: float = sum(
        step.accumulate(objective, playing, part, total, micro_batch, CPU)[0] for part in parts
    )
    return loss, [p.grad for p in denoiser.parameters() if p.grad is not None]


@pytest.mark.parametrize(("micro_batch", "world"), [(1, 1), (4, 1), (6, 2), (2, 4)])
def test_a_batch_has_the_same_gradient_in_however_many_parts(
    cases: list[CaseFiles], tmp_path: Path, micro_batch: int, world: int
) -> None:
    whole_loss, whole = gradient(cases, tmp_path, 6)
    loss, parts = gradient(cases, tmp_path, micro_batch, world)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_micro_batches_train_the_same_model(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases, tmp_path / "whole", 3, plan=make_plan(batch=4))
    run(cases, tmp_path / "parts", 3, plan=make_plan(batch=4, micro_batch=1, recompute=True))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", atol=2e-4)


def exhaust(monkeypatch: pytest.MonkeyPatch, fits: int | None) -> None:
    """Let steps of more than ``fits`` samples at once run out of memory; None: any step."""
    original = step.accumulate

    def accumulate(
        objective: Any, playing: Any, batch: Any, total: float, micro_batch: int, execution: Any
    ) -> list[float]:
        # Part of the gradient is there when memory runs out.
        original(objective, playing, batch.part(0, 1), total, 1, execution)
        if fits is None or min(micro_batch, len(batch)) > fits:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        for trained in playing:
            trained.module.zero_grad()
        return original(objective, playing, batch, total, micro_batch, execution)

    monkeypatch.setattr(step, "accumulate", accumulate)


def test_out_of_memory_halves_the_micro_batch_and_says_so(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cases, tmp_path / "whole", 2, plan=make_plan(batch=4))
    exhaust(monkeypatch, 1)
    reports, _ = run(cases, tmp_path / "parts", 2, plan=make_plan(batch=4))
    notes = [r.note for r in reports if "Out of memory" in r.note]
    assert [("micro-batch is now 2" in n, "micro-batch is now 1" in n) for n in notes] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert sum("Out of memory" in x.get("note", "") for x in read_log(tmp_path / "parts")) == 2
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", atol=2e-4)


def test_memory_for_not_even_one_sample_ends_with_a_sentence(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exhaust(monkeypatch, None)
    reports: list[TrainingReport] = []
    with pytest.raises(UserError, match="Out of memory with one sample at a time"):
        run(cases, tmp_path / "model", 2, on_report=reports.append)
    notes = [r.note for r in reports if "Out of memory" in r.note]
    assert len(notes) == 2
    assert "computed anew" in notes[1]


# ---- NaN


def spoil(monkeypatch: pytest.MonkeyPatch, iteration: int, times: int) -> None:
    """Let the gradient of one iteration be NaN, so many times."""
    original, seen = step.Stepper._gradients, [0]

    def spoiled(self: step.Stepper, playing: Any, *more: Any) -> list[float]:
        losses = original(self, playing, *more)
        if self.state.iteration + 1 == iteration and seen[0] < times:
            seen[0] += 1
            next(playing[0].module.parameters()).grad.fill_(torch.nan)
        return losses

    monkeypatch.setattr(step.Stepper, "_gradients", spoiled)


def test_nan_goes_back_to_the_last_checkpoint_with_half_the_rate(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, iteration=3, times=2)
    _, outcome = run(cases, tmp_path / "model", 4)
    assert outcome.iteration == 4
    lines = read_log(tmp_path / "model")
    notes = [line["note"] for line in lines if "NaN" in line.get("note", "")]
    assert len(notes) == 2
    assert "with 0.5 times the learning rate" in notes[0]
    assert "with 0.25 times the learning rate" in notes[1]
    steps = [line["iteration"] for line in lines if "loss" in line]
    assert steps == [1, 2, 3, 4]
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "model").values())


def test_nan_a_fourth_time_ends_with_a_sentence_and_keeps_the_checkpoint(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, iteration=2, times=4)
    with pytest.raises(UserError, match=r"NaN or infinite at iteration 2.*lower learning_rate"):
        run(cases, tmp_path / "model", 4)
    monkeypatch.undo()
    _, outcome = run(cases, tmp_path / "model", 4, resume=True)
    assert outcome.iteration == 4


# ---- stopping


@pytest.mark.parametrize("how", ["stop file", "SIGTERM", "SIGINT"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    cases: list[CaseFiles], tmp_path: Path, how: str
) -> None:
    run(cases, tmp_path / "whole", 5)

    def ask(report: TrainingReport) -> None:
        if report.stage == "training" and report.iteration == 2 and not report.note:
            if how == "stop file":
                (tmp_path / "parts" / "stop").touch()
            else:
                os.kill(os.getpid(), signal.Signals[how])

    _, outcome = run(cases, tmp_path / "parts", 5, on_report=ask)
    assert (outcome.iteration, outcome.reason) == (2, how)
    assert not (tmp_path / "parts" / "stop").exists()
    # A stop file says that the model is good enough; a signal is in a hurry.
    assert (tmp_path / "parts" / "model.json").exists() == (how == "stop file")
    _, outcome = run(cases, tmp_path / "parts", 5, resume=True)
    assert (outcome.iteration, outcome.reason) == (5, None)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert [x["iteration"] for x in read_log(tmp_path / "parts") if "loss" in x] == [1, 2, 3, 4, 5]


def test_a_stop_file_of_an_earlier_run_does_not_stop_the_next(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stop").touch()
    _, outcome = run(cases, tmp_path / "model", 2)
    assert outcome.iteration == 2


def test_a_stop_while_cases_are_read_cancels(cases: list[CaseFiles], tmp_path: Path) -> None:
    def ask(report: TrainingReport) -> None:
        (tmp_path / "model" / "stop").touch()

    with pytest.raises(Cancelled):
        run(cases, tmp_path / "model", 2, on_report=ask)


def test_a_finished_run_can_be_given_a_later_end(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases, tmp_path / "model", 2)
    _, outcome = run(cases, tmp_path / "model", 3, resume=True)
    assert outcome.iteration == 3


# ---- plans, presets and splits that cannot be used


def test_an_end_is_needed() -> None:
    for limits in ({}, {"iterations": 0}, {"iterations": 1, "minutes": 1.0}, {"minutes": -1.0}):
        with pytest.raises(UserError, match="one end"):
            Limits(**limits)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("training", {"bach": 2}, "unknown entry 'bach'"),
        ("training", {"batch": "two"}, "batch is not of type integer"),
        ("training", {"batch": 0}, "batch is 0, out of range"),
        ("training", {"warmup": 0}, "warmup is 0, out of range"),
        ("training", {"augmentation": {"spin": 1}}, "unknown entry 'spin'"),
        ("manifest", {"grid": {"orientation": "RAS", "spacing": [1, 1, 1], "size": [16, 16, 18]}},
         "no multiple of 4"),
        ("manifest", {"intensity": {"window": [[0, 1], [0, 1]]}}, "2 windows for 1 channels"),
        ("manifest", {"intensity": {}}, "percentiles or a window"),
    ],
)  # fmt: skip
def test_a_plan_that_means_nothing_is_refused_before_any_work(
    cases: list[CaseFiles], tmp_path: Path, part: str, change: dict[str, Any], words: str
) -> None:
    plan = copy.deepcopy(make_plan())
    plan[part].update(change)
    with pytest.raises(UserError, match=words):
        run(cases, tmp_path / "model", 1, plan=plan)
    assert not (tmp_path / "model").exists()


def test_a_plan_without_a_needed_setting_is_refused(cases: list[CaseFiles], tmp_path: Path) -> None:
    plan = make_plan()
    del plan["training"]["ema"]
    with pytest.raises(UserError, match="training lacks 'ema'"):
        run(cases, tmp_path / "model", 1, plan=plan)


def test_presets_and_splits_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(UserError, match="no training preset"):
        load_preset(str(bad))
    with pytest.raises(UserError, match="There is no preset"):
        load_preset("nobody's")
    with pytest.raises(UserError, match="no split file"):
        read_split(bad)
    with pytest.raises(UserError, match="cannot be read"):
        read_split(tmp_path / "none.json")
    bad.write_text('{"train": ["a", "b"], "validation": ["b"]}')
    with pytest.raises(UserError, match="b under train and under validation"):
        read_split(bad)
    bad.write_text('{"training": {"batch": 3}}')
    assert read_preset(str(bad)) == {"training": {"batch": 3}}
    with pytest.raises(UserError, match="but a part"):
        load_preset(str(bad))
