"""Quantizers: nearest codes, gradients that pass, codes that live, and nothing hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from MedDiffusionLib.diffusion.representations.codes import nearest
from MedDiffusionLib.diffusion.representations.quantizers import (
    QUANTIZERS,
    FiniteScalar,
    Quantizer,
    Unquantized,
    VectorQuantized,
)


def of_one_process(tensor: Tensor) -> Tensor:
    return tensor


def made(name: str) -> Quantizer:
    torch.manual_seed(0)
    options: dict[str, dict[str, Any]] = {"vq": {"codes": 16}, "fsq": {"levels": [5, 4]}}
    return QUANTIZERS[name](2, **options.get(name, {}))


def clusters(count: int) -> Tensor:
    """A latent ``[1, 2, 8, 8, 8]`` about ``count`` points on a circle."""
    torch.manual_seed(1)
    angle = torch.randint(0, count, (1, 8, 8, 8)) * (2 * torch.pi / count)
    return 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.01 * torch.randn(1, 2, 8, 8, 8)


def test_a_latent_becomes_its_nearest_code() -> None:
    torch.manual_seed(0)
    rows, codebook = torch.randn(5, 7, 3), torch.randn(11, 3)
    expected = torch.cdist(rows, codebook).argmin(-1)
    assert torch.equal(nearest(rows, codebook), expected)


def test_what_was_quantized_stays_as_it_is() -> None:
    for name in ("vq", "fsq"):
        quantizer = made(name)
        once = quantizer(quantizer.bound(torch.randn(1, 2, 3, 3, 3)))
        twice = quantizer(once.latent)
        torch.testing.assert_close(twice.latent, once.latent)
        assert torch.equal(twice.indices, once.indices)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_gradients_reach_the_encoder(name: str) -> None:
    quantizer, latent = made(name), torch.randn(1, 2, 3, 3, 3, requires_grad=True)
    quantizer(latent).latent.sum().backward()
    assert latent.grad is not None
    torch.testing.assert_close(latent.grad, torch.ones_like(latent))


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_nan_is_not_hidden_and_nothing_is_learned_from_it(name: str) -> None:
    quantizer, latent = made(name), torch.randn(1, 2, 3, 3, 3)
    latent[0, 1, 2, 2, 2] = torch.nan
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    assert quantizer(quantizer.bound(latent)).latent.isnan().any()
    quantizer.update(of_one_process)
    if name != "fsq":
        assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


def test_noise_is_added_in_training_and_the_square_is_penalized() -> None:
    quantizer, latent = Unquantized(2, noise=0.5, penalty=0.1), torch.full((1, 2, 3, 3, 3), 2.0)
    noise = torch.randn_like(latent)
    made = quantizer(latent, noise)
    torch.testing.assert_close(made.latent, latent + 0.5 * noise)
    assert made.loss.item() == pytest.approx(0.4)
    assert torch.equal(quantizer(latent).latent, latent)


def test_bits_of_a_latent_are_those_of_a_noisy_channel() -> None:
    quantizer = Unquantized(2, noise=0.5)
    torch.manual_seed(0)
    # Deviation 1.5: 1 + (1.5 / 0.5)^2 = 10; and one channel that says nothing.
    latent = torch.stack([1.5 * torch.randn(1, 32, 32, 32), torch.zeros(1, 32, 32, 32)], 1)
    quantizer(latent)
    quantizer.update(of_one_process)
    assert quantizer.usage()["bits"] == pytest.approx(0.5 * 3.3219, rel=0.02)


def test_codes_follow_their_latents_and_none_is_left_dead() -> None:
    torch.manual_seed(0)
    quantizer, latent = VectorQuantized(2, codes=16), clusters(16)
    # All far off, as after a bad start: one serves all latents.
    quantizer.codebook.copy_(torch.randn(16, 2) * 0.1 + 50)
    for _ in range(120):
        quantizer(latent)
        quantizer.update(of_one_process)
    assert quantizer.usage()["codes"] == 1
    assert quantizer.usage()["perplexity"] > 12
    error = (quantizer(latent).latent - latent).square().mean().sqrt()
    assert error < 0.3


def test_a_code_is_the_mean_of_its_latents() -> None:
    torch.manual_seed(0)
    quantizer, latent = VectorQuantized(2, codes=4), clusters(4)
    quantizer.codebook.copy_(torch.tensor([[2.0, 0.5], [0.5, 2.0], [-2.0, 0.5], [0.5, -2.0]]))
    indices = quantizer(latent).indices
    assert indices is not None
    quantizer.update(of_one_process)
    rows = latent.movedim(1, -1)
    for code in range(4):
        torch.testing.assert_close(quantizer.codebook[code], rows[indices == code].mean(0))


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_a_step_in_parts_and_an_abandoned_one_before_teach_the_same(name: str) -> None:
    whole, split = made(name), made(name)
    latent = torch.randn(4, 2, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        whole(latent)
        whole.update(of_one_process)
        split(latent * 5)
        split.forget()
        for part in latent.split(1):
            split(part)
        split.update(of_one_process)
    for key, value in split.state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[key])


def test_nothing_is_gathered_outside_training() -> None:
    quantizer, latent = made("vq"), torch.randn(1, 2, 3, 3, 3)
    with torch.no_grad():
        quantizer(latent)
    quantizer.eval()(latent)
    before = quantizer.state_dict()["codebook"].clone()
    quantizer.update(of_one_process)
    assert torch.equal(quantizer.state_dict()["codebook"], before)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_every_level_can_be_reached_and_no_other(levels: int) -> None:
    quantizer = FiniteScalar(1, [levels])
    latent = torch.linspace(-9, 9, 501).view(1, 1, 1, 1, -1)
    bounded = quantizer.bound(latent)
    assert bounded.abs().max() <= 1.01
    values = quantizer(bounded).latent.unique()
    half = levels // 2
    expected = (torch.arange(levels) - half) / half
    torch.testing.assert_close(values, expected)
    # What diffusion makes may lie outside: it goes to the outermost levels.
    torch.testing.assert_close(
        quantizer(torch.linspace(-3, 3, 501).view_as(latent)).latent.unique(), expected
    )


def test_codes_that_all_become_one_are_called_collapsed() -> None:
    for name in ("vq", "fsq"):
        quantizer = made(name)
        for _ in range(3):
            quantizer(torch.zeros(1, 2, 4, 4, 4))
            quantizer.update(of_one_process)
        assert quantizer.is_collapsed()
    lively = made("vq")
    for _ in range(5):
        lively(torch.randn(1, 2, 8, 8, 8))
        lively.update(of_one_process)
    assert not lively.is_collapsed()
