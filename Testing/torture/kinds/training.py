"""Trainings whose preset, table, split, options, cases or output folder are odd or damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from torture.judge import Broken, Ended, look_at
from torture.stage import Stage

from .bundles import damage_json, replace_at

Play = Callable[[Stage], object]
_NAN, _INF = float("nan"), float("inf")
_MADE = ("model.json", "weights.safetensors", "log.jsonl", "checkpoint.safetensors")


def play(stage: Stage) -> None:
    """One of the ways below."""
    way = stage.random.random()
    if way < 0.55:
        stage.pick(CATALOGUE)(stage)
    elif way < 0.88:
        _damaged_preset(stage)
    else:
        _damaged_split(stage)


def train(
    stage: Stage, *more: object, made: bool | None = None, iterations: object = 1, **how: Any
) -> Ended:
    """Train into ``model``: a finite model, or one sentence; only known files there."""
    words = [str(word) for word in more]
    data = () if "--data" in words or "--images" in words else ("--data", stage.things.data)
    output = () if "--output" in words else ("--output", "model")
    preset = () if "--preset" in words else ("--preset", stage.things.data / "plan.json")
    length = () if "--minutes" in words else ("--iterations", iterations)
    before = look_at(stage.folder)
    # A run that ends in a sentence may have said before that nothing validates it.
    ended = stage.run(
        "train", *data, *output, *preset, *length, "--device", "cpu", *more,
        made=made, report="--check" in words, summary=True,
        **{"allowed": lambda name: name.split("/")[0] == "model", **how},
    )  # fmt: skip
    model = stage.folder / "model"
    if ended.code == 0 and "--check" not in words:
        hold_model(stage, model)
    elif "--resume" not in words:
        new = look_at(stage.folder).keys() - before.keys()
        stage.hold("model/model.json" not in new, "a model after a refusal")
    return ended


def hold_model(stage: Stage, model: Path) -> None:
    """Raise Broken unless a finished training's folder is whole and can be used."""
    for name in _MADE:
        stage.hold((model / name).is_file(), f"exit code 0 without {name}")
    lines = (model / "log.jsonl").read_text("utf-8").splitlines()
    stage.hold(lines, "exit code 0 with an empty log")
    for line in lines:
        try:
            json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            raise Broken(f"the log holds {line[:80]!r}: {error}") from error
    for name, tensor in load_file(model / "weights.safetensors").items():
        stage.hold(torch.isfinite(tensor.float()).all(), f"weights that are not finite: {name}")
    stage.things.label_map(stage.path("use/a.nii.gz"))
    stage.run(
        "synthesize", "use/a.nii.gz", "-o", "use/v.nii.gz", "--model", model.name, "--steps", 1,
        wanted=["use/v.nii.gz", "use/v.json"], made=True,
    )  # fmt: skip


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


# ---- presets


def _damaged_preset(stage: Stage) -> None:
    """A field deleted or replaced; half the time only the check looks at it."""
    plan = stage.copy(stage.things.data / "plan.json", "plan.json")
    damage_json(plan, stage.random, stage.number)
    check = ("--check",) if stage.random.random() < 0.4 else ()
    train(stage, "--preset", "plan.json", *check)


def _preset(where: tuple[str | int, ...], value: Any, made: bool | None = None) -> Play:
    def try_it(stage: Stage) -> None:
        plan = stage.things.plan()
        plan["training"].setdefault(where[-1], 1) if where[0] == "training" else None
        replace_at(plan, where, value)
        stage.path("plan.json").write_text(json.dumps(plan))
        train(stage, "--preset", "plan.json", made=made, iterations=2)

    return try_it


# ---- splits and tables


def _damaged_split(stage: Stage) -> None:
    split = stage.path("split.json")
    split.write_text('{"train": ["case 0", "case 2"], "validation": ["case 1"]}')
    damage_json(split, stage.random, stage.number)
    train(stage, "--split", "split.json")


def _split(text: str, made: bool | None = False) -> Play:
    def try_it(stage: Stage) -> None:
        stage.path("split.json").write_text(text)
        train(stage, "--split", "split.json", made=made)

    return try_it


def _table(content: str | bytes, made: bool | None = None, name: str = "t.csv") -> Play:
    """``DATA`` stands for the folder of the cases."""

    def try_it(stage: Stage) -> None:
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        stage.path(name).write_bytes(raw.replace(b"DATA", os.fsencode(stage.things.data)))
        train(stage, "--data", name, made=made)

    return try_it


def _rows(*rows: str) -> str:
    return "\n".join(["name,T1,label", *rows, ""])


def _row(n: int, name: str = "", image: str = "", label: str = "") -> str:
    image = image or f"DATA/images/case {n}.nii.gz"
    label = label or f"DATA/labels/case {n}.nrrd"
    return f"{name or n},{image},{label}"


# ---- options and folders


def _option(*more: str, made: bool | None = None, check: bool = False) -> Play:
    def try_it(stage: Stage) -> None:
        words = [word.replace("DATA", str(stage.things.data)) for word in more]
        train(stage, *words, *(("--check",) if check else ()), made=made)

    return try_it


def _output(prepare: Callable[[Stage], object], *more: str, made: bool | None = False) -> Play:
    """Something of the user's lies in the output folder, or in its place."""

    def try_it(stage: Stage) -> None:
        prepare(stage)
        train(stage, *more, made=made)

    return try_it


def _mine(*names: str) -> Callable[[Stage], object]:
    def prepare(stage: Stage) -> None:
        for name in names:
            stage.path(f"model/{name}").write_text("mine")

    return prepare


def _folder_named(name: str) -> Callable[[Stage], object]:
    return lambda stage: stage.path(f"model/{name}/mine.txt").write_text("mine")


def _file_there(stage: Stage) -> None:
    stage.path("model").write_text("mine")


def _in_the_data(stage: Stage) -> None:
    """The output is the folder of the cases."""
    shutil.copytree(stage.things.data / "images", stage.folder / "data/images")
    shutil.copytree(stage.things.data / "labels", stage.folder / "data/labels")
    train(stage, "--data", "data", "--output", "data/images", made=False, allowed=lambda n: False)


def _report(target: str, *more: str, made: bool | None = False) -> Play:
    def try_it(stage: Stage) -> None:
        for name in ("images", "labels"):
            stage.copy(stage.things.data / name, f"data/{name}")
        stage.copy(stage.things.data / "plan.json", "data/plan.json")
        stage.path("data/keep.txt").write_text("mine")
        os.link(stage.folder / "data/images/case 0.nii.gz", stage.folder / "data/linked.json")
        train(
            stage, "--data", "data", "--preset", "data/plan.json", "--report", target, *more,
            made=made,
            allowed=lambda name: name.split("/")[0] in ("model", "r.json"),
        )  # fmt: skip

    return try_it


def _names_file(content: Any) -> Play:
    def try_it(stage: Stage) -> None:
        for name in ("images", "labels"):
            stage.copy(stage.things.data / name, f"data/{name}")
        text = content if isinstance(content, str) else json.dumps(content)
        stage.path("data/dataset.json").write_text(text)
        train(stage, "--data", "data")

    return try_it


def _odd_case(prepare: Callable[[Path], object], *more: str) -> Play:
    """A case that is no image; with ``--skip-bad`` the others are trained on."""

    def try_it(stage: Stage) -> None:
        for name in ("images", "labels"):
            stage.copy(stage.things.data / name, f"data/{name}")
        prepare(stage.folder / "data")
        train(stage, "--data", "data", *more)

    return try_it


def _fifo_image(data: Path) -> None:
    (data / "images/case 1.nii.gz").unlink()
    os.mkfifo(data / "images/case 1.nii.gz")


def _zero_image(data: Path) -> None:
    (data / "images/case 1.nii.gz").unlink()
    (data / "images/case 1.nii.gz").symlink_to("/dev/zero")


def _fifo_labels(data: Path) -> None:
    (data / "labels/case 1.nrrd").unlink()
    os.mkfifo(data / "labels/case 1.nrrd")


def _odd_name(data: Path) -> None:
    for folder, suffix in (("images", ".nii.gz"), ("labels", ".nrrd")):
        path = data / folder / f"case 1{suffix}"
        path.rename(path.with_name(f"c\x1b[31m\n\udcff{suffix}"))


def _hidden(data: Path) -> None:
    (data / "images/._case 1.nii.gz").write_bytes(b"x")
    (data / "labels/._case 1.nrrd").write_bytes(b"x")


CATALOGUE: list[Play] = [
    *(_option("--minutes", v, made=False)
      for v in ("nan", "inf", "-inf", "0", "-1", "1e999", "", "x", "1e-320", "9" * 400)),
    *(_option("--iterations", v, made=False)
      for v in ("0", "-1", "nan", "1.5", "", "9" * 400, "9" * 5000)),
    *(_option("--seed", v, made=False) for v in ("-1", "2147483648", "nan", "9" * 400)),
    *(_option("--seed", v, made=False, check=True) for v in ("-1", "9" * 30)),
    *(_option("--group-pattern", v) for v in ("(", "", "(a+)+$", "\x1b[31m", "x" * 70000,
    "(?P<a>)")),
    *(_option("--name", v) for v in ("", "a b", "../x", "\x1b[31m", "a\nb", "n" * 300, "A", ".")),
    *(_option("--license", v) for v in ("", "\x1b[31m", "a\nb", "\udcff")),
    *(_option("--preset", v, made=False) for v in (
        "", ".", "/dev/zero", "/dev/null", "nothing", "\x1b[31m", "x" * 5000, "a\nb",
        "/proc/self/mem",
    )),
    *(_option("--split", v, made=False) for v in ("", ".", "/dev/zero", "nothing", "x" * 5000)),
    *(_option("--data", v, made=False) for v in (
        "", ".", "/dev/zero", "/dev/null", "nothing", "x" * 5000, "DATA/images", "DATA/plan.json",
        "/proc", "\x1b[31m", "\udcff",
    )),
    _option("--images", "DATA/images", made=False), _option("--labels", "DATA/labels", made=False),
    _option("--images", "DATA/images", "--labels", "DATA/images"),
    _option("--images", "DATA/labels", "--labels", "DATA/labels"),
    _option("--data", "DATA", "--images", "DATA/images", made=False),
    *(_preset(("training", key), value, made=False)
      for key in ("learning_rate", "ema", "clip", "weight_decay", "outside_weight",
                  "checkpoint_minutes", "validation_minutes", "log_seconds")
      for value in (_NAN, _INF, -1)),
    *(_preset(("training", "learning_rate"), value) for value in (1e30, 1e-300, 10**400)),
    *(_preset(("training", key), value) for key in ("batch", "warmup", "micro_batch")
      for value in (0, -1, 2**40, 10**400, 1.5)),
    *(_preset(("training", "augmentation", key), value)
      for key in ("rotation", "scale", "shift", "far_shift", "affine")
      for value in (_NAN, 1e300, -1, 10**400)),
    _preset(("manifest", "channels", 0, "range"), [_NAN, 1], made=False),
    _preset(("manifest", "channels", 0, "range"), [0, 1e39], made=False),
    _preset(("manifest", "channels", 0, "range"), [3, 3]),
    _preset(("manifest", "grid", "size"), [9, 16, 16], made=False),
    _preset(("manifest", "grid", "spacing"), [1e300, 1, 1]),
    _preset(("manifest", "grid", "size"), [2**14, 2**14, 2**14]),
    _preset(("manifest", "architecture", "network", "channels"), [4096] * 8),
    _preset(("manifest", "sampling", "sampler"), "nothing", made=False),
    _preset(("manifest", "labels", 1, "name"), "anterior"),
    _preset(("manifest", "labels", 1, "value"), 77),
    _preset(("manifest", "intensity"), {"window": [[_NAN, 1]]}, made=False),
    _preset(("manifest", "intensity"), {"percentiles": [50, 50]}),
    *(_split(text) for text in (
        "", "[]", "{}", '{"train": []}', '{"train": "case 0"}', '{"train": [0]}',
        '{"train": [null]}',
        '{"train": ["case 0", "case 0"]}', '{"train": ["nothing"]}', "[" * 100_000,
        '{"train": NaN}',
        '{"train": ["case 0"], "validation": ["case 0"]}', '{"train": ["\\u001b[31m"]}',
        '{"train": ["a\\nb"]}', '{"train": {"case 0": 1}}',
        '{"train": ["case 0"], "validation": 3}',
        "9" * 5000, '{"train": ["case 0"]}x',
    )),
    _split('{"train": ["case 0"]}', made=True),
    _table(_rows(*(_row(n) for n in range(3))), made=True),
    _table("name,T1,label\n0,a\0b.nii,c.nii\n"),
    _table(_rows(_row(0), "1," + "x" * 131_073 + ",y.nii")),
    _table(_rows(_row(0, name="n" * 5000), _row(1))),
    _table(_rows(_row(0, name="\x1b[31m"), _row(1))), _table(_rows(_row(0, name="../../x"),
    _row(1))),
    _table(_rows(_row(0), _row(1, image="/dev/zero"))), _table(_rows(_row(0), _row(1,
    label="/dev/null"))),
    _table(_rows(_row(0), _row(0, name="0"))), _table(_rows('"unclosed')), _table("", made=False),
    _table(b"\xff\xfe\0\0"), _table(b"name,T1,label\n\xff,a,b\n"), _table("label\n", made=False),
    _table("name,name,label\n1,2,3\n", made=False), _table("T1,label\r0,1\r"), _table(bytes(5000)),
    _table("name,T1,label\n" + "a,b,c\n" * 50_000), _table("n" * 2**20), _table(_rows(",,,,,,")),
    _table(_rows(_row(0), _row(1)), name="t\x1b[31m.csv"), _table(_rows(_row(0)), name="t.xlsx"),
    _output(_mine("notes.txt")), _output(_mine("log.jsonl")), _output(_mine("plan.json")),
    _output(_mine("loss.png")), _output(_mine("montage.png")),
    _output(_mine("weights.safetensors")),
    _output(_mine("stop")), _output(_mine(".meddiffusion-mine")), _output(_mine("model.json")),
    _output(_mine("checkpoint.safetensors")), _output(_mine("shape.safetensors")),
    _output(_mine("cases/mine.txt")), _output(_folder_named("stop")),
    _output(_folder_named("cases")),
    _output(_folder_named("log.jsonl")), _output(_folder_named("checkpoint.safetensors")),
    _output(_file_there), _output(_mine("log.jsonl"), "--check", made=None),
    _output(_mine("cases/fingerprint.json"), "--check", made=None),
    _output(_mine("checkpoint.safetensors"), "--resume"), _output(lambda stage: None, "--resume"),
    _output(lambda stage: stage.path("model").mkdir(), made=True),
    _output(lambda stage: stage.path("model").symlink_to("model"), made=False),
    _option("--output", "", made=False), _option("--output", "/dev/null", made=False),
    _option("--output", "/proc/model", made=False), _option("--output", "x" * 300, made=False),
    _option("--output", "x" * 5000, made=False), _in_the_data,
    _report("data/images/case 0.nii.gz", "--check"), _report("data/labels/case 0.nrrd", "--check"),
    _report("data/plan.json", "--check"), _report("data/linked.json", "--check"),
    _report("data", "--check"), _report("nowhere/r.json", "--check"), _report("r.json", made=None),
    _report("r.json", "--check", made=True), _report("/dev/full", "--check"),
    _names_file({"labels": {"a": "1e999"}}), _names_file('{"labels": {"a": 1e999}}'),
    _names_file({"labels": {"a": [1, 2]}}), _names_file({"labels": {"\x1b[31m": 1}}),
    _names_file("[" * 9999),
    _names_file({"labels": {"a": 10**400}}), _names_file({"labels": None}), _names_file("null"),
    _names_file({"channel_names": {"0": "\x1b[31m"}, "labels": {"b": 0, "a": 1, "c": 2}}),
    _names_file({"channel_names": {"x": "T1"}, "labels": {"a": 1}}),
    _names_file({"labels": {"a": 2**63}}),
    _names_file({"channel_names": {"0": "../x"}, "labels": {"a": 1, "a b": 2}}), _names_file(""),
    *(_odd_case(prepare, *more) for prepare in (_fifo_image, _zero_image, _fifo_labels, _odd_name,
    _hidden)
      for more in ((), ("--skip-bad",))),
]  # fmt: skip
