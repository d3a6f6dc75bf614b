"""Bundles that hold wrong numbers, texts and tensors: one sentence, before memory is taken."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import TINY, make_bundle
from data_factory import ordinary_user
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.catalog import find_model, load_manifests
from MedDiffusionLib.bundles.generators import load_generator
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.files import file_sha256
from MedDiffusionLib.compute.schema import validate

Edit = Callable[[Any], object]

LABELS: list[dict[str, Any]] = TINY["labels"]


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def labels(**changes: Any) -> list[dict[str, Any]]:
    """The tiny model's labels, the second one changed."""
    return [LABELS[0], {**LABELS[1], **changes}]


def channel(**changes: Any) -> list[dict[str, Any]]:
    return [{**TINY["channels"][0], **changes}]


def grid(**changes: Any) -> dict[str, Any]:
    return {**TINY["grid"], **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": channel(range=[math.nan, 1])}, "NaN is no finite number"),
        ({"channels": channel(range=[0, math.inf])}, "Infinity is no finite number"),
        ({"channels": channel(range=[0, 1e39])}, "out of range"),
        ({"channels": channel(range=[1000, 0])}, "does not end above its start"),
        ({"channels": channel(range=[5, 5])}, "does not end above its start"),
        ({"channels": channel(range=[1e9, 1e9 + 1])}, "does not end above its start"),
        ({"channels": channel(name="a/b")}, "does not match"),
        ({"channels": [*channel(name="t1"), *channel(name="T1")]}, "the channel t1 twice"),
        ({"labels": labels(name="Anterior")}, "the label anterior twice"),
        ({"labels": labels(value=1)}, "the label value 1 twice"),
        ({"labels": labels(value=2**31)}, "out of range"),
        ({"labels": labels(value=10**309)}, "too large a number"),
        ({"labels": labels(name="x\x1b[31m")}, "has control characters"),
        ({"labels": labels(name="x\ny")}, "does not match"),
        ({"labels": labels(name="x" * 65)}, "longer than 64"),
        ({"labels": labels(name="\ud800")}, "has control characters"),
        ({"title": "x" * 201}, "longer than 200"),
        ({"title": "two\nlines"}, "does not match"),
        ({"name": "tiny\n"}, "does not match"),
        ({"name": "../tiny"}, "does not match"),
        ({"grid": grid(orientation="RAS\n")}, "does not match"),
        ({"grid": grid(orientation="RRS")}, "does not match"),
        ({"grid": grid(orientation="RASL")}, "does not match"),
        ({"grid": grid(spacing=[1, 1, math.nan])}, "no finite number"),
        ({"grid": grid(spacing=[1, 1, 1e300])}, "out of range"),
        ({"grid": grid(spacing=[1, 1, 1e-300])}, "out of range"),
        ({"grid": grid(spacing=[1, 1, True])}, "not of type number"),
        ({"grid": grid(size=[16, 16, 2**40])}, "out of range"),
        ({"intensity": {"percentiles": [99, 1]}}, "does not end above its start"),
        ({"intensity": {"window": [[1, 1]]}}, "does not end above its start"),
        ({"sampling": {"sampler": "ddim", "steps": 2, "guidance": math.nan}}, "no finite number"),
        ({"label_dropout": math.nan}, "no finite number"),
        ({"figures": [{"name": "x", "value": "y", "command": "z"}] * 257}, "has 257 entries"),
        ({"title": 1e999}, "no finite number"),
    ],
)  # fmt: skip
def test_a_manifest_with_such_content_is_refused(
    tiny_bundle: Path, changes: dict[str, Any], said: str
) -> None:
    edit(tiny_bundle, **changes)
    with pytest.raises(UserError, match=said) as caught:
        read_manifest(tiny_bundle)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_of_a_schema_is_nan_or_infinite(number: float) -> None:
    assert validate(number, {"type": "number"}, "it") == "it is no finite number"


def make_network(bundle: Path, **options: Any) -> None:
    architecture = copy.deepcopy(TINY["architecture"])
    architecture["network"] |= options
    edit(bundle, architecture=architecture)


def test_a_network_that_is_not_that_of_the_weights_takes_no_memory(tiny_bundle: Path) -> None:
    make_network(tiny_bundle, channels=[4096] * 2, blocks=16)
    with pytest.raises(UserError, match=r"its network has [\d,]+ parameters"):
        read_bundle(tiny_bundle)


def test_a_huge_file_of_weights_is_refused_by_its_size_alone(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(tiny_bundle / "weights.safetensors", 12 * 2**30)
    monkeypatch.setattr("MedDiffusionLib.bundles.files.file_sha256", None)
    with pytest.raises(UserError, match="12,884,901,888 bytes are too large"):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("kind", [torch.float8_e5m2, torch.int64, torch.bool, torch.float64])
def test_tensors_of_another_type_than_declared_are_refused(
    tiny_bundle: Path, kind: torch.dtype
) -> None:
    path = tiny_bundle / "weights.safetensors"
    tensors = load_file(path)
    key = "denoiser.network.conv_out.bias"
    save_file({**tensors, key: tensors[key].to(kind)}, path)
    weights = json.loads((tiny_bundle / "model.json").read_text())["weights"]
    edit(tiny_bundle, weights={**weights, "sha256": file_sha256(path)})
    with pytest.raises(UserError, match=f"tensor {key} is of the type"):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused(tiny_bundle: Path, name: str, make: Edit) -> None:
    (tiny_bundle / name).unlink()
    make(tiny_bundle / name)
    with pytest.raises(UserError, match=r"cannot be read|too large|too small"):
        read_bundle(tiny_bundle)


# ---- shape models


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(mean=t["mean"].bfloat16()), "does not fit"),
        (lambda t: t.update(modes=t["modes"].double()), "does not fit"),
        (lambda t: t.update(explained=torch.tensor(1.0)), "does not fit"),
        (lambda t: t.update(volumes=torch.zeros(3)), "does not fit"),
        (lambda t: t.pop("modes"), "is damaged"),
        (lambda t: t["mean"].view(-1)[0].fill_(math.nan), "NaN or infinite"),
        (lambda t: t["volumes"].fill_(math.inf), "NaN or infinite"),
    ],
)
def test_a_shape_model_with_such_tensors_is_refused(
    tmp_path: Path, change: Edit, said: str
) -> None:
    manifest = read_manifest(find_model("hippocampus-mr"))
    source = find_model("hippocampus-mr") / "shape.safetensors"
    tensors = load_file(source)
    change(tensors)
    path = tmp_path / "shape.safetensors"
    with safe_open(source, framework="numpy") as file:
        save_file(tensors, path, file.metadata())
    content = {**manifest.to_json(), "shape_model": {"sha256": file_sha256(path)}}
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        load_generator(tmp_path, read_manifest(tmp_path))


# ---- one broken bundle among others


BROKEN: dict[str, Edit] = {
    "deep": lambda path: path.write_text('{"a":' * 100_000),
    "nan": lambda path: path.write_text('{"bundle_version": NaN}'),
    "long": lambda path: path.write_text(f'{{"bundle_version": {"9" * 400}}}'),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "fifo": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "huge": lambda path: path.write_bytes(b" " * 2**21),
    "nowhere": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
}  # fmt: skip


def test_broken_bundles_are_listed_beside_the_others(
    own_user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = own_user_folder / "models"
    make_bundle(models / "mine")
    for name, change in BROKEN.items():
        (models / name).mkdir()
        change(models / name / "model.json")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "unusable" in line] == sorted(BROKEN)
    assert any(line.startswith("mine ") and "Tiny" in line for line in lines)


def test_a_models_folder_that_cannot_be_read_hides_no_other(
    own_user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_user_folder / "models").write_text("no folder")
    assert [folder.name for folder, _ in load_manifests()] == ["hippocampus-mr"]


@pytest.mark.parametrize("name", ["", "x\0y", "x" * 5000, "\x1b[31m"])
def test_a_name_that_no_model_can_have_is_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match="There is no model"):
        find_model(name)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "."])
def test_what_may_not_be_read_is_said_so(
    tiny_bundle: Path, own_user_folder: Path, name: str
) -> None:
    models = own_user_folder / "models"
    models.mkdir()
    tiny_bundle.rename(models / "tiny")
    for folder in (own_user_folder, *own_user_folder.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (models / "tiny" / name).chmod(0)
    with ordinary_user():
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            read_bundle(find_model("tiny"))
        found = {folder.name: manifest for folder, manifest in load_manifests()}
    assert isinstance(found["tiny"], UserError) == (name != "weights.safetensors")
    (models / "tiny" / name).chmod(0o755)
