"""The section Train a model decides: what can be started, what Train does, what is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.widget.presenters.training import (
    Press,
    Training,
    check_request,
    folder_of,
    training_request,
)
from MedDiffusionLib.widget.presenters.training_folder import (
    TrainingFolder,
    read_check_report,
    read_error,
)
from MedDiffusionLib.widget.wording import sentence
from MedDiffusionLib.worker.protocol import put_error


def choices(**changes: Any) -> Any:
    given = {"scans": "scans", "label_maps": "maps", "training_name": "mine"}
    return SimpleNamespace(**{**given, "training_hours": 2.0, "skip_bad": False, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    made = folder_of("mine", tmp_path)
    assert made is not None
    made.path.mkdir()
    return made


def refusals(training: Training, chosen: Any, folder: TrainingFolder | None) -> list[str]:
    """Of check, train and resume."""
    shown = training.controls(chosen, True, folder)
    return [shown[name].refusal for name in ("checkButton", "trainButton", "resumeButton")]


@pytest.mark.parametrize("name", ["", "Not A Name", "../up", "-x"])
def test_what_is_no_name_has_no_folder(tmp_path: Path, name: str) -> None:
    assert folder_of(name, tmp_path) is None


def test_each_button_says_what_is_missing(folder: TrainingFolder) -> None:
    training = Training()
    assert refusals(training, None, None) == ["The scene is being closed."] * 3
    assert (
        refusals(training, choices(scans=""), folder)
        == ["Choose the folder of the scans, or a table."] * 3
    )
    assert refusals(training, choices(training_name=""), None) == [
        "",
        *["Give the new model a name."] * 2,
    ]
    wrong = refusals(training, choices(training_name="No Name"), None)
    assert "small letters" in wrong[1]
    nothing = "There is no stopped training of this name."
    assert refusals(training, choices(), folder) == ["", "", nothing]
    shown = training.controls(choices(), False, folder)
    assert all("MedDiffusionTrain is not loaded" in one.refusal for one in shown.values())


def test_a_name_that_is_taken_is_resumed_or_refused(folder: TrainingFolder) -> None:
    (folder.path / "checkpoint.safetensors").touch()
    check, train, resume = refusals(Training(), choices(), folder)
    assert (check, resume) == ("", "")
    assert train.startswith("There is a training of this name that was stopped: resume it")
    (folder.path / "model.json").touch()
    _check, train, resume = refusals(Training(), choices(), folder)
    assert train.startswith("There is a model of this name already")
    assert resume == ""


def test_train_becomes_stop_and_kills_only_what_has_nothing_to_save(
    folder: TrainingFolder,
) -> None:
    training = Training()
    assert training.press() is Press.TRAIN
    training.started(folder)
    check, _train, resume = refusals(training, choices(), folder)
    assert check == resume == "A check or a training is running."
    button = training.controls(choices(), True, folder)["trainButton"]
    assert (button.text, button.enabled) == ("Stop", True)
    assert training.press() is Press.KILL
    (folder.path / "checkpoint.safetensors").touch()
    assert training.press() is Press.STOP
    assert refusals(training, choices(), folder)[1] == (
        "The training is being stopped: it saves first."
    )
    training.ended("It broke.")
    assert training.sentence == "It broke."
    assert training.controls(choices(), True, folder)["trainButton"].text == "Train"


def test_a_training_says_how_far_it_is_until_it_is_being_stopped(folder: TrainingFolder) -> None:
    training = Training()
    training.started(folder)
    assert training.sentence == "Starting…"
    training.polled(waits=True, look=True)
    assert training.sentence == "Waiting for another module to finish…"
    log = folder.path / "log.jsonl"
    for line, said in [
        ({"note": "reading the cases"}, "reading the cases"),
        ({"iteration": 1, "loss": 0.5, "seconds_left": None}, "Iteration 1, loss 0.5000, 0 min"),
        ({"iteration": 7, "loss": 0.25, "seconds_left": 90}, "Iteration 7, loss 0.2500, 2 min"),
        ({"iteration": 8, "loss": 0.25, "seconds_left": 7200}, "Iteration 8, loss 0.2500, 2.0 h"),
    ]:
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        training.polled(waits=False, look=True)
        assert training.sentence.startswith(said)
    log.write_text("half a li")
    training.polled(waits=False, look=True)
    assert training.sentence.startswith("Iteration 8")
    log.write_text('{"note": "later"}\n')
    training.polled(waits=False, look=False)
    assert training.sentence.startswith("Iteration 8")
    (folder.path / "checkpoint.safetensors").touch()
    training.press()
    training.polled(waits=False, look=True)
    assert training.sentence.startswith("Iteration 8")


def test_the_end_tells_of_the_model_where_there_is_one(folder: TrainingFolder) -> None:
    training = Training()
    training.started(folder)
    training.ended("")
    assert training.sentence == ""
    (folder.path / "model.json").touch()
    training.started(folder)
    training.ended("")
    assert training.sentence == "The model mine is in the list of models."
    training.started(folder)
    training.ended("The disk is full.")
    assert training.sentence == "The disk is full."


def test_a_check_runs_without_a_name() -> None:
    training = Training()
    training.started(None)
    training.polled(waits=False, look=True)
    assert training.sentence == "Checking…"
    assert refusals(training, choices(training_name=""), None)[0] == (
        "A check or a training is running."
    )
    training.ended("6 of 6 cases can be trained on.")
    assert training.sentence == "6 of 6 cases can be trained on."


def test_a_run_asks_for_the_data_and_the_folder(folder: TrainingFolder) -> None:
    checked = check_request(choices(label_maps="", skip_bad=True), Path("out"), Path("report"))
    assert checked == {
        "data": "scans",
        "skipBad": True,
        "check": True,
        "output": "out",
        "report": "report",
    }
    assert training_request(choices(), folder, Path("report"), resume=True) == {
        "images": "scans",
        "labels": "maps",
        "skipBad": False,
        "output": str(folder.path),
        "report": "report",
        "minutes": 120.0,
        "resume": True,
        "name": "mine",
    }


def test_a_table_is_the_whole_data_set() -> None:
    for name in ("cases.csv", "cases.TSV"):
        asked = check_request(choices(scans=name), Path("out"), Path("report"))
        assert (asked["data"], "images" in asked, "labels" in asked) == (name, False, False)


def test_why_train_is_grey_is_a_reason_and_a_running_one_is_none(folder: TrainingFolder) -> None:
    training = Training()
    for chosen, where, reason in (
        (choices(scans=""), folder, "Choose the folder of the scans, or a table."),
        (choices(training_name=""), None, "Give the new model a name."),
        (choices(), folder, ""),
    ):
        training.controls(chosen, True, where)
        assert training.reason == reason
    training.started(folder)
    training.controls(choices(scans=""), True, folder)
    assert training.reason == ""


def test_the_curves_are_what_the_log_has_of_them(folder: TrainingFolder) -> None:
    assert folder.curves() == {"training": [], "validation": []}
    (folder.path / "log.jsonl").write_text(
        '{"iteration": 5, "loss": 0.5}\n{"iteration": 9, "note": "out of memory"}\nhalf a li\n'
        '{"iteration": 10, "loss": NaN}\n[1]\n{"iteration": 12, "loss": "x"}\n'
        '{"iteration": 20, "loss": 0.25, "validation_loss": 0.3}\n'
    )
    assert folder.curves() == {"training": [(5, 0.5), (20, 0.25)], "validation": [(20, 0.3)]}


def test_what_is_trained_first_is_shown_until_there_is_more(folder: TrainingFolder) -> None:
    first = folder.path / "representation"
    first.mkdir()
    (first / "log.jsonl").write_text('{"iteration": 3, "loss": 0.5, "seconds_left": 60}\n')
    assert folder.describe() == "The representation first: iteration 3, loss 0.5000, 1 min left"
    assert folder.curves()["training"] == [(3, 0.5)]
    assert folder.stage == first
    (folder.path / "log.jsonl").write_text('{"iteration": 1, "loss": 0.9, "seconds_left": 60}\n')
    assert folder.describe() == "Iteration 1, loss 0.9000, 1 min left"
    assert folder.curves()["training"] == [(1, 0.9)]
    assert folder.stage == folder.path


def test_a_request_to_stop_is_a_file(folder: TrainingFolder) -> None:
    folder.ask_to_stop()
    assert (folder.path / "stop").is_file()


def test_a_failed_training_is_told_in_the_panels_words(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert read_error(path) is None
    failed = UserError("holds another run", "resume it", path="models/mine", code="holds-run")
    path.write_text(json.dumps(put_error(failed)))
    error = read_error(path)
    assert error is not None
    assert sentence(error) == (
        "models/mine holds another run: press Resume to go on with it, or choose another name."
    )


def test_a_report_becomes_a_table_and_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert read_check_report(path) is None
    findings = [
        {
            "case": "a",
            "sentence": "is empty",
            "remedy": "draw",
            "file": "a.nii",
            "severity": "error",
        },
        {"case": "", "sentence": "few cases", "remedy": "add", "file": "", "severity": "warning"},
    ]
    content = {
        "findings": findings,
        "plan": "Field of view   40 x 56 mm\nLabels          1: <b>x\n7 cases to train on",
        "cases": 3,
        "bad_cases": ["a"],
    }
    path.write_text(json.dumps({**content, "usable": False}))
    report = read_check_report(path)
    assert report is not None
    assert report.summary.startswith("1 problems stand in the way")
    assert [[cell.text for cell in row] for row in report.rows] == [
        ["a", "is empty", "draw"],
        ["", "few cases", "add"],
    ]
    assert report.rows[0][1].tip == "a.nii"
    assert report.rows[1][1].tip == "few cases"
    path.write_text(json.dumps({**content, "usable": True}))
    report = read_check_report(path)
    assert report is not None
    assert (report.summary, report.plan) == (
        "2 of 3 cases can be trained on.",
        '<table><tr><td style="padding-right:8px">Field of view</td><td>40 x 56 mm</td></tr>'
        '<tr><td style="padding-right:8px">Labels</td><td>1: &lt;b&gt;x</td></tr>'
        '<tr><td style="padding-right:8px"></td><td>7 cases to train on</td></tr></table>',
    )
