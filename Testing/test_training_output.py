"""Where a training may write: a new, empty or own folder, held by one run, and nothing it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import make_bundle
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.training.data.store import CaseStore
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.request import TrainingRequest, start_training
from training_factory import make_plan, run, write_data

Say = Callable[..., str]
Tree = dict[str, bytes]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set, with a preset beside it."""
    write_data(tmp_path)
    (tmp_path / "preset.json").write_text(json.dumps(make_plan()))
    return tmp_path


def tree(folder: Path) -> Tree:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def train(data: Path, *more: object, end: tuple[object, ...] = ("--iterations", 1)) -> int:
    given = ["--images", data / "images", "--labels", data / "labels", "--device", "cpu"]
    given += ["--preset", data / "preset.json", *end, *more]
    return main(["train", *map(str, given)])


@pytest.fixture
def refused(data: Path, capfd: pytest.CaptureFixture[str]) -> Say:
    """Trains with more options; returns the one sentence, and holds that nothing was changed."""

    def attempt(*more: object, end: tuple[object, ...] = ("--iterations", 1)) -> str:
        before = tree(data)
        capfd.readouterr()
        assert train(data, *more, end=end) == 1
        assert tree(data) == before
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("meddiffusion: error: ")
        return line

    return attempt


# ---- the folder


NAMES = ["stop", "log.jsonl", "plan.json", "loss.png", "montage.png", "weights.safetensors",
         "checkpoint.safetensors", "cases/scan.nii.gz", "cases/fingerprint.json",
         ".meddiffusion-mine", "notes.txt"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_with_the_users_own_files_is_refused(data: Path, refused: Say, name: str) -> None:
    path = data / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": true}')
    for more in ([], ["--check"], ["--resume"]):
        said = refused("--output", data / "mine", *more)
        assert "which is of no training" in said or "has no checkpoint.safetensors" in said


def test_a_folder_with_a_model_is_refused(data: Path, refused: Say) -> None:
    make_bundle(data / "model")
    assert "holds a model" in refused("--output", data / "model")
    assert "holds a model" in refused("--output", data / "model", "--check")


@pytest.mark.parametrize("folder", ["images", "labels", "."])
def test_a_folder_that_is_read_is_refused(data: Path, refused: Say, folder: str) -> None:
    assert "of no training" in refused("--output", data / folder)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        *((option, "it is no path") for option in ("--output", "--images", "--report", "--split")),
        *((option, "it is empty") for option in ("--preset", "--name", "--group-pattern")),
    ],
)
def test_an_empty_option_is_wrong_usage(
    option: str, said: str, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train(data, "--output", data / "out", option, "")
    assert ended.value.code == 2
    assert said in capfd.readouterr().err


def test_an_empty_folder_and_what_the_system_puts_into_one_are_taken(data: Path) -> None:
    out = data / "out"
    out.mkdir()
    (out / ".DS_Store").write_text("")
    (out / ".meddiffusion-0123456789abcdef.json").write_text("of a killed run")
    assert train(data, "--output", out, "--check") == 0
    assert sorted(p.name for p in out.iterdir()) == [".DS_Store", "cases"]


def test_a_training_that_was_killed_at_its_very_start_is_started_again(data: Path) -> None:
    cases = data / "out" / "cases"
    cases.mkdir(parents=True)
    (cases / ".meddiffusion-0123456789abcdef.json").write_text("{")
    assert train(data, "--output", data / "out", "--check") == 0
    assert list(cases.glob(".meddiffusion-*")) == []


def test_a_check_that_was_killed_left_a_folder_that_is_its_own(data: Path) -> None:
    CaseStore(data / "out").save()
    (data / "out" / "cases" / ("0" * 64)).mkdir()
    assert train(data, "--output", data / "out", "--check") == 0


# ---- one at a time


@pytest.mark.parametrize("more", [[], ["--check"], ["--resume"]])
def test_a_folder_in_which_another_run_writes_is_refused(
    data: Path, refused: Say, more: list[str]
) -> None:
    out = data / "out"
    if more == ["--resume"]:
        assert train(data, "--output", out) == 0
    else:
        CaseStore(out).save()
    with folder_lock(out):
        assert "is being written by another run" in refused("--output", out, *more)


def test_a_training_holds_its_folder_from_its_check_to_its_end(data: Path) -> None:
    stages = set()

    def try_to_write(report: TrainingReport) -> None:
        stages.add(report.stage)
        with pytest.raises(Exception, match="another run"), folder_lock(data / "out"):
            pass

    request = TrainingRequest(
        data / "out", images=data / "images", labels=data / "labels", iterations=1,
        preset=str(data / "preset.json"), device="cpu",
    )  # fmt: skip
    start_training(request, try_to_write)
    assert {"checking", "reading", "training", "writing"} <= stages
    with folder_lock(data / "out"):
        pass


# ---- the stop file


def test_a_stop_file_of_an_earlier_run_is_taken_away_and_a_folder_of_its_name_stays(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = data / "out"
    assert train(data, "--output", out) == 0
    (out / "stop").touch()
    assert train(data, "--output", out, "--resume", end=("--iterations", 2)) == 0
    assert not (out / "stop").exists()
    (out / "stop").mkdir()
    capfd.readouterr()
    assert train(data, "--output", out, "--resume", end=("--iterations", 3)) == 0
    assert (out / "stop").is_dir()
    assert "stop is no file: it does not stop the training" in capfd.readouterr().err
    assert read_bundle(out).manifest.to_json()["training"]["iterations"] == 3


# ---- nothing that is read


def test_a_file_of_the_run_that_is_a_file_to_be_read_is_refused(data: Path, refused: Say) -> None:
    out = data / "out"
    CaseStore(out).save()
    (out / "log.jsonl").symlink_to(data / "preset.json")
    assert "is read, and would be written over" in refused("--output", out)


def test_a_plan_in_the_folder_itself_serves_for_resuming_alone(data: Path, refused: Say) -> None:
    out = data / "out"
    assert train(data, "--output", out) == 0
    again = ["--output", out, "--preset", out / "plan.json"]
    assert train(data, *again, "--resume", end=("--iterations", 2)) == 0
    for name in ("checkpoint.safetensors", "model.json"):
        (out / name).unlink()
    assert "is read, and would be written over" in refused(*again)


def test_images_in_the_folder_of_the_cases_are_refused(data: Path, refused: Say) -> None:
    out = data / "out"
    CaseStore(out).save()
    (data / "images").rename(out / "cases" / "images")
    said = refused("--output", out, "--images", out / "cases" / "images")
    assert "where the training keeps its cases" in said


# ---- reports


def test_a_report_is_written_over_an_earlier_one_and_over_nothing_else(
    data: Path, refused: Say
) -> None:
    check = ["--output", data / "out", "--check", "--report"]
    assert train(data, *check, data / "report.json") == 0
    assert json.loads((data / "report.json").read_text())["usable"]
    assert train(data, *check, data / "report.json") == 0
    for path in (data / "images" / "case 0.nii.gz", data / "preset.json", data / "images"):
        assert "exists and is no report of MedDiffusion" in refused(*check, path)
    os.mkfifo(data / "fifo")
    assert "no report" in refused(*check, data / "fifo")
    (data / "link").symlink_to(data / "images" / "case 0.nii.gz")
    assert "no report" in refused(*check, data / "link")


@pytest.mark.parametrize("name", ["model.json", "plan.json", "cases/fingerprint.json"])
def test_a_report_is_no_file_of_the_training(data: Path, refused: Say, name: str) -> None:
    out = data / "out"
    CaseStore(out).save()
    said = refused("--output", out, "--check", "--report", out / name)
    assert "is a file of the training itself" in said


def test_a_report_without_a_check_or_without_a_place_is_refused(data: Path, refused: Say) -> None:
    assert "--check" in refused("--output", data / "out", "--report", data / "report.json")
    nowhere = data / "nowhere" / "report.json"
    said = refused("--output", data / "out", "--check", "--report", nowhere)
    assert "cannot be written (No such file or directory)" in said


# ---- what is private


def test_a_training_folder_says_that_it_is_not_to_be_passed_on(tmp_path: Path) -> None:
    run(write_data(tmp_path), tmp_path / "model", 1)
    text = (tmp_path / "model" / "PRIVATE.txt").read_text()
    assert "montage.png shows slices of patients' scans" in text
    assert "meddiffusion export" in text
