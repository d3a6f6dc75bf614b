"""Bundles: what is saved loads again, and whatever is wrong is refused in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import TINY, make_bundle
from MedDiffusionLib.bundles.bundle import load_bundle
from MedDiffusionLib.bundles.manifest import SCHEMA_PATH, file_sha256, read_manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.schema import validate

SCHEMA = json.loads(SCHEMA_PATH.read_text("utf-8"))


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_weights(bundle: Path, tensors: dict[str, torch.Tensor]) -> None:
    """New weights, with a manifest that vouches for them."""
    path = bundle / "weights.safetensors"
    save_file(tensors, path)
    weights = json.loads((bundle / "model.json").read_text())["weights"]
    edit(bundle, weights={**weights, "sha256": file_sha256(path)})


def test_a_saved_bundle_loads_with_half_precision_weights(tiny_bundle: Path) -> None:
    loaded = load_bundle(tiny_bundle)
    stored = load_file(tiny_bundle / "weights.safetensors")
    for key, tensor in loaded.denoiser.state_dict().items():
        assert stored[key].dtype == torch.float16
        torch.testing.assert_close(tensor, stored[key].float(), rtol=0, atol=0)
    assert not loaded.denoiser.training


def test_a_manifest_that_is_no_json_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / "model.json").write_text('{"bundle_version": 1,')
    with pytest.raises(UserError, match="damaged"):
        load_bundle(tiny_bundle)


def test_a_newer_bundle_version_is_refused(tiny_bundle: Path) -> None:
    edit(tiny_bundle, bundle_version=99, something_new=True)
    with pytest.raises(UserError, match=r"newer than 1.*update MedDiffusion"):
        load_bundle(tiny_bundle)


@pytest.mark.parametrize("key", sorted(TINY))
def test_a_manifest_without_one_of_its_entries_is_refused(tiny_bundle: Path, key: str) -> None:
    path = tiny_bundle / "model.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=key):
        read_manifest(tiny_bundle)


@pytest.mark.parametrize("part", ["parameterization", "schedule"])
def test_an_unknown_part_of_the_architecture_is_refused(tiny_bundle: Path, part: str) -> None:
    edit(tiny_bundle, architecture={**TINY["architecture"], part: "novel"})
    with pytest.raises(UserError, match=f"unknown {part} 'novel'"):
        load_bundle(tiny_bundle)


def test_groups_that_do_not_divide_the_channels_are_refused(tiny_bundle: Path) -> None:
    architecture = copy.deepcopy(TINY["architecture"])
    architecture["network"]["groups"] = 3
    edit(tiny_bundle, architecture=architecture)
    with pytest.raises(UserError, match="damaged"):
        load_bundle(tiny_bundle)


def test_changed_weights_are_refused_by_their_hash(tiny_bundle: Path) -> None:
    path = tiny_bundle / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256"):
        load_bundle(tiny_bundle)


def test_missing_extra_misshapen_and_infinite_tensors_are_refused(tiny_bundle: Path) -> None:
    tensors = load_file(tiny_bundle / "weights.safetensors")
    key = "network.exit.bias"
    for changed, words in (
        ({k: v for k, v in tensors.items() if k != key}, "1 tensors missing, 0 unknown"),
        ({**tensors, "extra": torch.zeros(1)}, "0 tensors missing, 1 unknown"),
        ({**tensors, key: torch.zeros(3)}, f"tensor {key} is"),
        ({**tensors, key: tensors[key] * torch.inf}, "infinite"),
    ):
        replace_weights(tiny_bundle, changed)
        with pytest.raises(UserError, match=words):
            load_bundle(tiny_bundle)


def test_weights_that_are_no_safetensors_are_refused(tiny_bundle: Path) -> None:
    path = tiny_bundle / "weights.safetensors"
    path.write_bytes(b"\x80\x04pickle" * 10)
    weights = json.loads((tiny_bundle / "model.json").read_text())["weights"]
    edit(tiny_bundle, weights={**weights, "sha256": file_sha256(path)})
    with pytest.raises(UserError, match="damaged"):
        load_bundle(tiny_bundle)


def test_a_folder_without_a_manifest_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model bundle"):
        load_bundle(tmp_path)
    bundle = make_bundle(tmp_path / "tiny")
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_bundle(bundle)


def mutations() -> list[Any]:
    """Manifests with one thing changed, many of them wrong."""
    weights = {"sha256": "0" * 64, "parameters": 1, "dtype": "float16"}
    valid = {**copy.deepcopy(TINY), "weights": weights}
    found: list[Any] = [valid, None, [], "x", 3]
    for path in _paths(valid):
        values: tuple[Any, ...] = (None, -1, 0.5, "", "x" * 3, [], [1, 2, 3], {}, True, 10**6)
        for value in values:
            changed = copy.deepcopy(valid)
            parent = changed
            for step in path[:-1]:
                parent = parent[step]
            parent[path[-1]] = value
            found.append(changed)
    return found


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, item in items:
        found.append((*prefix, key))
        if isinstance(item, (dict, list)):
            found += _paths(item, (*prefix, key))
    return found


def test_our_schema_check_agrees_with_the_jsonschema_library() -> None:
    judge = jsonschema.Draft202012Validator(SCHEMA)
    verdicts = []
    for manifest in mutations():
        verdict = judge.is_valid(manifest)
        assert (validate(manifest, SCHEMA) is None) == verdict, manifest
        verdicts.append(verdict)
    assert 20 < sum(verdicts) < len(verdicts) - 200


def test_the_schema_uses_only_what_our_check_understands() -> None:
    understood = {
        "$schema", "title", "description", "type", "enum", "pattern", "minimum", "maximum",
        "exclusiveMinimum", "minItems", "maxItems", "items", "required", "properties",
        "additionalProperties",
    }  # fmt: skip

    def keywords(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), schema.get("items", {})]
        return set(schema).union(*(keywords(s) for s in inner if s))

    assert keywords(SCHEMA) <= understood
