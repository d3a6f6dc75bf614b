"""Models of a learned latent as bundles: they come back whole, or are refused in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import TINY, tiny_manifest
from MedDiffusionLib.bundles.bundle import read_bundle, write_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.compute.files import file_sha256
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.volume import Kind, Volume

REPRESENTATION: dict[str, Any] = {
    "name": "autoencoder", "factors": [4, 4, 2], "haar": 1, "channels": [4, 4], "blocks": 1,
    "latent_channels": 3, "quantizer": {"name": "vq", "codes": 16}, "labels": True,
}  # fmt: skip
CODEBOOK = "representation.quantizer.codebook"
ON_CPU = Execution(torch.device("cpu"))


def architecture(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(TINY["architecture"])
    made["network"]["label_channels"] = 4
    made["representation"] = {**REPRESENTATION, **changes}
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model(tiny_manifest(architecture=architecture()))
    model.representation.set_scale(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0]))
    write_bundle(tmp_path / "latent", model)
    return tmp_path / "latent"


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_weights(bundle: Path, tensors: dict[str, torch.Tensor]) -> None:
    """New weights, with a manifest that vouches for them."""
    path = bundle / "weights.safetensors"
    save_file(tensors, path)
    weights = json.loads((bundle / "model.json").read_text())["weights"]
    edit(bundle, weights={**weights, "sha256": file_sha256(path)})


def label_map() -> Volume:
    array = np.zeros((16, 16, 16), np.uint8)
    array[4:12, 4:12, 4:12] = 1
    return Volume(array, np.eye(4), Kind.LABEL)


def test_a_model_of_a_learned_latent_comes_back_whole_and_makes_volumes(bundle: Path) -> None:
    model = read_bundle(bundle)
    assert model.latent_shape == (3, 4, 4, 8)
    stored = load_file(bundle / "weights.safetensors")
    for name in ("latent_mean", "latent_deviation", "quantizer.codebook", "quantizer.share"):
        assert stored[f"representation.{name}"].dtype == torch.float32
    assert model.representation.latent_deviation.tolist() == pytest.approx([2**0.5] * 3)
    made = Synthesizer(model, ON_CPU)
    (volume,) = made.synthesize(label_map(), native=True)
    (again,) = made.synthesize(label_map(), native=True)
    assert volume.array.shape == (16, 16, 16)
    assert 0 <= volume.array.min() < volume.array.max() <= 1000
    np.testing.assert_array_equal(volume.array, again.array)


def test_a_decoded_volume_knows_the_label_map_of_its_region(bundle: Path) -> None:
    made = Synthesizer(read_bundle(bundle), ON_CPU)
    seen = []
    decode = made.model.representation.decode

    def noted(latent: torch.Tensor, *known: torch.Tensor) -> torch.Tensor:
        seen.append(known)
        return decode(latent, *known)

    made.model.representation.decode = noted  # type: ignore[method-assign, assignment]
    made.synthesize(label_map(), native=True)
    ((labels, annotated),) = seen
    assert labels.shape == (1, 16, 16, 16)
    np.testing.assert_array_equal(labels[0].numpy(), label_map().array)
    assert annotated.tolist() == [[1, 0]]


def test_latents_that_are_not_finite_make_no_volume(bundle: Path) -> None:
    made = Synthesizer(read_bundle(bundle), ON_CPU)
    made.model.denoiser.get_parameter("network.conv_out.bias")[0] = torch.nan
    with pytest.raises(UserError, match="NaN or infinite intensities") as caught:
        list(made.samples(label_map(), Settings(native=True)))
    assert caught.value.code == "not-finite"


def test_a_scan_becomes_a_latent_and_is_decoded_in_its_place(bundle: Path) -> None:
    made = Synthesizer(read_bundle(bundle), ON_CPU)
    array = np.random.default_rng(0).uniform(0, 1000, (16, 16, 16)).astype(np.float32)
    scan = Volume(array, np.eye(4), Kind.INTENSITY)
    assert made.latent([scan], made.grid(label_map())).shape == (1, 3, 4, 4, 8)


def without_representation(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in tensors.items() if not name.startswith("representation.")}


def with_another(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("representation.", "vqgan."): t for name, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_representation, "too small for what model.json says of it"),
        (with_another, r"does not fit the architecture in model.json \(\d+ tensors missing"),
        (
            lambda tensors: {**tensors, CODEBOOK: torch.randn(32, 3)},
            rf"tensor {CODEBOOK} is \[32, 3\], not \[16, 3\]",
        ),
        (
            lambda tensors: {**tensors, "representation.latent_mean": torch.full((3,), torch.nan)},
            "NaN or infinite weights in representation.latent_mean",
        ),
        (
            lambda tensors: {**tensors, "representation.latent_deviation": torch.zeros(3)},
            "damaged .*latent_deviation that is not above 0",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_latent_are_refused(
    bundle: Path, change: Any, words: str
) -> None:
    replace_weights(bundle, change(load_file(bundle / "weights.safetensors")))
    with pytest.raises(UserError, match=words):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "autoencoder-2"}, "unknown representation 'autoencoder-2'"),
        ({"attention": True}, "representation has an unknown entry 'attention'"),
        ({"factors": [3, 4, 2]}, "is 3, not one of 1, 2, 4, 8, 16"),
        ({"factors": [16, 16, 2], "channels": [4] * 4}, "no multiple of 32 x 32 x 4"),
        ({"factors": [16, 16, 16], "channels": [4] * 4}, "no multiple of 32 along every axis"),
        ({"quantizer": {"name": "vq", "codes": 10**9}}, "codes is 1000000000, out of range"),
        ({"quantizer": {"name": "vq", "codes": 64}}, "its network has"),
        ({"latent_channels": 5}, "its network has"),
    ],
)
def test_a_manifest_of_another_latent_is_refused(
    bundle: Path, changes: dict[str, Any], words: str
) -> None:
    edit(bundle, architecture=architecture(**changes))
    with pytest.raises(UserError, match=words) as caught:
        read_bundle(bundle)
    assert str(caught.value).count(". ") <= 1
    assert "model.json" in str(caught.value)
