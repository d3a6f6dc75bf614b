"""A run of two stages: a representation is learned, cases are encoded, a denoiser is trained."""

from __future__ import annotations

import copy
import errno
import itertools
import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.representations import Autoencoder
from MedDiffusionLib.training.data import latents
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.data.latents import ViewSettings
from MedDiffusionLib.training.data.loaded_cases import StoredCase
from MedDiffusionLib.training.data.patches import PatchSamples
from MedDiffusionLib.training.data.samples import Augmentation
from MedDiffusionLib.training.loop import representation as first_stage
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME, REPRESENTATION_NAME
from MedDiffusionLib.training.objectives.base import Player
from MedDiffusionLib.training.objectives.reconstruction import Reconstruction
from MedDiffusionLib.training.plan.settings import TrainingSettings, check_manifest
from MedDiffusionLib.volumes.grids import GridSpec
from test_training_command import start, wait_for
from training_factory import CPU, make_plan, prepared, read_log, run, write_data

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


@pytest.fixture(scope="module", autouse=True)
def quickly_judged() -> Iterator[None]:
    """How well latents can be predicted has a test of its own, and takes longer than these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_stage, "predictability", lambda latents, *_: 0.5)
        yield


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


# ---- what a run of two stages is


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


def test_a_run_that_is_stopped_while_cases_are_encoded_keeps_those_that_are(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"

    def ask(report: TrainingReport) -> None:
        if report.stage == "encoding" and report.part == "case 1 of 2":
            os.kill(os.getpid(), signal.SIGTERM)

    _, outcome = run_of(data, output, on_report=ask)
    assert (outcome.reason, outcome.exit_code, outcome.makes_model) == ("SIGTERM", 143, False)
    assert len(list(output.glob("cases/*/latents.npy"))) == 1
    assert not (output / "representation" / "weights.safetensors").exists()
    run_of(data, output, resume=True)
    assert_same_run(data / "whole", output)


@pytest.mark.parametrize("part", [FIRST, SECOND])
def test_a_disk_that_is_full_in_either_stage_leaves_the_last_checkpoint(
    data: Path, tmp_path: Path, part: str
) -> None:
    output = tmp_path / "model"
    folder = output / REPRESENTATION_NAME if part == FIRST else output
    limits: list[tuple[int, int]] = [resource.getrlimit(resource.RLIMIT_FSIZE)]

    def fill(report: TrainingReport) -> None:
        if (report.stage, report.part, report.iteration) == ("training", part, 2):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[0][1]))

    try:
        with pytest.raises(UserError, match="the last one is intact") as caught:
            run_of(data, output, on_report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits[0])
    assert caught.value.code == "resume"
    assert caught.value.path == folder / CHECKPOINT_NAME
    load_file(folder / CHECKPOINT_NAME)
    run_of(data, output, resume=True)
    assert_same_run(data / "whole", output)


def test_a_disk_that_is_full_while_cases_are_encoded_is_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(latents, "write_array", no_room)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        run_of(data, tmp_path / "model")
    monkeypatch.undo()
    run_of(data, tmp_path / "model", resume=True)
    assert_same_run(data / "whole", tmp_path / "model")


@pytest.mark.process
def test_a_run_that_is_killed_in_either_stage_equals_one_that_never_was(
    data: Path, tmp_path: Path
) -> None:
    plan = staged_plan(checkpoint_minutes=0.002)
    preset, split = tmp_path / "preset.json", tmp_path / "split.json"
    preset.write_text(json.dumps(plan))
    split.write_text('{"train": ["case 0", "case 1"], "validation": ["case 2"]}')
    output, end = tmp_path / "model", 24
    options = ["--images", data / "images", "--labels", data / "labels", "--preset", preset,
               "--split", split, "--device", "cpu", "--iterations", end]  # fmt: skip
    resume: list[str] = []
    for folder in (output / REPRESENTATION_NAME, output):
        process = start(["train", *map(str, options), "--output", str(output), *resume])
        wait_for(process, folder, 2)
        process.kill()
        process.communicate()
        resume = ["--resume"]
    assert not (output / "model.json").exists()
    command = ["train", *map(str, options), "--output"]
    assert main([*command, str(output), "--resume"]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert_same_run(tmp_path / "whole", output)


def test_a_run_that_is_given_a_later_end_keeps_its_representation(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    run_of(data, output, 4)
    before = (output / "representation" / "weights.safetensors").read_bytes()
    _, outcome = run_of(data, output, 10, resume=True)
    assert outcome.iteration == 8
    assert (output / "representation" / "weights.safetensors").read_bytes() == before
    assert read_bundle(output).manifest.to_json()["training"]["iterations"] == 10


@pytest.mark.parametrize("content", [b"", b"nothing of the kind" * 9])
def test_a_representation_that_cannot_be_read_is_one_sentence(
    data: Path, tmp_path: Path, content: bytes
) -> None:
    output = tmp_path / "model"
    shutil.copytree(data / "whole", output)
    (output / "representation" / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors cannot be used") as caught:
        run_of(data, output, END + 2, resume=True)
    assert "\n" not in str(caught.value)


# ---- NaN, too little memory, several players


class Gaming(Reconstruction):
    """A reconstruction with a second player, which starts late and is fooled by the first."""

    def __init__(self, model: Any, losses: Any) -> None:
        super().__init__(model, replace(losses, adversarial=0.0))
        self.critic = torch.nn.Conv3d(len(model.channels), 1, 3)
        self.gathered, self.told = 0, [0, 0]
        self.made = torch.zeros(())

    @property
    def players(self) -> tuple[Player, ...]:
        critic = Player("critic", self.critic, rate=0.5, starts_at=0.5, averaged=False)
        return (*super().players, critic)

    def begin(self, progress: float) -> None:
        super().begin(progress)
        self.gathered = 0

    def loss_sum(self, player: str, batch: Any) -> torch.Tensor:
        if player == "critic":
            return (self.critic(batch.images) - self.critic(self.made)).square().sum()
        self.gathered += len(batch)
        made, _ = self._representation.reconstruct(batch.images, None, None, batch.noise)
        self.made = made.detach()
        return super().loss_sum(player, batch) + 1e-3 * self.critic(made).square().sum()

    def finish(self, ranks: Any) -> None:
        self.told[0] += 1
        self.told[1] += self.gathered

    def alarms(self) -> list[str]:
        return ["The critic is alarmed."] if self.told[0] > 1 else []


@pytest.fixture
def gaming(monkeypatch: pytest.MonkeyPatch) -> list[Gaming]:
    """Lets first stages have two players; the objectives that were made."""
    made: list[Gaming] = []

    def make(*given: Any) -> Gaming:
        made.append(Gaming(*given))
        return made[-1]

    monkeypatch.setattr(first_stage, "Reconstruction", make)
    return made


def test_a_second_player_starts_when_told_and_moves_by_its_own_loss_alone(
    data: Path, tmp_path: Path, gaming: list[Gaming]
) -> None:
    """Iterations 1 and 2 of 4 are the first half of the stage."""
    output = tmp_path / "model"
    plan = staged_plan(checkpoint_minutes=0.0)
    states: list[torch.Tensor] = []
    reports: list[TrainingReport] = []

    def keep(report: TrainingReport) -> None:
        if report.part == FIRST and report.stage == "training" and not report.note:
            states.append(gaming[0].critic.weight.detach().clone())

        reports.append(report)

    run_of(data, output, plan=plan, on_report=keep)
    assert [torch.equal(a, b) for a, b in itertools.pairwise(states)] == [True, False, False]
    assert gaming[0].told == [4, 8]
    assert [r.note for r in reports].count("The critic is alarmed.") == 1
    kept = load_file(output / "representation" / CHECKPOINT_NAME)
    assert {k.split(".")[0] for k in kept} == {"model", "average", "optimizer", "critic"}
    assert {k.split(".")[1] for k in kept if k.startswith("critic")} == {"model", "optimizer"}


def test_latents_that_cannot_be_predicted_are_an_alarm(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def judge(latents: torch.Tensor, *_: object) -> float:
        seen.append(latents)
        return 0.95

    monkeypatch.setattr(first_stage, "predictability", judge)
    reports, _ = run_of(data, tmp_path / "model", 2)
    (alarm,) = [r.note for r in reports if "hardly be predicted" in r.note]
    assert "a loss of 0.95" in alarm
    notes = [x["note"] for x in read_log(tmp_path / "model" / "representation") if "note" in x]
    assert "predicted to a loss of 0.950" in notes[-2]
    assert notes[-1] == alarm
    # They are scaled, one of each case.
    (latents_seen,) = seen
    assert latents_seen.shape == (2, 2, 8, 8, 8)
    assert latents_seen.std() == pytest.approx(1, abs=0.2)


def test_two_players_are_resumed_as_they_were(
    data: Path, tmp_path: Path, gaming: list[Gaming]
) -> None:
    run_of(data, tmp_path / "whole")
    output = tmp_path / "model"

    def stop(report: TrainingReport) -> None:
        if (report.part, report.iteration, report.note) == (FIRST, 3, ""):
            os.kill(os.getpid(), signal.SIGTERM)

    run_of(data, output, on_report=stop)
    run_of(data, output, resume=True)
    assert_same_run(tmp_path / "whole", output)


def test_nan_in_the_first_stage_goes_back_to_its_checkpoint(
    data: Path, tmp_path: Path, gaming: list[Gaming], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Gaming.loss_sum, [0]

    def spoiled(self: Gaming, player: str, batch: Any) -> torch.Tensor:
        loss = original(self, player, batch)
        seen[0] += player == "critic"
        return loss * torch.nan if seen[0] == 1 and player == "critic" else loss

    monkeypatch.setattr(Gaming, "loss_sum", spoiled)
    output = tmp_path / "model"
    _, outcome = run_of(data, output)
    assert outcome.iteration == END // 2
    notes = [x["note"] for x in read_log(output / "representation") if "note" in x]
    assert any("NaN or infinite at iteration 3: back to iteration 0" in note for note in notes)
    assert all(torch.isfinite(t).all() for t in tensors(output).values())


def test_too_little_memory_in_the_first_stage_halves_its_micro_batch(
    data: Path, tmp_path: Path, gaming: list[Gaming], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Gaming.loss_sum

    def scarce(self: Gaming, player: str, batch: Any) -> torch.Tensor:
        loss = original(self, player, batch)
        if len(batch) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return loss

    monkeypatch.setattr(Gaming, "loss_sum", scarce)
    reports, _ = run_of(data, tmp_path / "model")
    notes = [(r.part, r.note) for r in reports if "Out of memory" in r.note]
    assert len(notes) == 1
    assert notes[0][0] == FIRST
    assert "micro-batch is now 1" in notes[0][1]
    # What was gathered in the pass that was given up does not count.
    assert gaming[0].told == [4, 8]


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


# ---- samples


@pytest.fixture
def stored(data: Path, tmp_path: Path) -> list[StoredCase]:
    return prepared(cases_in(data), tmp_path, check_manifest(staged_plan()["manifest"]))


def representation() -> Autoencoder:
    torch.manual_seed(0)
    made = build_model(check_manifest(staged_plan()["manifest"])).representation
    assert isinstance(made, Autoencoder)
    return made.eval()


def test_a_view_is_a_sample_laid_over_its_case_and_encoded(stored: list[StoredCase]) -> None:
    encoder, views = representation(), ViewSettings(3, Augmentation(), 7)
    encoded = latents.encode_cases(stored, views, encoder, CPU)
    again = latents.encoded_cases(stored, views, encoder)
    for one, same, case in zip(encoded, again, stored, strict=True):
        assert one.views[0].equals(case.fov)
        assert not one.views[1].equals(one.views[2])
        for number, view in enumerate(one.views):
            opened = case.open()
            with torch.inference_mode():
                wanted = encoder.encode(torch.from_numpy(opened.images_on(view))[None])[0]
            torch.testing.assert_close(
                torch.from_numpy(same.latent(number)).float(), wanted, rtol=1e-3, atol=1e-3
            )
            assert (same.labels(number) == opened.labels_on(view)).all()
            whole = opened.validity(view).reshape(8, 2, 8, 2, 8, 2).all((1, 3, 5))
            assert (same.inside(number)[0] == whole).all()
    # Other weights, another seed: other latents.
    with pytest.raises(UserError, match="lacks the latents of case 0"):
        latents.encoded_cases(stored, ViewSettings(3, Augmentation(), 8), encoder)


def test_a_latent_sample_is_a_function_of_seed_and_number(stored: list[StoredCase]) -> None:
    encoder, views = representation(), ViewSettings(2, Augmentation(), 0)
    encoded = latents.encode_cases(stored, views, encoder, CPU)
    encoder.set_scale(torch.tensor([0.5, -0.5]), torch.tensor([4.0, 4.0]))

    def samples(dropout: float, seed: int) -> latents.LatentSamples:
        return latents.LatentSamples(encoded, encoder, dropout, 2**40, seed, 0.25)

    first, second = samples(0.2, 0), samples(0.2, 0)
    first[3], first[9]
    for a, b in zip(astuple(first[5]), astuple(second[5]), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[5].images, samples(0.2, 1)[5].images)
    sample = samples(0.0, 0)[0]
    assert sample.images.shape == (2, 8, 8, 8)
    assert sample.labels.shape == (16, 16, 16)
    assert set(sample.weight.unique().tolist()) <= {0.25, 1.0}
    raw = [torch.from_numpy(c.latent(v)).float() for c in encoded for v in (0, 1)]
    shift = torch.tensor([0.5, -0.5])[:, None, None, None]
    assert any(torch.allclose(sample.images * 2 + shift, z, atol=1e-5) for z in raw)
    # All labels hidden: nothing is left of them.
    hidden = samples(1.0, 0)[0]
    assert not hidden.annotated.any()
    assert not hidden.labels.any()


def test_a_patch_lies_in_the_scan_where_there_is_something_to_see(
    stored: list[StoredCase],
) -> None:
    patches = PatchSamples(
        stored, GridSpec("RAS", (1.0, 1.0, 1.0), (16, 16, 16)), (8, 8, 8), [1, 2],
        Augmentation(shift=0, far_shift=0.0), 0.0, 2**40, 0,
    )  # fmt: skip
    made = [patches[number] for number in range(24)]
    assert {tuple(sample.images.shape) for sample in made} == {(1, 8, 8, 8)}
    # A scan of 18 x 20 x 14 voxels below a grid of 16^3.
    assert np.mean([float(sample.weight.mean()) for sample in made]) > 0.9
    assert all(float(sample.images.std()) > 0.05 for sample in made)
    assert len({float(sample.images[0, 0, 0, 0]) for sample in made}) == 24


def test_latents_that_are_not_finite_are_refused_with_a_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Autoencoder, "_encode", lambda self, image: torch.full((1, 2, 8, 8, 8), torch.nan)
    )
    with pytest.raises(UserError, match="makes NaN or infinite latents of the case case 0"):
        plan = staged_plan({"from": str(data / "whole")})
        run_of(data, tmp_path / "model", 1, plan=plan)


def test_latents_that_do_not_vary_are_refused_with_a_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Autoencoder, "_encode", lambda self, image: torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(UserError, match="representation cannot be used"):
        plan = staged_plan({"from": str(data / "whole")})
        run_of(data, tmp_path / "model", 1, plan=plan)
