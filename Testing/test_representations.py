"""The representations: exactly invertible, orthonormal, and honest about validity."""

from __future__ import annotations

import pytest
import torch

from MedDiffusionLib.diffusion.representations import REPRESENTATIONS, Haar, Identity, coarsen_mask


@pytest.mark.parametrize("representation", [Identity(), Haar(1), Haar(2)])
def test_decoding_restores_the_image(representation: Identity | Haar) -> None:
    image = torch.randn(2, 3, 8, 12, 16, dtype=torch.float64)
    latent = representation.encode(image)
    f = representation.factor
    assert latent.shape == (2, 3 * representation.channels, 8 // f, 12 // f, 16 // f)
    torch.testing.assert_close(representation.decode(latent), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 2])
def test_haar_keeps_inner_products(levels: int) -> None:
    a, b = torch.randn(2, 1, 1, 8, 8, 8, dtype=torch.float64)
    haar = Haar(levels)
    torch.testing.assert_close((haar.encode(a) * haar.encode(b)).sum(), (a * b).sum())


def test_haar_of_a_constant_is_its_first_coefficient_alone() -> None:
    latent = Haar(1).encode(torch.full((1, 1, 4, 4, 4), 3.0))
    torch.testing.assert_close(latent[:, 0], torch.full((1, 2, 2, 2), 3 * 8**0.5))
    torch.testing.assert_close(latent[:, 1:], torch.zeros(1, 7, 2, 2, 2))


def test_haar_details_are_local() -> None:
    image = torch.zeros(1, 1, 8, 8, 8)
    image[0, 0, 5, 2, 7] = 1
    changed = Haar(1).encode(image).abs().amax(1)[0].nonzero()
    assert changed.tolist() == [[2, 1, 3]]


def test_channels_do_not_mix() -> None:
    image = torch.zeros(1, 2, 4, 4, 4)
    image[:, 1] = torch.randn(4, 4, 4)
    latent = Haar(1).encode(image).view(1, 8, 2, 2, 2, 2)
    assert latent[:, :, 0].abs().max() == 0
    assert latent[:, :, 1].abs().max() > 0


def test_a_latent_voxel_is_valid_only_if_all_its_voxels_are() -> None:
    valid = torch.ones(1, 1, 4, 4, 4)
    valid[0, 0, 3, 0, 0] = 0
    coarse = coarsen_mask(valid, 2)
    assert coarse.sum() == 7
    assert coarse[0, 0, 1, 0, 0] == 0


def test_every_registered_representation_states_factor_and_channels() -> None:
    for make in REPRESENTATIONS.values():
        representation = make()
        assert representation.channels == representation.factor**3
