"""Runs of two stages that are stopped, killed, out of disk, out of memory, or meet NaN."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data import latents
from MedDiffusionLib.training.loop import representation as first_stage
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME, REPRESENTATION_NAME
from MedDiffusionLib.training.objectives.base import Player
from MedDiffusionLib.training.objectives.reconstruction import Reconstruction
from stages_factory import (
    END,
    FIRST,
    SECOND,
    assert_same_run,
    run_of,
    staged_plan,
    tensors,
)
from test_training_command import start, wait_for
from training_factory import read_log


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases, and in ``whole`` a run of two stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("data")
    run_of(folder, folder / "whole")
    return folder


def stop_at(output: Path, part: str, how: str, iteration: int) -> Any:
    """What asks for a stop, one of three ways, after some iterations of a stage."""

    def ask(report: TrainingReport) -> None:
        at = report.stage, report.part, report.iteration
        if at != ("training", part, iteration) or report.note:
            return
        if how == "stop file":
            (output / "stop").touch()
        else:
            os.kill(os.getpid(), signal.Signals[how])

    return ask


def test_a_run_that_is_stopped_three_ways_in_each_stage_goes_on_as_if_nothing_had_been(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    stops = itertools.product((FIRST, SECOND), enumerate(("SIGTERM", "SIGINT", "stop file"), 1))
    for part, (iteration, how) in stops:
        ask = stop_at(output, part, how, iteration)
        _, outcome = run_of(data, output, on_report=ask, resume=(output / "plan.json").exists())
        assert (outcome.iteration, outcome.reason, outcome.part) == (iteration, how, part)
        written = part == SECOND and how == "stop file"
        assert (output / "model.json").exists() == outcome.is_written == written
        codes = {"stop file": 0 if written else 130, "SIGTERM": 143, "SIGINT": 130}
        assert outcome.exit_code == codes[how]
        assert f"at iteration {iteration} of {part} by" in outcome.sentence(output)
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
    split.write_text('{"train": ["case 0", "case 1"], "validation": []}')
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


def test_nan_again_and_again_in_the_first_stage_ends_in_one_sentence_and_can_be_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Planted in the decoder's output, from the third iteration on, by the command itself."""
    output, preset = tmp_path / "model", tmp_path / "preset.json"
    preset.write_text(json.dumps(staged_plan(checkpoint_minutes=0.0)))
    (tmp_path / "split.json").write_text('{"train": ["case 0", "case 1"], "validation": []}')
    command = ["train", "--images", str(data / "images"), "--labels", str(data / "labels"),
               "--split", str(tmp_path / "split.json"), "--preset", str(preset),
               "--device", "cpu", "--iterations", str(END), "--output", str(output)]  # fmt: skip
    original, batches = Reconstruction.loss_sum, [0]

    def spoiled(self: Reconstruction, player: str, batch: Any) -> torch.Tensor:
        batches[0] += 1
        loss = original(self, player, batch)
        return loss * torch.nan if batches[0] > 2 else loss

    monkeypatch.setattr(Reconstruction, "loss_sum", spoiled)
    assert main(command) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert "The loss became NaN or infinite at iteration 3, once more after 3 returns" in said
    assert not (output / "model.json").exists()
    assert not (output / "representation" / "weights.safetensors").exists()
    kept = load_file(output / "representation" / CHECKPOINT_NAME)
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    notes = [x["note"] for x in read_log(output / "representation") if "note" in x]
    assert [note.split("with ")[1] for note in notes if "back to iteration 2" in note] == [
        f"{0.5**n:g} times the learning rate." for n in (1, 2, 3)
    ]
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    assert read_bundle(output).manifest.to_json()["training"]["iterations"] == END


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
