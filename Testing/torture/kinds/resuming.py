"""Trainings that are resumed after something happened to their folder."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from torture.judge import look_at
from torture.stage import Stage

from .bundles import damage_json
from .training import train


def play(stage: Stage) -> None:
    """A short run, its folder damaged or renamed, and resumed."""
    if stage.random.random() < 0.05:
        _renamed_run(stage)
    else:
        _damaged_run(stage)


def _start(stage: Stage) -> None:
    """A short run's folder, in ``model``."""
    train(stage, iterations=1, made=True)
    shutil.rmtree(stage.folder / "use")


def _damaged_run(stage: Stage) -> None:
    """A run whose files were damaged, and resumed: goes on rightly or says what is wrong."""
    random = stage.random
    _start(stage)
    model = stage.folder / "model"
    way = random.randrange(12)
    path = model / "checkpoint.safetensors"
    if way <= 2:
        content = bytearray(path.read_bytes())
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
    elif way == 3:
        whole = path.read_bytes()
        path.write_bytes(whole[: random.randrange(len(whole))])
    elif way == 4:
        _change_metadata(path, random)
    elif way == 5:
        tensors = load_file(path)
        name = random.choice(sorted(tensors))
        tensor = tensors[name]
        tensors[name] = random.choice((
            tensor.float() * float("nan"), tensor.reshape(-1)[:0], tensor.float(),
            torch.zeros(3),
        ))  # fmt: skip
        save_file(tensors, path, _metadata(path))
    elif way == 6:
        log = model / "log.jsonl"
        log.write_bytes(random.choice((
            b"garbage\n", b"", b'{"iteration": NaN}\n', b"[" * 5000 + b"\n", b"\xff\xfe\n",
            b'{"iteration": "x"}\n', log.read_bytes()[:-5], b"null\n", b"9" * 400 + b"\n",
        )))  # fmt: skip
    elif way == 7:
        damage_json(model / "plan.json", random, stage.number)
    elif way == 8:
        cases = sorted(p for p in (model / "cases").rglob("*") if p.is_file())
        if cases:
            one = random.choice(cases)
            one.write_bytes(random.choice((b"", b"x" * 99, one.read_bytes()[:-7])))
    elif way == 9:
        model.rename(stage.folder / "renamed")
        (stage.folder / "renamed").rename(model)
        damage_json(model / "model.json", random, stage.number)
    elif way == 10:
        (model / "log.jsonl").unlink()
        os.mkfifo(model / "log.jsonl")
    else:
        path.unlink()
        random.choice((
            lambda: path.mkdir(), lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"),
        ))()  # fmt: skip
    written = {name for name in look_at(stage.folder) if name.split("/")[0] == "model"}
    ended = train(stage, "--resume", iterations=2, replaced=written)
    stage.hold(way > 3 or ended.code != 0, "a damaged checkpoint was resumed")


def _change_metadata(path: Path, random: Any) -> None:
    tensors, metadata = load_file(path), _metadata(path)
    if not metadata:
        return
    key = random.choice(sorted(metadata))
    value = random.choice(("", "null", "[]", "{}", "NaN", "9" * 400, "[" * 3000, "\x1b[31m", "-1"))
    metadata[key] = value
    if random.random() < 0.3:
        del metadata[key]
    save_file(tensors, path, metadata)


def _metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    found: dict[str, str] = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    return found


def _renamed_run(stage: Stage) -> None:
    """A training folder that got another name goes on."""
    _start(stage)
    (stage.folder / "model").rename(stage.folder / "other name")
    written = {n for n in look_at(stage.folder) if n.split("/")[0] == "other name"}
    stage.run(
        "train", "--data", stage.things.data, "--output", "other name", "--resume", "--iterations",
        2, "--device", "cpu", made=True, replaced=written,
        allowed=lambda name: name.startswith("other name"),
    )  # fmt: skip
