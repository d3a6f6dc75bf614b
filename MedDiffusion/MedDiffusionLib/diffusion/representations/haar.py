"""The Haar wavelet packet as a representation."""

from __future__ import annotations

import torch
from torch import Tensor


class Haar:
    """Orthonormal 3D Haar wavelet packet of one or more levels; exactly invertible.

    Being orthonormal it maps white noise to white noise, so that diffusion here equals diffusion
    in pixel space, on a grid that is ``2 ** levels`` times coarser along each axis.
    """

    def __init__(self, levels: int = 1) -> None:
        self.levels = levels
        self.factor = 2**levels
        self.channels = 8**levels

    def encode(self, image: Tensor) -> Tensor:
        for _ in range(self.levels):
            for axis in (-3, -2, -1):
                even, odd = _take(image, axis, 0), _take(image, axis, 1)
                image = torch.cat([even + odd, even - odd], dim=1) * 0.5**0.5
        return image

    def decode(self, latent: Tensor) -> Tensor:
        for _ in range(self.levels):
            for axis in (-1, -2, -3):
                low, high = latent.chunk(2, dim=1)
                latent = _interleave(low, high, axis)
        return latent


def _take(image: Tensor, axis: int, start: int) -> Tensor:
    index = [slice(None)] * image.ndim
    index[axis] = slice(start, None, 2)
    return image[tuple(index)]


def _interleave(low: Tensor, high: Tensor, axis: int) -> Tensor:
    shape = list(low.shape)
    shape[axis] *= 2
    position = low.ndim + axis + 1
    pair = torch.stack([low + high, low - high], dim=position) * 0.5**0.5
    return pair.reshape(shape)
