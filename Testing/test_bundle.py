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

from conftest import TINY, make_bundle, tiny_manifest
from MedDiffusionLib.bundles.bundle import read_bundle, write_bundle
from MedDiffusionLib.bundles.manifest import SCHEMA_PATH, read_manifest
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.files import file_sha256
from MedDiffusionLib.compute.schema import validate
from MedDiffusionLib.diffusion.representations import REPRESENTATIONS, Identity, Representation

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
    loaded = read_bundle(tiny_bundle)
    stored = load_file(tiny_bundle / "weights.safetensors")
    for key, tensor in loaded.state_dict().items():
        assert stored[key].dtype == torch.float16
        torch.testing.assert_close(tensor, stored[key].float(), rtol=0, atol=0)
    assert not loaded.training


def test_a_manifest_that_is_no_json_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / "model.json").write_text('{"bundle_version": 2,')
    with pytest.raises(UserError, match="damaged"):
        read_bundle(tiny_bundle)


def test_a_newer_bundle_version_is_refused(tiny_bundle: Path) -> None:
    edit(tiny_bundle, bundle_version=99, something_new=True)
    with pytest.raises(UserError, match=r"newer than 2.*update MedDiffusion"):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("key", sorted(TINY))
def test_a_manifest_without_one_of_its_entries_is_refused(tiny_bundle: Path, key: str) -> None:
    path = tiny_bundle / "model.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=key):
        read_manifest(tiny_bundle)


@pytest.mark.parametrize("part", ["network", "representation", "schedule", "parameterization"])
def test_an_unknown_part_of_the_architecture_is_refused(tiny_bundle: Path, part: str) -> None:
    novel = "novel" if part == "parameterization" else {"name": "novel"}
    edit(tiny_bundle, architecture={**TINY["architecture"], part: novel})
    with pytest.raises(UserError, match=f"unknown {part} 'novel'"):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize(
    ("part", "options", "words"),
    [
        ("network", {"blocks": 0}, "network lacks .channels."),
        ("network", {"channels": [8, 8], "blocks": 1, "groups": 4}, "network lacks 'embedding'"),
        ("representation", {"levels": 3}, "representation: levels is 3, out of range"),
        ("schedule", {"offset": 0.1}, "schedule has an unknown entry 'offset'"),
    ],
)
def test_options_are_checked_by_the_part_that_they_are_for(
    tiny_bundle: Path, part: str, options: dict[str, Any], words: str
) -> None:
    named = {"name": TINY["architecture"][part]["name"], **options}
    edit(tiny_bundle, architecture={**TINY["architecture"], part: named})
    with pytest.raises(UserError, match=words):
        read_bundle(tiny_bundle)


def test_a_grid_that_the_network_cannot_halve_is_refused(tiny_bundle: Path) -> None:
    edit(tiny_bundle, grid={**TINY["grid"], "size": [16, 18, 16]})
    with pytest.raises(UserError, match="no multiple of 4"):
        read_bundle(tiny_bundle)


def test_a_manifest_is_what_its_file_says(tiny_bundle: Path) -> None:
    content = json.loads((tiny_bundle / "model.json").read_text())
    assert read_manifest(tiny_bundle).to_json() == content
    assert {key: content[key] for key in TINY} == TINY


OLD_NAMES = {
    "denoiser.network.conv_in.": "network.entry.",
    "denoiser.network.norm_out.": "network.exit_norm.",
    "denoiser.network.conv_out.": "network.exit.",
    "denoiser.network.annotated_embedding.": "network.present_embedding.",
    "denoiser.": "",
}
"""What version 1 called the weights that are called otherwise now."""


def old_name(name: str) -> str:
    new, old = next(item for item in OLD_NAMES.items() if name.startswith(item[0]))
    return old + name.removeprefix(new)


def test_a_bundle_of_version_1_loads_as_the_same_model(tiny_bundle: Path) -> None:
    before = read_bundle(tiny_bundle)
    stored = load_file(tiny_bundle / "weights.safetensors")
    architecture = {**TINY["architecture"], "schedule": "cosine"}
    edit(tiny_bundle, bundle_version=1, architecture=architecture)
    replace_weights(tiny_bundle, {old_name(key): tensor for key, tensor in stored.items()})
    after = read_bundle(tiny_bundle)
    assert after.manifest.architecture == before.manifest.architecture
    for name, tensor in after.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name])


def test_weights_of_version_1_are_refused_in_a_manifest_of_version_2(tiny_bundle: Path) -> None:
    stored = load_file(tiny_bundle / "weights.safetensors")
    replace_weights(tiny_bundle, {old_name(key): tensor for key, tensor in stored.items()})
    with pytest.raises(UserError, match="tensors missing"):
        read_bundle(tiny_bundle)


class Scaled(Identity):
    """A learned representation, as far as its weights and its scale go."""

    def __init__(self, image_channels: int, *, label_count: int = 0) -> None:
        Representation.__init__(self, (1, 1, 1), image_channels, scaled=True)
        self.gain = torch.nn.Parameter(torch.full((1,), 1 / 3))


def test_a_representations_weights_and_scale_are_kept_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REPRESENTATIONS, "scaled", Scaled)
    architecture = {**TINY["architecture"], "representation": {"name": "scaled"}}
    model = build_model(tiny_manifest(architecture=architecture))
    model.representation.latent_mean += 1 / 3
    write_bundle(tmp_path / "model", model)
    read = read_bundle(tmp_path / "model").representation
    assert torch.equal(read.latent_mean, model.representation.latent_mean)
    assert read.get_parameter("gain").item() == torch.tensor(1 / 3).half().item()


def test_a_model_on_the_meta_device_has_shapes_alone() -> None:
    with torch.device("meta"):
        model = build_model(tiny_manifest())
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.latent_shape == (8, 8, 8, 8)


def test_groups_that_do_not_divide_the_channels_are_refused(tiny_bundle: Path) -> None:
    architecture = copy.deepcopy(TINY["architecture"])
    architecture["network"]["groups"] = 3
    edit(tiny_bundle, architecture=architecture)
    with pytest.raises(UserError, match="damaged"):
        read_bundle(tiny_bundle)


def test_changed_weights_are_refused_by_their_hash(tiny_bundle: Path) -> None:
    path = tiny_bundle / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256"):
        read_bundle(tiny_bundle)


def test_missing_extra_misshapen_and_infinite_tensors_are_refused(tiny_bundle: Path) -> None:
    tensors = load_file(tiny_bundle / "weights.safetensors")
    key = "denoiser.network.conv_out.bias"
    for changed, words in (
        ({k: v for k, v in tensors.items() if k != key}, "1 tensors missing, 0 unknown"),
        ({**tensors, "extra": torch.zeros(1)}, "0 tensors missing, 1 unknown"),
        ({**tensors, key: torch.zeros(3)}, f"tensor {key} is"),
        ({**tensors, key: tensors[key] * torch.inf}, "infinite"),
    ):
        replace_weights(tiny_bundle, changed)
        with pytest.raises(UserError, match=words):
            read_bundle(tiny_bundle)


def test_weights_that_are_no_safetensors_are_refused(tiny_bundle: Path) -> None:
    path = tiny_bundle / "weights.safetensors"
    path.write_bytes(b"\x80\x04pickle" * 10)
    weights = json.loads((tiny_bundle / "model.json").read_text())["weights"]
    edit(tiny_bundle, weights={**weights, "sha256": file_sha256(path)})
    with pytest.raises(UserError, match="damaged"):
        read_bundle(tiny_bundle)


def test_a_folder_without_a_manifest_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model bundle"):
        read_bundle(tmp_path)
    bundle = make_bundle(tmp_path / "tiny")
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        read_bundle(bundle)


def mutations() -> list[Any]:
    """Manifests with one thing changed, many of them wrong."""
    weights = {"sha256": "0" * 64, "parameters": 1, "dtype": "float16"}
    valid = {**copy.deepcopy(TINY), "weights": weights}
    found: list[Any] = [valid, None, [], "x", 3]
    for path in _paths(valid):
        values: tuple[Any, ...] = (
            None,
            -1,
            0.5,
            "",
            "x" * 3,
            "x" * 99999,
            [],
            [1, 2, 3],
            {},
            True,
            10**6,
        )
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
        "exclusiveMinimum", "minItems", "maxItems", "items", "maxLength", "required",
        "properties", "additionalProperties",
    }  # fmt: skip

    def keywords(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), schema.get("items", {})]
        return set(schema).union(*(keywords(s) for s in inner if s))

    assert keywords(SCHEMA) <= understood
