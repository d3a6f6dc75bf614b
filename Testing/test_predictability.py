"""How well diffusion can learn a latent, by what information theory says of simple ones."""

from __future__ import annotations

import math

import pytest
import torch

from MedDiffusionLib.diffusion.representations.quantizers import FiniteScalar, Unquantized
from MedDiffusionLib.training.objectives.predictability import Predictability, predictability


def judged(latents: torch.Tensor, noise: float = 0.5) -> Predictability:
    return predictability(latents, Unquantized(latents.shape[1], noise))


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_of_white_noise_each_channel_says_what_a_noisy_channel_can_carry(scale: float) -> None:
    """Shannon's capacity, log2(1 + signal / noise) / 2; and nothing can be predicted."""
    torch.manual_seed(0)
    white = judged(3 + scale * torch.randn(6, 4, 16, 12, 16), scale * 0.5)
    assert white.bits == pytest.approx(4 * math.log2(5) / 2, rel=0.02)
    assert white.loss == pytest.approx(1, abs=0.01)
    assert "like noise" in white.alarm


def test_of_channels_that_say_the_same_one_counts() -> None:
    """The density has the eigenvalues 4, 0, 0, 0: a v loss of sqrt(4) / 4."""
    torch.manual_seed(0)
    same = judged(torch.randn(6, 1, 16, 12, 16).expand(6, 4, 16, 12, 16))
    assert same.bits == pytest.approx(math.log2(17) / 2, rel=0.02)
    assert same.loss == pytest.approx(0.5, abs=0.01)
    assert same.alarm == ""


def test_of_a_smooth_latent_less_must_be_drawn() -> None:
    torch.manual_seed(0)
    noise = torch.randn(8, 2, 12, 12, 12)
    smooth = torch.nn.functional.avg_pool3d(noise, 3, 1, 1)
    white = judged(noise)
    found = judged(smooth / smooth.std())
    assert found.bits < white.bits - 0.5
    assert found.loss < 0.8


def test_many_channels_that_little_noise_bounds_are_an_alarm_and_few_noisy_ones_none() -> None:
    """12 channels, noise .05 and 4 channels, noise .4: heads were learned from the latter alone."""
    torch.manual_seed(0)
    blurred = torch.nn.functional.avg_pool3d(torch.randn(4, 12, 12, 12, 12), 2, 1, 1)
    latents = blurred / blurred.std() * 0.7
    assert "bits that its neighbours do not" in judged(latents, 0.05).alarm
    assert judged(latents[:, :4], 0.4).alarm == ""


def test_codes_say_how_exactly_a_latent_is_looked_at() -> None:
    """Levels a step apart leave an error of the variance step^2 / 12 (Bennett 1948)."""
    torch.manual_seed(0)
    latents = 2 * torch.rand(6, 1, 12, 12, 12) - 1
    for levels in (3, 33):
        error = (2 / (levels - 1)) ** 2 / 12
        found = predictability(latents, FiniteScalar(1, [levels]))
        assert found.bits == pytest.approx(math.log2(1 + 1 / 3 / error) / 2, rel=0.03)


def test_a_latent_shorter_than_a_block_is_judged_too() -> None:
    torch.manual_seed(0)
    assert judged(torch.randn(40, 2, 3, 8, 1)).loss == pytest.approx(1, abs=0.02)
