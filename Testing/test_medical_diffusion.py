"""Medical Diffusion's parts give what its own program gave (golden files of random weights)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_factory import shared_file
from MedDiffusionLib.bundles.importers.medical_diffusion import MEDICAL_DIFFUSION, _config
from MedDiffusionLib.bundles.importers.medical_diffusion_names import is_dead_weight, vqgan_name
from MedDiffusionLib.bundles.model import Model
from MedDiffusionLib.compute.archives import read_archive
from MedDiffusionLib.diffusion.networks import medical_diffusion
from MedDiffusionLib.diffusion.networks.medical_diffusion import (
    MedicalDiffusionUNet,
    distance_buckets,
    rotate,
)
from MedDiffusionLib.diffusion.representations import medical_vqgan
from MedDiffusionLib.diffusion.representations.medical_vqgan import MedicalVQGAN
from MedDiffusionLib.diffusion.samplers import SAMPLERS

FOLDER = "checkpoints"
Golden = Mapping[str, Tensor]


def golden(name: str) -> Golden:
    with np.load(shared_file(f"{FOLDER}/medicaldiffusion-{name}.npz")) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return {k: a.float() if a.dtype == torch.float16 else a for k, a in arrays.items()}


def same(made: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(made, expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def imported() -> Model:
    path = shared_file(f"{FOLDER}/medicaldiffusion-ddpm-small.pt")
    return MEDICAL_DIFFUSION.import_model(read_archive(path), {"size": [8, 32, 32]})


@pytest.fixture(scope="module")
def network(imported: Model) -> MedicalDiffusionUNet:
    found = imported.denoiser.network
    assert isinstance(found, MedicalDiffusionUNet)
    return found


@pytest.fixture(scope="module")
def forward() -> Golden:
    return golden("ddpm-small-forward")


def run(network: MedicalDiffusionUNet, x: Tensor, t: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(x, t.float(), torch.zeros(0), torch.zeros(len(x), 0))


def test_the_network_predicts_the_same_noise(
    network: MedicalDiffusionUNet, forward: Golden
) -> None:
    for t, expected in zip(forward["fwd_t"], forward["fwd_eps"], strict=True):
        same(run(network, forward["fwd_x"], t[None]), expected)


def test_it_does_so_in_a_batch_and_with_more_slices_than_buckets(
    network: MedicalDiffusionUNet, forward: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medical_diffusion, "_MOST_LOGITS", 2**16)  # Attention in several parts.
    made = run(network, forward["fwd2_x"], forward["fwd2_t"])
    same(made, forward["fwd2_eps"])


def test_positions_and_time_are_embedded_as_there(
    network: MedicalDiffusionUNet, forward: Golden
) -> None:
    for length in (4, 24, 40):
        assert torch.equal(distance_buckets(length), forward[f"relpos_bucket_{length}"])
        torch.testing.assert_close(network.distance_bias(length), forward[f"relpos_bias_{length}"])
    turn = medical_diffusion._rotation(network.rotary_frequencies, 24)
    same(rotate(forward["rotary_in"], turn), forward["rotary_out"])
    time = network.time_embedding
    same(time.sinusoids(forward["fwd_t"]), forward["temb"])
    same(time(forward["fwd_t"]), forward["temb_after_mlp"])


def test_the_averaged_weights_are_taken(network: MedicalDiffusionUNet, forward: Golden) -> None:
    made = run(network, forward["fwd_x"], torch.tensor([150]))
    assert (made - forward["fwd_eps_t150_modelweights"]).abs().max() > 0.1


def test_an_image_becomes_the_latent_that_was_trained_on(imported: Model, forward: Golden) -> None:
    latent = imported.representation.encode(forward["image"])
    same(latent, forward["image_latent_normalised"])


def test_a_whole_run_gives_the_same_volume(imported: Model) -> None:
    run = golden("ddpm-small-fullrun")
    representation = imported.representation
    assert isinstance(representation, MedicalVQGAN)
    denoiser, noises = imported.denoiser, iter(run["noise"])
    labels, annotated = torch.zeros(1, 8, 32, 32, dtype=torch.long), torch.zeros(1, 0)
    with torch.inference_mode():
        latent = SAMPLERS["ddpm"](
            lambda x, t: denoiser(x, t.reshape(1).float(), labels, annotated),
            run["x_T"],
            denoiser.schedule.times(300),
            denoiser.schedule,
            lambda: next(noises),
            lambda step, x0: None,
        )
        same(latent, run["latent_normalised"])
        assert torch.equal(representation.indices(latent), run["indices"])
        same(representation.decode(latent), run["volume"])


def vqgan(name: str) -> MedicalVQGAN:
    """The VQ-GAN of a Lightning checkpoint, built from the settings in it."""
    content = read_archive(shared_file(f"{FOLDER}/medicaldiffusion-{name}.ckpt")).content
    config = _config(content)
    made = MedicalVQGAN(
        1,
        config["n_hiddens"],
        config["downsample"],
        config["n_codes"],
        config["embedding_dim"],
        config["num_groups"],
    )
    state = content["state_dict"].items()
    made.load_state_dict({vqgan_name(k): v.load() for k, v in state if not is_dead_weight(k)})
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("slab", [2**23, 3000])
@pytest.mark.parametrize("name", ["vqgan-small", "vqgan-small-444"])
def test_the_vqgan_encodes_and_decodes_the_same(
    name: str, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medical_vqgan, "_SLAB", slab)
    monkeypatch.setattr(medical_vqgan, "_LOOKUP", slab)
    made, given = vqgan(name), golden(f"{name}-golden")
    latent = made.encode(given["x"])
    same(latent, given["latent_normalised"])
    assert torch.equal(made.indices(latent), given["indices"])
    same(made.decode(latent), given["decode_quantize_of_latent"])
    latent = made.encode(given["x2"])
    assert torch.equal(made.indices(latent), given["indices2"])
    same(made.decode(latent), given["decode_quantize_of_latent2"])
    sampled = given["sampled_normalised"]
    assert torch.equal(made.indices(sampled), given["sampled_indices"])
    same(made.decode(sampled), given["sampled_decoded"])


def test_an_axis_may_have_fewer_levels_than_another() -> None:
    torch.manual_seed(0)
    made = MedicalVQGAN(1, 4, [1, 2, 4], 8, 2, 4).requires_grad_(False)
    made.codebook.normal_()
    assert made.factors == (1, 2, 4)
    image = torch.rand(1, 1, 5, 8, 12)
    latent = made.encode(image)
    assert latent.shape == (1, 2, 5, 4, 3)
    assert made.decode(latent).shape == image.shape
    # Of the first level by torch itself: kernel 4, strides 1, 2, 2, and the second 1, 1, 2.
    levels = cast(Sequence[nn.ModuleDict], made.encode_levels)
    first, second = (cast(nn.Conv3d, level["resample"]) for level in levels)
    h = torch.rand(1, 4, 5, 8, 12)
    padded = functional.pad(h, (1, 1, 1, 1, 2, 1), mode="replicate")
    expected = functional.conv3d(padded, first.weight, first.bias, (1, 2, 2))
    torch.testing.assert_close(first(h), expected)
    padded = functional.pad(expected, (1, 1, 2, 1, 2, 1), mode="replicate")
    expected = functional.conv3d(padded, second.weight, second.bias, (1, 1, 2))
    torch.testing.assert_close(second(first(h)), expected)
    grow = cast(nn.ConvTranspose3d, cast(nn.ModuleDict, made.decode_levels[0])["resample"])
    h = torch.rand(1, 16, 5, 4, 3)
    padded = functional.pad(h, (1, 1, 1, 1, 2, 1), mode="replicate")
    expected = functional.conv_transpose3d(padded, grow.weight, grow.bias, (1, 2, 2), padding=3)
    torch.testing.assert_close(grow(h), expected)


def test_slabs_of_layers_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    made = MedicalVQGAN(1, 4, [1, 4, 2], 8, 2, 4).requires_grad_(False)
    made.codebook.normal_()
    latent = torch.rand(1, 2, 7, 3, 5) * 2 - 1
    whole = made.decode(latent)
    encoded = made.encode(whole)
    monkeypatch.setattr(medical_vqgan, "_SLAB", 1)
    torch.testing.assert_close(made.decode(latent), whole)
    torch.testing.assert_close(made.encode(whole), encoded)


def test_half_precision_does_not_reach_the_vqgan() -> None:
    torch.manual_seed(0)
    made = MedicalVQGAN(1, 4, [2, 2, 2], 64, 4, 4).requires_grad_(False)
    made.codebook.normal_()
    latent = torch.rand(1, 4, 4, 4, 4) * 2 - 1
    expected = made.decode(latent)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.decode(latent), expected)
