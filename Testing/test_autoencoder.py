"""The learned representation: what its latent and its decoded volumes depend on, and what not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from MedDiffusionLib.diffusion.label_features import LabelFeatures
from MedDiffusionLib.diffusion.representations import Autoencoder
from MedDiffusionLib.diffusion.representations.autoencoder import halvings

LABELS = 3


def autoencoder(
    factors: tuple[int, int, int] = (4, 4, 4), channels: tuple[int, ...] = (4, 4), **options: Any
) -> Autoencoder:
    given = {"haar": 1, "quantizer": {"name": "none"}, "labels": True, **options}
    torch.manual_seed(0)
    made = Autoencoder(
        1, factors, channels=channels, blocks=1, latent_channels=2, label_count=LABELS, **given
    )
    # As if it were trained: what starts at 0 counts too.
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def label_map(*size: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, LABELS + 1, (1, *size)), torch.ones(1, LABELS)


@pytest.mark.parametrize(
    ("factors", "haar", "channels"),
    [
        ((2, 2, 2), 1, (4,)),
        ((4, 4, 4), 0, (4, 4, 4)),
        ((8, 8, 8), 1, (4, 4, 8)),
        ((2, 4, 4), 1, (4, 4)),
        ((1, 2, 4), 2, (4,)),
    ],
)
def test_a_latent_is_smaller_by_its_factor_along_each_axis_and_decodes_to_the_images_size(
    factors: tuple[int, int, int], haar: int, channels: tuple[int, ...]
) -> None:
    made = autoencoder(factors, channels, haar=haar)
    image = torch.rand(1, 1, 16, 8, 24) * 2 - 1
    latent = made.encode(image)
    assert latent.shape == (1, 2, 16 // factors[0], 8 // factors[1], 24 // factors[2])
    assert made.decode(latent, *label_map(16, 8, 24)).shape == image.shape


def test_an_axis_of_thicker_voxels_is_halved_last() -> None:
    assert halvings((2, 4, 4)) == [(1, 2), (0, 1, 2)]
    assert halvings((1, 2, 4)) == [(2,), (1, 2)]
    assert halvings((1, 1, 1)) == []


@pytest.mark.parametrize(
    ("factors", "channels", "haar"), [((4, 4, 4), (4, 4), 1), ((2, 4, 4), (4, 4, 4), 0)]
)
def test_tiles_are_what_is_computed_at_once(
    factors: tuple[int, int, int], channels: tuple[int, ...], haar: int
) -> None:
    made = autoencoder(factors, channels, haar=haar)
    size = (2 * factors[0], 2 * factors[1], 20 * factors[2])
    image, (labels, annotated) = torch.rand(1, 1, *size) * 2 - 1, label_map(*size)
    latent = made.encode(image)
    decoded = made.decode(latent, labels, annotated)
    made.tile = 4
    assert (made.encode(image) - latent).abs().max() < 1e-3 * (latent.max() - latent.min())
    tiled = made.decode(latent, labels, annotated)
    assert (tiled - decoded).abs().max() < 1e-3 * 2
    made.halo = (1, 1, 1)
    assert (made.decode(latent, labels, annotated) - decoded).abs().max() > 1e-3 * 2
    assert (made.encode(image) - latent).abs().max() > 1e-3 * (latent.max() - latent.min())


def test_the_halo_is_as_far_as_a_latent_voxel_reaches() -> None:
    made = autoencoder()
    latent = torch.randn(1, 2, 16, 2, 2)
    changed = latent.clone()
    changed[:, :, 0] += 1
    apart = (made.decode(changed) - made.decode(latent)).abs().amax((0, 1, 3, 4))
    reached = int(apart.nonzero().max()) // 4
    assert made.halo[0] - 1 <= reached <= made.halo[0]


def test_large_volumes_are_computed_in_parts_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = autoencoder()
    made.tile, sizes = 4, []

    def decode(latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        sizes.append(latent[0, 0].numel())
        return latent.new_zeros(1, 1, *(4 * n for n in latent.shape[2:]))

    monkeypatch.setattr(made, "_decode", decode)
    made.decode(torch.zeros(1, 2, 40, 40, 40))
    assert len(sizes) == 1000
    assert max(sizes) <= (4 + 2 * made.halo[0]) ** 3


def test_the_memory_of_decoding_grows_with_the_volume_until_it_is_decoded_in_parts() -> None:
    made = autoencoder()
    small, twice = made.decoding_bytes((32, 32, 32)), made.decoding_bytes((32, 32, 64))
    assert twice == 2 * small > 0
    assert made.decoding_bytes((512, 512, 512)) == made.decoding_bytes((1024, 512, 512))


@pytest.mark.parametrize(
    "quantizer",
    [{"name": "none"}, {"name": "vq", "codes": 8}, {"name": "fsq", "levels": [3, 2]}],
)
def test_shapes_alone_are_known_without_computing(quantizer: dict[str, Any]) -> None:
    with torch.device("meta"), torch.no_grad():
        made = Autoencoder(1, [4, 4, 4], 1, [4, 8], 1, 2, quantizer, True, label_count=3)
        latent = made.encode(torch.empty(1, 1, 16, 16, 8))
        assert latent.shape == (1, 2, 4, 4, 2)
        assert made.decode(latent).shape == (1, 1, 16, 16, 8)


def test_a_latent_begins_well_above_the_noise_that_is_added_to_it() -> None:
    torch.manual_seed(0)
    made = Autoencoder(1, [4, 4, 4], 1, [16, 32], 1, 4, {"name": "none"})
    assert 0.5 < made.encode(torch.rand(1, 1, 32, 32, 32) * 2 - 1).std() < 2


def test_a_decoded_volume_follows_the_label_map_where_it_differs_and_near_it_alone() -> None:
    made = autoencoder()
    latent, (labels, annotated) = torch.randn(1, 2, 16, 2, 2), label_map(64, 8, 8)
    other = labels.clone()
    other[:, 0] = (other[:, 0] + 1) % (LABELS + 1)
    apart = made.decode(latent, other, annotated) - made.decode(latent, labels, annotated)
    apart = apart.abs().amax((0, 1, 3, 4))
    assert apart[0] > 1e-3
    assert apart[4 * (made.halo[0] + 1) :].max() == 0


def test_labels_that_are_unknown_are_another_thing_than_labels_that_are_not_there() -> None:
    made = autoencoder()
    latent = torch.randn(1, 2, 2, 2, 2)
    nothing = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    absent = made.decode(latent, nothing, torch.ones(1, LABELS))
    unknown = made.decode(latent, nothing, torch.zeros(1, LABELS))
    assert (absent - unknown).abs().max() > 1e-3
    assert torch.equal(made.decode(latent), unknown)


def test_without_labels_the_label_map_makes_no_difference() -> None:
    made, latent = autoencoder(labels=False), torch.randn(1, 2, 2, 2, 2)
    assert torch.equal(made.decode(latent, *label_map(8, 8, 8)), made.decode(latent))


def test_whatever_is_decoded_lies_in_range_and_nan_is_not_hidden() -> None:
    made, latent = autoencoder(), 1e4 * torch.randn(1, 2, 3, 3, 3)
    assert made.decode(latent).abs().max() <= 1
    latent[0, 0, 1, 1, 1] = torch.nan
    assert made.decode(latent).isnan().any()


def test_a_latents_channels_have_their_own_mean_and_one_deviation() -> None:
    made = autoencoder()
    image = torch.rand(1, 1, 32, 32, 32) * 2 - 1
    raw, decoded = made.encode(image), made.decode(made.encode(image))
    made.set_scale(raw.mean((0, 2, 3, 4)), raw.var((0, 2, 3, 4), correction=0))
    scaled = made.encode(image)
    torch.testing.assert_close(scaled.mean((0, 2, 3, 4)), torch.zeros(2), atol=1e-4, rtol=0)
    assert scaled.square().mean().item() == pytest.approx(1, rel=1e-4)
    ratio = (scaled[:, 0].std() / scaled[:, 1].std()) / (raw[:, 0].std() / raw[:, 1].std())
    assert ratio.item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(made.decode(scaled), decoded, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("mean", "variance"), [([0.0, 0.0], [0.0, 0.0]), ([torch.nan, 0.0], [1.0, 1.0])]
)
def test_latents_that_do_not_vary_or_are_not_finite_give_no_scale(
    mean: list[float], variance: list[float]
) -> None:
    with pytest.raises(ValueError, match="not finite, or do not vary"):
        autoencoder().set_scale(torch.tensor(mean), torch.tensor(variance))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": (4,)}, "need 2 channels, not 1"),
        ({"haar": 3}, "haar is 3, more than"),
        ({"quantizer": {"name": "novel"}}, "unknown quantizer 'novel'"),
        ({"quantizer": {"name": "vq"}}, "quantizer lacks 'codes'"),
        ({"quantizer": {"name": "fsq", "levels": [5]}}, "1 entries for 2 latent channels"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        autoencoder(**options)


@pytest.mark.parametrize("labels", [3, 20])
def test_features_of_a_label_map_are_the_convolution_of_its_one_hot_map(labels: int) -> None:
    torch.manual_seed(0)
    features = LabelFeatures(labels, (1, 2, 4), 5)
    maps = torch.randint(0, labels + 1, (2, 4, 6, 8))
    one_hot = torch.nn.functional.one_hot(maps, labels + 1).movedim(-1, 1).float()
    table = features.table if features.embedding is None else features.embedding @ features.table
    kernel = table.view(1, 2, 4, labels + 1, 5).permute(4, 3, 0, 1, 2)
    expected = torch.nn.functional.conv3d(one_hot, kernel, stride=(1, 2, 4))
    torch.testing.assert_close(features(maps), expected)
    torch.testing.assert_close(features(maps.to(torch.uint8)), expected)
