"""``meddiffusion train``: from folders to a model, the check, and runs ended by force."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import Cancelled
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.request import TrainingRequest, start_training
from training_factory import boxes, make_plan, read_log, write, write_data

SMALL: dict[str, Any] = {
    "manifest": {
        "grid": {"spacing": [1, 1, 1], "size": [16, 16, 16]},
        "architecture": {
            "network": {"channels": [8, 8], "blocks": 1, "groups": 4, "embedding": 8},
            "representation": {"name": "haar", "levels": 1},
        },
    },
    "training": {"batch": 2, "log_seconds": 0},
}
"""Settings that make an automatic plan small enough for a test."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path, 6)
    return tmp_path


def preset(folder: Path, **training: Any) -> Path:
    path = folder / "preset.json"
    path.write_text(json.dumps(make_plan(**training)))
    return path


def arguments(data: Path, output: Path, *more: object) -> list[str]:
    folders = ["--images", data / "images", "--labels", data / "labels"]
    return ["train", *map(str, [*folders, "--output", output, "--device", "cpu", *more])]


def train(data: Path, output: Path, *more: object) -> int:
    return main(arguments(data, output, *more))


def without_warnings(errors: str) -> list[str]:
    """The lines of stderr but the check's warnings, such as labels without names."""
    return [x for x in errors.splitlines() if not x.startswith("meddiffusion: warning: ")]


def refused(capfd: pytest.CaptureFixture[str], code: int) -> str:
    """The one sentence of a refused command."""
    captured = capfd.readouterr()
    assert code == 1
    (line,) = without_warnings(captured.err)
    assert line.startswith("meddiffusion: error: ")
    assert line.endswith(".")
    return line


# ---- what it makes


def test_labels_that_the_plan_names_are_not_said_to_have_no_names(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = data / "plan.json"
    labels = [{"value": 1, "name": "liver"}, {"value": 2, "name": "spleen"}]
    plan.write_text(json.dumps({**SMALL, "manifest": {**SMALL["manifest"], "labels": labels}}))
    assert train(data, data / "model", "--check", "--preset", plan) == 0
    found = capfd.readouterr().out
    assert "liver, spleen" in found
    assert "no name" not in found
    # Where the plan is wrong, its own sentence says so.
    plan.write_text('{"manifest": {"labels": ["liver"]}}')
    assert train(data, data / "model", "--check", "--preset", plan) == 1
    assert "labels" in refused(capfd, 1)


def test_a_model_that_is_trained_on_stays_what_it_is_with_its_license_and_the_data_are_mine(
    data: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((tiny_bundle / "model.json").read_text())
    manifest["channels"][0]["name"] = "image"
    manifest["license"] = "CC0-1.0"
    (tiny_bundle / "model.json").write_text(json.dumps(manifest))
    more = ["--start-from", tiny_bundle, "--iterations", 1]
    assert train(data, data / "model", *more) == 0
    made = json.loads((data / "model" / "model.json").read_text())
    for kept in ("architecture", "labels", "grid", "intensity", "license"):
        assert made[kept] == manifest[kept]
    assert (made["name"], made["training"]["cases"]) == ("model", 5)
    assert "--start-from tiny" in made["training"]["command"]

    manifest["labels"] = manifest["labels"][:1]
    (tiny_bundle / "model.json").write_text(json.dumps(manifest))
    capfd.readouterr()
    assert train(data, data / "other", *more) == 1
    assert "has the labels 1, and the data have 2" in refused(capfd, 1)


def test_two_folders_and_a_preset_make_a_model_whose_card_says_how(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    split = data / "split.json"
    split.write_text('{"train": ["case 0", "case 2"], "validation": ["case 1"]}')
    more = ["--preset", preset(data), "--split", split, "--iterations", 2, "--name", "mine"]
    more += ["--license", "CC0-1.0", "--attribution", "My data."]
    assert train(data, data / "model", *more) == 0
    captured = capfd.readouterr()
    assert captured.out == f"{data / 'model'}\n"
    (private,) = without_warnings(captured.err)
    assert "montage.png shows patients' scans" in private
    assert "meddiffusion export" in private
    content = read_bundle(data / "model").manifest.to_json()
    assert (content["name"], content["license"]) == ("mine", "CC0-1.0")
    assert content["attribution"] == "My data."
    assert content["training"]["cases"] == 2
    command = content["training"]["command"]
    assert command == (
        "meddiffusion train --images images --labels labels --split split.json --output model "
        "--preset preset.json --iterations 2 --seed 0"
    )
    assert content["figures"] == []
    assert {p.name for p in (data / "model").iterdir()} == {
        "cases", "checkpoint.safetensors", "log.jsonl", "loss.png", "model.json", "montage.png",
        "plan.json", "PRIVATE.txt", "shape.safetensors", "weights.safetensors",
    }  # fmt: skip


def test_without_a_preset_the_plan_is_made_from_the_data_and_a_part_of_it_can_be_told(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    part = data / "part.json"
    part.write_text(json.dumps(SMALL))
    assert train(data, data / "My Model", "--preset", part, "--iterations", 1) == 0
    assert len(without_warnings(capfd.readouterr().err)) == 1
    manifest = read_bundle(data / "My Model").manifest
    assert manifest.name == "my-model"
    assert manifest.grid.size == (16, 16, 16)
    # One of six patients validates.
    assert manifest.to_json()["training"]["cases"] == 5
    assert any("validation_loss" in line for line in read_log(data / "My Model"))
    # The plan is that of the start, so resuming needs no preset.
    assert train(data, data / "My Model", "--iterations", 2, "--resume") == 0
    assert read_bundle(data / "My Model").manifest.to_json()["training"]["iterations"] == 2


def test_images_alone_make_a_model_without_labels(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    part = data / "part.json"
    part.write_text(json.dumps(SMALL))
    options = ["--images", data / "images", "--output", data / "model", "--device", "cpu",
               "--iterations", 2, "--preset"]  # fmt: skip
    assert main(["train", *map(str, options), str(part), "--check"]) == 0
    assert "Labels          none" in capfd.readouterr().out
    assert main(["train", *map(str, options), str(part)]) == 0
    manifest = read_bundle(data / "model").manifest
    assert (manifest.labels, manifest.label_dropout) == ((), 0)
    assert manifest.description == "Makes a volume (image)."
    assert (data / "model" / "montage.png").exists()
    assert any("validation_loss" in line for line in read_log(data / "model"))
    # Without label maps there is nothing to draw random ones from.
    assert not (data / "model" / "shape.safetensors").exists()
    capfd.readouterr()
    options[3] = data / "other"
    assert main(["train", *map(str, options), str(preset(data))]) == 1
    assert "has labels, and nothing is labelled in the data" in refused(capfd, 1)


def test_several_contrasts_of_a_raw_folder_become_channels_in_order(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_data(raw, 2, contrasts=2)
    (raw / "images").rename(raw / "imagesTr")
    (raw / "labels").rename(raw / "labelsTr")
    names = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "front": 1, "back": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(names))
    part = tmp_path / "part.json"
    part.write_text(json.dumps(SMALL))
    output = tmp_path / "model"
    code = main(["train", "--data", str(raw), "--output", str(output), "--preset", str(part),
                 "--iterations", "1", "--device", "cpu"])  # fmt: skip
    assert code == 0
    manifest = read_bundle(output).manifest
    assert [c.name for c in manifest.channels] == ["T1", "FLAIR"]
    assert [v.name for v in manifest.labels] == ["front", "back"]


def test_check_prints_findings_and_plan_and_starts_nothing(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    part = data / "part.json"
    part.write_text(json.dumps(SMALL))
    assert train(data, data / "model", "--preset", part, "--check") == 0
    text = capfd.readouterr().out
    assert "6 cases, 6 of them usable" in text
    assert "16 x 16 x 16" in text
    assert "5 cases to train on, 1 to validate with" in text
    assert [path.name for path in (data / "model").iterdir()] == ["cases"]
    write(data / "labels", "case 1.nrrd", boxes(), spacing=2.0)
    assert train(data, data / "model", "--preset", part, "--check") == 1
    assert "case 1.nrrd" in capfd.readouterr().out
    assert train(data, data / "model", "--preset", part, "--check", "--skip-bad") == 0
    capfd.readouterr()
    for path in (data / "labels").iterdir():
        path.write_text("no label map")
    assert train(data, data / "model", "--preset", part, "--check", "--skip-bad") == 1
    assert "0 of them usable" in capfd.readouterr().out


def test_a_stop_while_the_data_are_checked_cancels(data: Path) -> None:
    def ask(report: TrainingReport) -> None:
        assert report.stage == "checking"
        (data / "model" / "stop").touch()

    request = TrainingRequest(
        data / "model", images=data / "images", labels=data / "labels", preset=str(preset(data)),
        iterations=1, device="cpu",
    )  # fmt: skip
    with pytest.raises(Cancelled):
        start_training(request, ask)
    assert [path.name for path in (data / "model").iterdir()] == ["cases"]


# ---- data and outputs that cannot be used


def test_data_that_cannot_be_used_are_refused_with_one_sentence(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", preset(data), "--iterations", 1]
    empty = data / "empty"
    (empty / "images").mkdir(parents=True)
    (empty / "labels").mkdir()
    refused(capfd, train(empty, data / "model", *options))
    write(data / "labels", "case 1.nrrd", boxes(), spacing=2.0)
    sentence = refused(capfd, train(data, data / "model", *options))
    assert "case 1.nrrd and its image case 1.nii.gz differ in spacing" in sentence
    assert "resample the label map" in sentence
    assert "--skip-bad" in sentence
    assert train(data, data / "model", *options, "--skip-bad") == 0
    assert "1 of 6 cases are left out: case 1." in capfd.readouterr().err
    assert read_bundle(data / "model").manifest.to_json()["training"]["cases"] == 4


def test_a_single_case_is_trained_on_with_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path, 1)
    options = ["--preset", preset(tmp_path), "--iterations", 1]
    assert train(tmp_path, tmp_path / "model", *options) == 0
    assert "warning: Only one case is usable" in capfd.readouterr().err


def test_a_case_that_lacks_a_contrast_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path, 4, contrasts=2)
    (tmp_path / "images" / "case 2_0001.nii.gz").unlink()
    part = tmp_path / "part.json"
    part.write_text(json.dumps(SMALL))
    options = ["--preset", part, "--iterations", 1]
    sentence = refused(capfd, train(tmp_path, tmp_path / "model", *options))
    assert "case 2 has 1 of the 2 contrasts" in sentence
    assert train(tmp_path, tmp_path / "model", *options, "--skip-bad") == 0


def test_a_setting_that_does_not_exist_is_named(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    part = data / "part.json"
    part.write_text('{"training": {"bach": 4}}')
    sentence = refused(capfd, train(data, data / "model", "--preset", part, "--iterations", 1))
    assert "bach" in sentence


def test_an_end_is_needed(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "give iterations or minutes" in refused(capfd, train(data, data / "model"))


def test_folders_of_other_runs_and_read_only_ones_are_refused(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", preset(data), "--iterations", 1]
    sentence = refused(capfd, train(data, data / "model", *options, "--resume"))
    assert "has no checkpoint.safetensors: start the run without --resume" in sentence
    assert train(data, data / "model", *options) == 0
    capfd.readouterr()
    sentence = refused(capfd, train(data, data / "model", *options))
    assert "holds another run: use --resume" in sentence
    refused(capfd, train(data, Path("/proc/model"), *options))
    sentence = refused(capfd, train(data, data / "model", *options, "--resume", "--seed", 1))
    assert "the seed was 0 and is now 1" in sentence


# ---- runs ended by force


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "MedDiffusionLib", *arguments], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def wait_for(process: subprocess.Popen[str], output: Path, iteration: int) -> None:
    """Wait until a run's log has reached an iteration."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        text = (output / "log.jsonl").read_text() if (output / "log.jsonl").exists() else ""
        if f'"iteration": {iteration}, "images"' in text:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def no_half_file(output: Path) -> None:
    for path in output.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".png":
            sitk.ReadImage(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def test_a_run_ended_again_and_again_equals_one_that_never_was(data: Path) -> None:
    iterations = 24
    options = ["--preset", preset(data, checkpoint_minutes=0.002), "--iterations", iterations]
    assert train(data, data / "whole", *options) == 0
    chance = random.Random(0)
    output = data / "parts"
    resume: list[str] = []
    for number, how in enumerate(["SIGKILL", "SIGTERM", "SIGINT"], start=1):
        process = start(arguments(data, output, *options, *resume))
        wait_for(process, output, 6 * number)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.Signals[how])
        _, errors = process.communicate(timeout=60)
        expected = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
        assert process.returncode == expected[how], errors
        if how != "SIGKILL":
            (line,) = without_warnings(errors)
            assert "use --resume to go on" in line
        no_half_file(output)
        resume = ["--resume"]
    assert train(data, output, *options, "--resume") == 0
    whole, parts = (load_file(data / n / "checkpoint.safetensors") for n in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    steps = [line["iteration"] for line in read_log(output) if "loss" in line]
    assert steps == list(range(1, iterations + 1))


def test_a_disk_that_is_full_at_checkpoint_time_keeps_the_last_one(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", preset(data), "--iterations"]
    assert train(data, data / "model", *options, 1) == 0
    before = (data / "model" / "checkpoint.safetensors").read_bytes()
    capfd.readouterr()
    with small_files(100_000):
        assert len(before) > 100_000
        line = refused(capfd, train(data, data / "model", *options, 2, "--resume"))
    assert "the last one is intact" in line
    assert "--resume" in line
    assert (data / "model" / "checkpoint.safetensors").read_bytes() == before
    assert train(data, data / "model", *options, 2, "--resume") == 0
