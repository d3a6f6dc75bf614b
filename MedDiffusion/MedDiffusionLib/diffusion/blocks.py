"""Overlapping blocks: a region larger than the trained field of view, denoised piece by piece.

At every step each block's estimate of x_0 enters a weighted mean (MultiDiffusion, Bar-Tal et al.
2023, eq. 5), so that neighbors agree before anything is decoded: there is no seam to hide. The
network sees one block at a time, so its memory does not grow with the region.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def block_starts(length: int, block: int) -> list[int]:
    """Evenly spread starts of blocks that cover ``length`` and overlap by half or more."""
    if length <= block:
        return [0]
    count = -(-(length - block) // (block // 2)) + 1
    return [round(n * (length - block) / (count - 1)) for n in range(count)]


def blend_weights(size: Sequence[int]) -> Tensor:
    """Weights ``[1, 1, x, y, z]`` that fall from 1 at the center towards the faces, never to 0."""
    weights = torch.ones(1, 1, 1, 1, 1)
    for axis, n in enumerate(size):
        position = torch.arange(n, dtype=torch.float32) + 0.5
        ramp = torch.minimum(position, n - position) / (n / 2)
        shape = [1] * 5
        shape[axis + 2] = n
        weights = weights * ramp.view(shape)
    return weights


Place = tuple[slice, ...]
"""Where a block lies in the latent: a slice along x, y and z."""


def denoise_in_blocks(
    denoise_block: Callable[[Tensor, Place], Tensor],
    x: Tensor,
    block: Sequence[int],
) -> Tensor:
    """The estimate of x_0 for a whole latent ``[1, C, x, y, z]`` from estimates of its blocks.

    ``denoise_block(latent, place)`` receives one block of size ``block`` and where it lies.
    """
    starts = [block_starts(n, b) for n, b in zip(x.shape[2:], block, strict=True)]
    if all(len(s) == 1 for s in starts):
        return denoise_block(x, tuple(slice(0, n) for n in x.shape[2:]))
    weights = blend_weights(block).to(x)
    total, weight = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for corner in itertools.product(*starts):
        place = tuple(slice(c, c + b) for c, b in zip(corner, block, strict=True))
        index = (slice(None), slice(None), *place)
        total[index] += weights * denoise_block(x[index], place)
        weight[index] += weights
    return total / weight
