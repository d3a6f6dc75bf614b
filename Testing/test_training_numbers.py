"""What a training is told: options, presets, splits, tables and logs of bad numbers and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data.case_lists import read_names_file, read_rows
from MedDiffusionLib.training.loop.log import TrainingLog, TrainingReport
from MedDiffusionLib.training.plan.presets import read_preset, read_split
from MedDiffusionLib.training.plan.settings import Limits
from MedDiffusionLib.training.request import TrainingRequest
from training_factory import make_plan, read_log, run, write_data

NAN, INFINITY = float("nan"), float("inf")


# ---- options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--minutes", "nan"),
        ("--minutes", "inf"),
        ("--minutes", "1e999"),
        ("--minutes", "five"),
        ("--iterations", "9" * 310),
        ("--iterations", "1.5"),
        ("--iterations", "9223372036854775808"),
    ],
)
def test_an_option_that_is_no_number_is_wrong_usage(
    tmp_path: Path, option: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--output", str(tmp_path / "out"), option, value])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert "number" in said
    assert len(said) < 200
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "ends",
    [
        {"minutes": NAN},
        {"minutes": INFINITY},
        {"minutes": 1e300},
        {"minutes": -1.0},
        {"iterations": 0},
        {"iterations": 2**62},
    ],
)
def test_an_end_is_finite_and_within_reach(ends: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="needs one end"):
        Limits(**ends)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "-1"], "seed is -1"),
        (["--seed", str(2**31)], "seed is"),
        (["--minutes", "-1"], "needs one end"),
        (["--name", "../evil"], "The model card cannot be used (manifest: name does not match"),
        (["--name", "x" * 65], "longer than 64 characters"),
        (["--license", "MIT\x1b[31m"], "has control characters"),
        (["--preset", "PRESET"], "there is no sampler euler"),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_read(
    tmp_path: Path, more: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "preset.json"
    preset.write_text('{"manifest": {"sampling": {"sampler": "euler"}}}')
    (tmp_path / "scans").mkdir()
    folders = ["--images", str(tmp_path / "scans"), "--labels", str(tmp_path / "scans")]
    end = [] if "--minutes" in more else ["--iterations", "1"]
    given = [str(preset) if word == "PRESET" else word for word in more]
    assert main(["train", *folders, "--output", str(tmp_path / "out"), *end, *given]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_the_command_on_the_card_is_short_and_printable(tmp_path: Path) -> None:
    request = TrainingRequest(tmp_path / "a\nb", group_pattern="\x1b" * 9999, iterations=1)
    assert request.command.isprintable()
    assert len(request.command) <= 2000


# ---- presets and splits


PRESETS = {
    '{"training": {"ema": NaN}}': "NaN is no finite number",
    '{"training": {"learning_rate": Infinity}}': "Infinity is no finite number",
    '{"training": {"learning_rate": 1e999}}': "1e999 is no finite number",
    '{"training": {"learning_rate": 1e300}}': "out of range",
    '{"training": {"batch": 1e9}}': "not of type integer",
    f'{{"training": {{"batch": {"9" * 310}}}}}': "too large a number",
    '{"training": {"batch": 100000}}': "out of range",
    '{"training": {"augmentation": {"shift": 9999999}}}': "out of range",
    '{"training": {"data": "\\u0000"}}': "has control characters",
    '{"manifest": {"channels": [{"range": [NaN, 1]}]}}': "NaN is no finite number",
    '{"manifest": {"grid": {"spacing": [1, 1, 1e9]}}}': "out of range",
    '{"manifest": {"sampling": {"sampler": "euler"}}}': "there is no sampler euler",
    '{"manifest": {"sampling": 3}}': "not of type object",
    '{"a":' * 9999: "nested too deeply",
    "\0": "is no training preset",
}


@pytest.mark.parametrize("text", PRESETS, ids=lambda text: text[:40])
def test_a_preset_of_such_numbers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "preset.json"
    path.write_text(text)
    with pytest.raises(UserError, match=PRESETS[text]) as caught:
        read_preset(str(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    ["[" * 9999, '{"train": [NaN]}', '{"train": [["a"]]}', '{"train": "a"}', '{"train": []}',
     '{"train": ["a"], "validation": {}}', "[]", '{"train": ["\\u0000"]}', "\0"],
)  # fmt: skip
def test_a_split_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is no split file"):
        read_split(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"train": ["a", "b", "a"]}', "a twice under train"),
        ('{"train": ["a"], "validation": ["b", "b"]}', "b twice under validation"),
        ('{"train": ["a"], "validation": ["a"]}', "a under train and under validation"),
    ],
)
def test_a_case_that_a_split_names_twice_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_split(path)


def test_a_plan_with_a_sampler_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plan = make_plan()
    plan["manifest"]["sampling"]["sampler"] = "euler"
    with pytest.raises(UserError, match="there is no sampler euler, only"):
        run(write_data(tmp_path, 1), tmp_path / "out", 1, plan=plan)
    assert not (tmp_path / "out").exists()


# ---- tables and dataset.json


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"label,T1\na.nrrd,\0b.nrrd\n", "NUL"),
        (b"label,T1\na.nrrd," + b"x" * 131_073 + b"\n", "no table that can be read"),
        (b"label,T1\n\xff\n", "not UTF-8"),
        (b"", "is empty"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, content: bytes, said: str
) -> None:
    table = tmp_path / "cases.csv"
    table.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_rows(table)
    assert len(str(caught.value)) < 400


def test_a_cell_that_no_file_can_be_called_is_a_finding(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(f"label,T1\n{'x' * 5000}.nrrd,{'y' * 5000}.nrrd\n")
    out = tmp_path / "out"
    assert main(["train", "--data", str(table), "--output", str(out), "--check"]) == 1
    assert "0 of them usable" in capfd.readouterr().out


def test_a_time_in_which_nothing_can_be_learned_makes_no_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path, count=2)
    (tmp_path / "plan.json").write_text(json.dumps(make_plan()))
    data = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    preset = ["--preset", str(tmp_path / "plan.json"), "--output", str(tmp_path / "out")]
    assert main(["train", *data, *preset, "--minutes", "1e-320"]) == 1
    assert "before the first iteration" in capfd.readouterr().err
    assert not (tmp_path / "out" / "model.json").exists()


@pytest.mark.parametrize("more", [["--check"], ["--iterations", "1"]])
def test_a_whole_preset_that_lacks_a_setting_is_refused_by_check_and_training(
    tmp_path: Path, more: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path, count=2)
    plan = make_plan()
    del plan["training"]["augmentation"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    data = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    preset = ["--preset", str(tmp_path / "plan.json"), "--output", str(tmp_path / "out")]
    assert main(["train", *data, *preset, *more]) == 1
    assert "lacks 'augmentation'" in capfd.readouterr().err


@pytest.mark.parametrize(
    "labels",
    ['{"tumor": 1e999}', '{"tumor": NaN}', f'{{"tumor": {"9" * 400}}}', '{"tumor": 1.5}',
     '{"tumor": true}', '{"tumor": null}', '{"tumor": {}}', '{"x": "tumor"}', '["tumor"]',
     '{"\\u00b2": "tumor"}', '{"a": "\\u00b2"}', "3"],
)  # fmt: skip
def test_a_dataset_json_with_such_labels_is_refused(tmp_path: Path, labels: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(f'{{"labels": {labels}}}')
    with pytest.raises(UserError, match="does not name the channels and labels"):
        read_names_file(path)


def test_a_dataset_json_nested_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text('{"labels":' * 9999)
    with pytest.raises(UserError, match="nested too deeply"):
        read_names_file(path)


# ---- the log


def test_a_log_with_garbage_is_gone_on_with(tmp_path: Path) -> None:
    cases = write_data(tmp_path)
    run(cases, tmp_path / "model", 1)
    garbage = [
        b"\xff\xfe\x00", b"[" * 9999, b'{"iteration": NaN}', b'{"iteration": 1, "loss": "low"}',
        b'{"iteration": 1e999}', b'{"iteration": -1}', b"3", b'{"iteration": 1, "loss": NaN}',
        b'{"iteration": 1, "lo',
    ]  # fmt: skip
    with (tmp_path / "model" / "log.jsonl").open("ab") as log:
        log.write(b"\n".join(garbage))
    run(cases, tmp_path / "model", 2, resume=True)
    lines = read_log(tmp_path / "model")
    assert [line["iteration"] for line in lines if "loss" in line] == [1, 2]


def test_no_line_of_a_log_has_nan(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    log.add(TrainingReport("training", 0.5, 1, loss=NAN))
    log.flush(validation_loss=INFINITY)
    for line in read_log(tmp_path):
        assert "loss" not in line
        assert "validation_loss" not in line
    log.draw()


# ---- memory


def test_a_plan_that_no_machine_has_memory_for_is_refused_before_any_is_taken(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path, 1)
    plan = make_plan()
    plan["manifest"]["architecture"]["network"] |= {"channels": [4096] * 2, "blocks": 16}
    (tmp_path / "preset.json").write_text(json.dumps(plan))
    given = {"--images": "images", "--labels": "labels", "--output": "out",
             "--preset": "preset.json"}  # fmt: skip
    paths = [word for option, name in given.items() for word in (option, str(tmp_path / name))]
    assert main(["train", *paths, "--device", "cpu", "--iterations", "1"]) == 1
    assert "Training this plan needs at least" in capfd.readouterr().err
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
