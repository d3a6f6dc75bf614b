"""The contrastive encoder, its views, and the copies that are planted for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F  # noqa: N812

from MedDiffusionLib.evaluation.audit.plants import PLANTS
from MedDiffusionLib.evaluation.features.contrastive import (
    Contrastive,
    ContrastiveEncoder,
    EncoderSettings,
    coarse,
    coarse_size,
    local_contrast,
    nt_xent,
    train_encoder,
)
from MedDiffusionLib.evaluation.features.views import Views, random_views

GRID = (12, 14, 10)
SMALL = EncoderSettings(steps=6, batch=8, channels=(4, 8), parts=3, size=16)


def volume(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(GRID)
    field = ndimage.gaussian_filter(noise, 1.5)
    return np.clip(0.4 * field / field.std(), -1, 1).astype(np.float32)[None]


EVERYWHERE = np.ones(GRID, bool)
VOLUMES = [coarse(volume(seed), EVERYWHERE, GRID) for seed in range(12)]


def test_nt_xent_is_the_published_formula_where_each_view_is_of_one_volume() -> None:
    random = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(6, 5, generator=random), dim=1)
    whose = torch.eye(3).repeat(2, 1)
    losses = []
    for i in range(6):
        j = (i + 3) % 6
        logits = [float(features[i] @ features[k]) / 0.2 for k in range(6) if k != i]
        losses.append(-float(features[i] @ features[j]) / 0.2 + np.log(np.exp(logits).sum()))
    assert float(nt_xent(features, whose, 0.2)) == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_blended_view_is_drawn_to_both_its_volumes() -> None:
    features = torch.eye(4, requires_grad=True)
    whose = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5], [1, 0]])
    nt_xent(features, whose, 1.0).backward()
    pulled = features.grad
    assert pulled is not None
    # The blended view moves towards views of both volumes, as the gradient's sign says.
    assert (pulled[2, [0, 1]] < 0).all()


def test_views_depend_on_the_seed_alone_and_stay_of_their_shape() -> None:
    images = torch.stack([image for image, _ in VOLUMES[:4]])
    valid = torch.stack([part for _, part in VOLUMES[:4]])
    one, again, other = (
        random_views(images, valid, Views(), torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert one[0].shape == images.shape
    assert one[1].shape == valid.shape
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])
    torch.testing.assert_close(one[2].sum(1), torch.ones(4))


def test_views_that_may_not_stray_are_the_volumes_themselves() -> None:
    images = torch.stack([image for image, _ in VOLUMES[:3]])
    valid = torch.ones(3, 1, *images.shape[2:])
    still = Views(**dict.fromkeys(vars(Views()), 0.0))
    seen, share, _ = random_views(images, valid, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen, images, atol=2e-5, rtol=0)
    assert torch.equal(share, valid)


def test_an_encoder_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    settings = replace(SMALL, steps=1)
    one, again, other = (train_encoder(VOLUMES, settings, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_features_have_mean_0_and_length_1_and_mirror_images_have_the_same() -> None:
    extractor = Contrastive(train_encoder(VOLUMES, SMALL, 0), GRID)
    found = extractor.features(volume(50), EVERYWHERE)
    assert found.shape == (16,)
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    for axis in (1, 2, 3):
        mirrored = extractor.features(np.flip(volume(50), axis).copy(), EVERYWHERE)
        np.testing.assert_allclose(mirrored, found, atol=1e-4)
    assert abs(found @ extractor.features(volume(51), EVERYWHERE)) < 0.9


def test_what_is_not_valid_has_no_part_in_the_features() -> None:
    encoder = ContrastiveEncoder(1, SMALL).eval()
    extractor = Contrastive(encoder, GRID)
    valid = EVERYWHERE.copy()
    valid[:3] = False
    changed = volume(1)
    changed[:, :3] = 1.0
    one, other = (extractor.features(image, valid) for image in (volume(1), changed))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_two_volumes_at_least_are_needed() -> None:
    with pytest.raises(ValueError, match="two volumes"):
        train_encoder(VOLUMES[:1], SMALL, 0)


@pytest.mark.parametrize("grid", [(40, 56, 40), (96, 112, 96), (16, 16, 16), (512, 512, 512)])
def test_a_coarse_volume_has_few_voxels_whatever_the_field_of_view(
    grid: tuple[int, int, int],
) -> None:
    size = coarse_size(grid)
    assert np.prod(size) <= 6000
    factors = np.array(grid) / size
    assert factors.max() / factors.min() < 1.2


def test_a_coarse_voxel_is_the_mean_of_what_is_valid_in_it() -> None:
    grid = (40, 56, 40)
    image = np.random.default_rng(0).random((1, *grid), np.float32)
    valid = np.random.default_rng(1).random(grid) < 0.5
    small, _ = coarse(image, valid, grid)
    place = np.s_[:3, :3, :3]
    assert float(small[0, 0, 0, 0]) == pytest.approx(image[0][place][valid[place]].mean(), abs=1e-5)


def test_what_is_valid_is_even_unless_that_costs_more_than_half_of_it() -> None:
    valid = EVERYWHERE.copy()
    valid[:3] = False
    share = coarse(volume(0), valid, GRID)[1][0]
    assert torch.equal(share, share.flip(0))
    assert share[3:9].min() == 1
    assert share[9:].max() == 0
    valid[:8] = False
    assert coarse(volume(0), valid, GRID)[1][0, 8:].min() == 1


def test_brightness_and_contrast_do_not_matter_though_they_change_slowly_over_the_volume() -> None:
    image, valid = (x[None] for x in VOLUMES[0])
    whole = local_contrast(0.3 * image - 0.2, valid)
    torch.testing.assert_close(whole, local_contrast(image, valid), atol=1e-4, rtol=1e-3)
    slope = torch.linspace(0.8, 1.2, image.shape[2]).view(1, 1, -1, 1, 1)
    one, other = local_contrast((image + 2) * slope, valid), local_contrast(image, valid)
    assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.9
    assert np.corrcoef(((image + 2) * slope).flatten(), image.flatten())[0, 1] < 0.9


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_copy_is_of_the_models_range_and_keeps_its_case_in_sight(kind: str) -> None:
    one, other = volume(1), volume(2)
    copy = PLANTS[kind](one, other, np.random.default_rng(0))
    assert copy.shape == one.shape
    assert copy.dtype == np.float32
    assert np.abs(copy).max() <= 1
    ways = [one, *(np.flip(one, axis) for axis in (1, 2, 3))]
    likeness = max(np.corrcoef(way.ravel(), copy.ravel())[0, 1] for way in ways)
    assert likeness > 0.6
    assert np.array_equal(copy, one) == (kind == "exact")


def test_planted_copies_stray_as_far_as_they_say() -> None:
    image = np.zeros((1, 21, 21, 21), np.float32)
    image[0, 10, 10, 10] = 1
    moved = PLANTS["elastic"](volume(1), volume(1), np.random.default_rng(0))
    assert not np.array_equal(moved, volume(1))
    noisy = PLANTS["Rician noise 10 %"](np.zeros_like(image), image, np.random.default_rng(0))
    # Well above 0 a Rician's deviation is that of its two Gaussians; the range is 2 wide.
    assert noisy.std() == pytest.approx(0.2, rel=0.05)
    blend = PLANTS["blend 1/2"](volume(1), volume(2), np.random.default_rng(0))
    np.testing.assert_allclose(blend, (volume(1) + volume(2)) / 2)
