"""Models whose manifest, weights or shape model are not as they were written."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from torture.judge import check_volume
from torture.stage import Stage
from torture.things import copy_bundled

Where = tuple[str | int, ...]
DELETE = object()
_BIG = 10**400
VALUES: tuple[Any, ...] = (
    None, True, "", "text", "\x1b[31mred\x1b[0m", "a\nb", "../../etc", 0, -1, 1, 3, 0.5, 1e-300,
    1e39, 1e300, float("nan"), float("inf"), -float("inf"), _BIG, 2**63, 65536, [], {}, [None],
    ["a"] * 300, "x" * 5000, "\ud800", "\u202e", [[[]]], {"name": "x"},
)  # fmt: skip
"""What is put in the place of a value."""
_NUMBERS = (
    float("nan"), float("inf"), -float("inf"), 1e39, -1e39, 1e300, 1e-300, _BIG, 2**63, 65536, 4096,
)  # fmt: skip
_CRAFTED: tuple[tuple[Where, Any], ...] = (
    (("grid", "size"), [9, 16, 16]),
    (("grid", "size"), [512, 8, 8]),
    (("grid", "size"), [8, 8, 8]),
    (("grid", "spacing"), [float("nan"), 1, 1]),
    (("grid", "spacing"), [1e300, 1, 1]),
    (("grid", "spacing"), [1e-300, 1, 1]),
    (("grid", "spacing"), [20, 20, 20]),
    (("grid", "spacing"), [0.009, 0.009, 0.009]),
    (("grid", "orientation"), "RAS\n"),
    (("grid", "orientation"), "RAA"),
    (("channels", 0, "range"), [float("nan"), 1]),
    (("channels", 0, "range"), [0, 1e39]),
    (("channels", 0, "range"), [-1e308, 1e308]),
    (("channels", 0, "range"), [5, 5]),
    (("channels", 0, "range"), [1, 0]),
    (("channels", 0, "name"), "../../x"),
    (("channels", 0, "name"), "T1\n"),
    (("architecture", "network", "channels"), [4096] * 8),
    (("architecture", "network", "channels"), [8] * 10_000),
    (("architecture", "network", "blocks"), 10_000),
    (("architecture", "network", "embedding"), 2**30),
    (("architecture", "network", "groups"), 0),
    (("architecture", "representation", "levels"), 40),
    (("labels", 1, "name"), "anterior"),
    (("labels", 1, "value"), 1),
    (("labels", 0, "name"), "\x1b]0;title\x07"),
    (("labels", 0, "name"), "background"),
    (("title",), "a\nb\x1b[2J"),
    (("description",), "<img src=x onerror=alert(1)>"),
    (("sampling", "sampler"), "nothing"),
    (("sampling", "guidance"), 1e-9),
    (("weights", "parameters"), 2**60),
    (("license",), "\ud800"),
    (("bundle_version",), 1),
    (("bundle_version",), 10**30),
)
"""What is no damage by chance: a field and its value."""


def play(stage: Stage) -> None:
    """A damaged model, in a synthesis, a card, the list of models or a random label map."""
    random = stage.random
    folder = stage.folder / "user" / "models" / "broken"
    folder.parent.mkdir(parents=True)
    if random.random() < 0.15:
        copy_bundled(folder)
    else:
        shared = stage.things.model if random.random() < 0.8 else stage.things.pair
        stage.copy(shared, "user/models/broken")
    way = random.random()
    if way < 0.62:
        damage_json(folder / "model.json", random, stage.number)
    elif way < 0.85:
        _damage_weights(folder, random)
    elif (folder / "shape.safetensors").exists():
        _damage_shape_model(folder, random)
    else:
        _damage_file(folder / "model.json", random)
    _use(stage, folder)


def _use(stage: Stage, folder: Path) -> None:
    home = {"MEDDIFFUSION_HOME": str(stage.folder / "user")}

    def measured(name: str) -> bool:
        return name == "user/execution.json"

    way = stage.random.random()
    if way < 0.6 or (way > 0.9 and not (folder / "shape.safetensors").exists()):
        stage.things.label_map(stage.path("in/a.nii.gz"))
        # Contrasts may have got other names, and so the files.
        ended = stage.run(
            "synthesize", "in/a.nii.gz", "-o", stage.path("out/v.nii.gz").relative_to(stage.folder),
            "--model", "broken", "--device", "cpu", "--steps", 1, "--label", "1=anterior",
            *(() if stage.random.random() < 0.5 else ("--label", "2=posterior")),
            allowed=lambda name: measured(name) or name.startswith("out/v"), environment=home,
        )  # fmt: skip
        made = sorted((stage.folder / "out").iterdir())
        stage.hold(
            bool(made) == (ended.code == 0), f"exit code {ended.code} with {len(made)} files"
        )
        for path in made:
            if path.name.endswith(".nii.gz"):
                check_volume(path)
    elif way < 0.75:
        stage.run("info", "broken", environment=home)
    elif way < 0.9:
        ended = stage.run("models", environment=home, made=True)
        stage.hold("hippocampus-mr" in ended.out, "the sound models are not listed")
        lines = [line for line in ended.out.splitlines() if line.startswith("broken")]
        stage.hold(len(lines) == 1, f"{len(lines)} lines for one model")
    else:
        stage.run(
            "labelmap", "--random", "-o", "m.nii.gz", "--model", "broken", environment=home,
            allowed=lambda name: name == "m.nii.gz",
        )  # fmt: skip


def damage_json(path: Path, random: Random, number: int = 0) -> None:
    """One or two fields of a JSON file deleted or replaced; now and then its text damaged."""
    if random.random() < 0.12:
        _damage_file(path, random)
        return
    content = json.loads(path.read_text("utf-8"))
    fields = list(_fields(content))
    for n in range(random.choice((1, 1, 1, 2))):
        # In turn, so that every field comes.
        where = fields[number % len(fields)] if n == 0 else random.choice(fields)
        if random.random() < 0.25:
            replace_at(content, *random.choice(_CRAFTED))
            continue
        value = DELETE if random.random() < 0.15 else near(_at(content, where), random)
        replace_at(content, where, value)
    path.write_text(json.dumps(content), "utf-8", "surrogatepass")


def near(value: Any, random: Random) -> Any:
    """Another value: any of the odd ones, or one that is nearly right."""
    if random.random() < 0.7:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int | float):
            nearly = (-value, value * 2, value + 1, value * 1e6, value / 3, str(value), 0, 7)
            return random.choice((*nearly, *_NUMBERS, *_NUMBERS))
        if isinstance(value, str):
            return random.choice((value.upper(), value + "\n", value[:-1], [value], value * 100))
        if isinstance(value, list):
            return random.choice((value[:-1], value * 2, value * 1000, value[::-1], [value]))
    return random.choice(VALUES)


def _fields(content: Any, at: Where = ()) -> Iterator[Where]:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from _fields(value, (*at, key))


def _at(content: Any, where: Where) -> Any:
    for key in where:
        content = content[key]
    return content


def replace_at(content: Any, where: Where, value: Any) -> None:
    """Put a value in the place of another, or delete that; nothing where it is gone already."""
    try:
        inner = _at(content, where[:-1])
        if value is DELETE:
            del inner[where[-1]]
        else:
            inner[where[-1]] = copy.deepcopy(value)
    except (KeyError, IndexError, TypeError):
        pass


def _damage_file(path: Path, random: Random) -> None:
    """Another text in the place of a JSON file, or something that is no file."""
    if random.random() < 0.25:
        path.unlink()
        way = random.randrange(5)
        if way == 0:
            path.mkdir()
        elif way == 1:
            os.mkfifo(path)
        elif way == 2:
            path.symlink_to("/dev/zero")
        elif way == 3:
            path.symlink_to(path.name)
        else:
            path.touch()
            os.truncate(path, 2**34)
        return
    text = path.read_bytes()
    texts = (
        text[: random.randrange(len(text))], b"", b"[" * 100_000, b'{"a":' * 50_000,
        b'{"deep": ' + b"[" * 900 + b"]" * 900 + b"," + text[1:], b"\xff\xfe" + text,
        b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text + text,
        text.replace(b'"name"', b'"name\\u0000"'), b"null", b"[]", b"9" * 5000,
        b'"' + b"x" * 2**24 + b'"',
    )  # fmt: skip
    path.write_bytes(random.choice(texts))


def _vouch(folder: Path, key: str, name: str) -> None:
    """Let the manifest vouch for a changed file, so that what is behind the hash is tried."""
    path = folder / "model.json"
    content = json.loads(path.read_text("utf-8"))
    if isinstance(content.get(key), dict):
        content[key]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(content), "utf-8")


def _damage_weights(folder: Path, random: Random) -> None:
    _damage_tensors(folder, "weights.safetensors", "weights", random)


def _damage_shape_model(folder: Path, random: Random) -> None:
    _damage_tensors(folder, "shape.safetensors", "shape_model", random)


def _damage_tensors(folder: Path, name: str, key: str, random: Random) -> None:
    path = folder / name
    way = random.randrange(12)
    content = bytearray(path.read_bytes())
    if way == 0:
        path.write_bytes(content[: random.randrange(len(content))])
    elif way == 1:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
    elif way == 2:
        struct.pack_into("<Q", content, 0, random.choice((0, 2, 2**20, 2**40, 2**64 - 1)))
        path.write_bytes(content)
    elif way == 3:
        _damage_file_kind(path, random)
        return
    elif way <= 6:
        _change_tensor(path, random)
    elif way == 7:
        # Bytes of the header: names, types, shapes, offsets.
        (size,) = struct.unpack_from("<Q", content)
        for _ in range(random.choice((1, 3))):
            content[8 + random.randrange(size)] = random.randrange(32, 127)
        path.write_bytes(content)
    else:
        _retype_tensor(path, random)
    if random.random() < 0.85:
        _vouch(folder, key, name)


def _damage_file_kind(path: Path, random: Random) -> None:
    path.unlink()
    way = random.randrange(6)
    if way == 0:
        path.mkdir()
    elif way == 1:
        os.mkfifo(path)
    elif way == 2:
        path.symlink_to(random.choice(("/dev/zero", "/dev/null", "nowhere", path.name)))
    elif way == 3:
        path.touch()
    elif way == 4:
        path.touch()
        os.truncate(path, 12 * 2**30)


def _change_tensor(path: Path, random: Random) -> None:
    tensors = load_file(path)
    name = random.choice(sorted(tensors))
    value = random.choice((float("nan"), float("inf"), 6e4, -6e4, 0.0, 1e30))
    tensor = tensors[name]
    way = random.randrange(5)
    if way == 0:
        tensor.reshape(-1)[random.randrange(tensor.numel())] = torch.tensor(value).to(tensor.dtype)
    elif way == 1:
        for one in tensors.values():
            # Beyond float16 a number becomes infinite, where filling would refuse it.
            one.copy_(torch.tensor(value).to(one.dtype))
    elif way == 2:
        del tensors[name]
    elif way == 3:
        tensors["extra\x1b[31m"] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(random.choice(((1,), (0,), (2, 3), (10_000_000,))))
    _save(path, tensors)


def _retype_tensor(path: Path, random: Random) -> None:
    tensors = load_file(path)
    types = (
        torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool,
        torch.uint8,
    )  # fmt: skip
    dtype = random.choice(types)
    names = sorted(tensors) if random.random() < 0.5 else [random.choice(sorted(tensors))]
    for name in names:
        tensors[name] = tensors[name].to(dtype)
    _save(path, tensors)


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """With the metadata that the file had."""
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    metadata = json.loads(content[8 : 8 + size]).get("__metadata__")
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
