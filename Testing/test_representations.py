"""The representations: exactly invertible, orthonormal, and honest about validity."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from MedDiffusionLib.diffusion.representations import Haar, Identity, Representation, coarsen_mask


@pytest.mark.parametrize("representation", [Identity(3), Haar(3, 1), Haar(3, 2)])
def test_decoding_restores_the_image(representation: Representation) -> None:
    image = torch.randn(2, 3, 8, 12, 16, dtype=torch.float64)
    latent = representation.encode(image)
    x, y, z = representation.latent_size((8, 12, 16))
    assert latent.shape == (2, representation.latent_channels, x, y, z)
    torch.testing.assert_close(representation.decode(latent), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 2])
def test_haar_keeps_inner_products(levels: int) -> None:
    a, b = torch.randn(2, 1, 1, 8, 8, 8, dtype=torch.float64)
    haar = Haar(1, levels)
    torch.testing.assert_close((haar.encode(a) * haar.encode(b)).sum(), (a * b).sum())


def test_haar_of_a_constant_is_its_first_coefficient_alone() -> None:
    latent = Haar(1, 1).encode(torch.full((1, 1, 4, 4, 4), 3.0))
    torch.testing.assert_close(latent[:, 0], torch.full((1, 2, 2, 2), 3 * 8**0.5))
    torch.testing.assert_close(latent[:, 1:], torch.zeros(1, 7, 2, 2, 2))


def test_haar_details_are_local() -> None:
    image = torch.zeros(1, 1, 8, 8, 8)
    image[0, 0, 5, 2, 7] = 1
    changed = Haar(1, 1).encode(image).abs().amax(1)[0].nonzero()
    assert changed.tolist() == [[2, 1, 3]]


def test_channels_do_not_mix() -> None:
    image = torch.zeros(1, 2, 4, 4, 4)
    image[:, 1] = torch.randn(4, 4, 4)
    latent = Haar(2, 1).encode(image).view(1, 8, 2, 2, 2, 2)
    assert latent[:, :, 0].abs().max() == 0
    assert latent[:, :, 1].abs().max() > 0


def test_a_latent_voxel_is_valid_only_if_all_its_voxels_are() -> None:
    valid = torch.ones(1, 1, 4, 4, 4)
    valid[0, 0, 3, 0, 0] = 0
    coarse = coarsen_mask(valid, (2, 2, 2))
    assert coarse.sum() == 7
    assert coarse[0, 0, 1, 0, 0] == 0


class Strided(Representation):
    """A small learned representation, as an autoencoder would be: convolutions, and a scale."""

    def __init__(self, image_channels: int) -> None:
        super().__init__((2, 2, 2), 4, scaled=True)
        self.halo = (2, 2, 2)
        self.into = nn.Conv3d(image_channels, 4, 2, stride=2)
        self.smooth = nn.Conv3d(4, 4, 3, padding=1)
        self.back = nn.ConvTranspose3d(4, image_channels, 2, stride=2)

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.into(image)

    def _decode(
        self, latent: torch.Tensor, labels: torch.Tensor | None, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        return self.back(self.smooth(self.smooth(latent)))


@torch.no_grad()
def test_what_is_decoded_in_tiles_is_what_is_decoded_at_once() -> None:
    torch.manual_seed(0)
    learned = Strided(1).double()
    latent = torch.randn(1, 4, 7, 6, 9, dtype=torch.float64)
    whole = learned.decode(latent)
    assert whole.shape == (1, 1, 14, 12, 18)
    learned.tile = 1
    torch.testing.assert_close(learned.decode(latent), whole, rtol=0, atol=1e-12)


@torch.no_grad()
def test_without_its_halo_a_tile_would_show() -> None:
    torch.manual_seed(0)
    learned = Strided(1).double()
    latent = torch.randn(1, 4, 7, 6, 9, dtype=torch.float64)
    whole = learned.decode(latent)
    learned.tile, learned.halo = 3, (0, 0, 0)
    assert (learned.decode(latent) - whole).abs().max() > 1e-3


@torch.no_grad()
def test_a_latents_scale_is_taken_off_and_put_back() -> None:
    torch.manual_seed(0)
    learned, image = Strided(1), torch.randn(1, 1, 4, 4, 4)
    plain, decoded = learned.encode(image), learned.decode(learned.encode(image))
    learned.latent_mean += torch.arange(4.0)
    learned.latent_deviation *= 2
    scaled = learned.encode(image)
    torch.testing.assert_close(scaled, (plain - torch.arange(4.0)[:, None, None, None]) / 2)
    torch.testing.assert_close(learned.decode(scaled), decoded)
    assert {"latent_mean", "latent_deviation"} <= learned.state_dict().keys()
