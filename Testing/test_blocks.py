"""Blocks: they cover everything, overlap enough, and blend without a trace."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from MedDiffusionLib.diffusion.blocks import Place, blend_weights, block_starts, denoise_in_blocks


@pytest.mark.parametrize("length", range(10, 60))
def test_blocks_cover_the_length_and_overlap_by_half(length: int) -> None:
    starts = block_starts(length, 20)
    assert starts[0] == 0
    assert max(starts[-1] + 20, 20) >= length
    assert starts[-1] + 20 <= max(length, 20)
    assert all(0 < b - a <= 11 for a, b in itertools.pairwise(starts))


def test_weights_are_positive_and_largest_in_the_middle() -> None:
    weights = blend_weights((4, 6, 5))
    assert weights.shape == (1, 1, 4, 6, 5)
    assert weights.min() > 0
    assert weights[0, 0, 1, 2, 2] == weights.max()


def test_blending_an_exact_local_estimate_gives_the_whole_estimate() -> None:
    x = torch.randn(1, 2, 13, 8, 21)
    blended = denoise_in_blocks(lambda part, place: 2 * part + 1, x, (8, 8, 8))
    torch.testing.assert_close(blended, 2 * x + 1)


def test_each_block_learns_where_it_lies() -> None:
    x = torch.zeros(1, 1, 20, 8, 8)
    position = torch.arange(20.0).view(1, 1, 20, 1, 1).expand(x.shape)

    def from_place(part: Tensor, place: Place) -> Tensor:
        assert part.shape[2:] == (8, 8, 8)
        return position[(slice(None), slice(None), *place)]

    torch.testing.assert_close(denoise_in_blocks(from_place, x, (8, 8, 8)), position)


def test_a_latent_of_one_block_is_denoised_in_one_call() -> None:
    calls: list[tuple[int, ...]] = []
    x = torch.randn(1, 1, 8, 8, 8)

    def count(part: Tensor, place: Place) -> Tensor:
        calls.append(tuple(part.shape))
        return part

    denoise_in_blocks(count, x, (8, 8, 8))
    assert calls == [(1, 1, 8, 8, 8)]
