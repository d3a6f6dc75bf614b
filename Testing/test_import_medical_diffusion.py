"""Checkpoints of Medical Diffusion become models: what is told, what is asked, what is refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from data_factory import shared_file
from MedDiffusionLib import load
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.importers import import_checkpoint
from MedDiffusionLib.bundles.importers.medical_diffusion import MEDICAL_DIFFUSION
from MedDiffusionLib.bundles.model import Model
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.archives import read_archive
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.representations.medical_vqgan import MedicalVQGAN
from MedDiffusionLib.synthesis.region import make_region
from MedDiffusionLib.volumes.grids import in_patient_order

State = dict[str, Tensor]
SMALL = "checkpoints/medicaldiffusion-ddpm-small.pt"
VQGAN = "checkpoints/medicaldiffusion-vqgan-small.ckpt"
SIZE = "size=8,32,32"


def small() -> State:
    """The averaged weights of the small checkpoint."""
    content = read_archive(shared_file(SMALL)).content
    return {name: tensor.load() for name, tensor in content["ema"].items()}


def save(path: Path, **content: Any) -> Path:
    torch.save({"step": 1, "scaler": {}, **content}, path)
    return path


def key_list(name: str) -> dict[str, Any]:
    path = shared_file(f"checkpoints/medicaldiffusion-published-keys-{name}.json")
    listed: dict[str, Any] = json.loads(path.read_bytes())
    return listed


def published(keys: str, prefix: str = "") -> Callable[[Tensor], State]:
    """The tensors of a list of keys, as views of some numbers."""
    listed = key_list(keys)

    def made(numbers: Tensor) -> State:
        state = {}
        for name, entry in listed["state_dict"].items():
            shape = entry["shape"]
            floating = entry["dtype"] == "float32"
            flat = numbers[: int(np.prod(shape))] if floating else torch.tensor(0)
            state[prefix + name] = flat.view(shape)
        return state

    return made


@pytest.mark.parametrize(
    ("network", "vqgan", "size", "width"),
    [
        ("ddpm-adni-brats-dim32", "adni-brats-222", (64, 64, 64), 32),
        ("ddpm-adni-brats-dim32", "mrnet-duke-lidc-888", (32, 256, 256), 32),
        (
            "ddpm-duke-low-compression-dim64",
            "mrnet-duke-lidc-low-compression-444",
            (32, 256, 256),
            64,
        ),
        ("ddpm-lidc-dim16", "mrnet-duke-lidc-888", (128, 128, 128), 16),
    ],
)
def test_published_sizes_need_no_option(
    network: str, vqgan: str, size: tuple[int, int, int], width: int, tmp_path: Path
) -> None:
    numbers = torch.rand(2**23) * 0.01
    state = {k: v for k, v in published(network)(numbers).items() if not k.startswith("vqgan.")}
    state |= published(f"vqgan-{vqgan}", "vqgan.")(numbers)
    path = save(tmp_path / "model-3.pt", ema=OrderedDict(state))
    model = MEDICAL_DIFFUSION.import_model(read_archive(path), {})
    manifest = model.manifest
    assert manifest.labels == ()
    assert manifest.grid.size == size
    assert manifest.grid.spacing == (1, 1, 1)
    assert [channel.range for channel in manifest.channels] == [(0, 255)]
    assert manifest.architecture.network.options["width"] == width
    assert manifest.architecture.schedule.options["steps"] == 300
    assert model.latent_shape[3] == width
    count = sum(p.numel() for p in model.denoiser.network.parameters())
    assert count == key_list(network)["denoise_fn_parameters"]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, own_user_folder: Path) -> Path:
    return own_user_folder / "models"


def test_a_checkpoint_is_imported_and_generates_a_volume(home: Path, tmp_path: Path) -> None:
    source, out = str(shared_file(SMALL)), tmp_path / "volume.nii.gz"
    arguments = ["--as", "small", "--option", SIZE, "--option", "spacing=3,2,1"]
    assert main(["import", source, *arguments]) == 0
    assert sorted(path.name for path in (home / "small").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    assert main(["generate", "--model", "small", "-o", str(out), "--steps", "2"]) == 0
    image = nibabel.load(out)
    # The network's axes D, H, W run up, back and to the left, as in the authors' own files.
    assert image.shape == (32, 32, 8)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_zooms() == (1, 2, 3)
    center = image.affine @ [15.5, 15.5, 3.5, 1]
    np.testing.assert_allclose(center, [0, 0, 0, 1], atol=1e-4)


def test_what_is_stored_is_what_was_in_the_file(home: Path) -> None:
    import_checkpoint(shared_file(SMALL), "small", {"size": [8, 32, 32]}, license="CC0-1.0")
    model, state = read_bundle(home / "small"), small()
    weight = model.denoiser.network.state_dict()["down.1.block2.conv1.weight"]
    assert torch.equal(weight, state["denoise_fn.downs.1.1.block1.proj.weight"])
    assert isinstance(model.representation, MedicalVQGAN)
    assert torch.equal(model.representation.codebook, state["vqgan.codebook.embeddings"])
    assert model.manifest.license == "CC0-1.0"
    names = "\n".join(model.state_dict())
    assert not any(dead in names for dead in ("discriminator", "perceptual", "z_avg"))


def test_the_volume_lies_as_the_authors_notebook_writes_it(home: Path) -> None:
    import_checkpoint(shared_file(SMALL), "small", {"size": [8, 32, 32]})
    with np.load(shared_file("checkpoints/medicaldiffusion-ddpm-small-fullrun.npz")) as file:
        latent = torch.from_numpy(file["latent_normalised"])
        written, affine = file["written_nifti_data"], file["written_nifti_affine"]
    made = load("small", "cpu")
    region = make_region(None, made.model.manifest.grid.centered(), ())
    (volume,) = made.volumes(latent, region, in_patient_order(region.grid))
    np.testing.assert_allclose(volume.array, written, atol=2e-5 * 127.5)
    np.testing.assert_array_equal(volume.affine[:3, :3], affine[:3, :3])


def test_a_vqgan_of_its_own_file_goes_with_a_checkpoint_without(home: Path, tmp_path: Path) -> None:
    bare = {k: v for k, v in small().items() if not k.startswith("vqgan.")}
    path = save(tmp_path / "bare.pt", ema=bare)
    refused(path, "was saved without its VQ-GAN", "option vqgan")
    options = {"size": [8, 32, 32], "vqgan": str(shared_file(VQGAN))}
    import_checkpoint(path, "joined", options)
    representation = read_bundle(home / "joined").representation
    assert isinstance(representation, MedicalVQGAN)
    stored = read_archive(shared_file(VQGAN)).content["state_dict"]["codebook.embeddings"]
    assert torch.equal(representation.codebook, stored.load())


def refused(path: Path, *words: str, **options: Any) -> None:
    """The import of a file fails with one sentence that has these words."""
    with pytest.raises(UserError) as caught:
        import_checkpoint(path, "refused", {"size": [8, 32, 32], **options})
    sentence = caught.value.sentence({})
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_vqgan_alone_is_refused_with_what_to_do() -> None:
    refused(shared_file(VQGAN), "a VQ-GAN of Medical Diffusion by itself", "option vqgan")


def test_a_size_that_no_one_knows_is_asked_for() -> None:
    with pytest.raises(UserError, match="size=64,64,64"):
        import_checkpoint(shared_file(SMALL), "refused")


def change(state: State, name: str, tensor: Tensor | None) -> State:
    changed = dict(state)
    if tensor is None:
        del changed[name]
    else:
        changed[name] = tensor
    return changed


BIAS = "denoise_fn.init_conv.bias"
BAD: Mapping[str, tuple[Callable[[State], State], str]] = {
    "a tensor less": (lambda s: change(s, BIAS, None), "lacks the tensor"),
    "a tensor more": (lambda s: change(s, "denoise_fn.more", torch.zeros(1)), "has the tensor"),
    "one beside": (lambda s: change(s, "more.weight", torch.zeros(1)), "which none has"),
    "no betas": (lambda s: change(s, "betas", None), "lacks betas"),
    "NaN": (lambda s: change(s, BIAS, torch.full((16,), torch.nan)), "NaN or infinite"),
    "whole numbers": (lambda s: change(s, BIAS, torch.zeros(16).long()), "floating-point"),
    "a wrong shape": (lambda s: change(s, BIAS, torch.zeros(17)), "[17], not [16]"),
    "texts": (lambda s: change(s, "denoise_fn.null_cond_emb", torch.zeros(1, 8)), "texts"),
    "two frequencies": (
        lambda s: change(s, "denoise_fn.downs.1.3.fn.fn.fn.rotary_emb.freqs", torch.zeros(16)),
        "several frequencies",
    ),
    "no codebook": (lambda s: change(s, "vqgan.codebook.embeddings", None), "codebook.embeddings"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_whole_is_refused(kind: str, home: Path, tmp_path: Path) -> None:
    alter, words = BAD[kind]
    refused(save(tmp_path / "bad.pt", ema=alter(small())), words)
    assert not home.exists() or not list(home.iterdir())


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    monai = published("ddpm-monai-unet")(torch.zeros(2**22 * 2))
    refused(save(tmp_path / "monai.pt", ema=monai), "calls UNet")
    refused(save(tmp_path / "model.pt", model=small()), "no weights ema", "option weights")
    path = shared_file(SMALL)
    refused(path, "leave the option vqgan away", vqgan=str(shared_file(VQGAN)))
    refused(path, "cannot have 5 groups", vqgan_groups=5)
    refused(path, "downsample to 2", downsample=[4, 4, 4])
    refused(path, "no multiple of 2 x 8 x 8", size=[8, 36, 32])
    bare = save(tmp_path / "bare.pt", ema={k: v for k, v in small().items() if "vqgan" not in k})
    refused(bare, "is no VQ-GAN of Medical Diffusion", vqgan=str(path))


def test_what_it_shows_may_be_said() -> None:
    def imported(**options: Any) -> Model:
        archive = read_archive(shared_file(SMALL))
        return MEDICAL_DIFFUSION.import_model(archive, {"size": [8, 32, 32], **options})

    assert "shrink all three axes 2 times" in imported().manifest.description
    assert "shrink" not in imported(downsample=[2, 2, 2]).manifest.description
    other = imported(weights="model").denoiser.network.state_dict()["conv_in.weight"]
    stored = read_archive(shared_file(SMALL)).content["model"]["denoise_fn.init_conv.weight"]
    assert torch.equal(other, stored.load())
    manifest = imported(data="brats").manifest
    assert manifest.channels[0].name == "FLAIR"
    assert manifest.grid.orientation == "LPS"
    assert imported(data="brats", orientation="RAS").manifest.grid.orientation == "RAS"
