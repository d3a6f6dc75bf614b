"""Fixed, exactly invertible representations: the voxels themselves, and Haar wavelets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...compute.schema import Schema
from .base import Representation


class Identity(Representation):
    """Pixel space: the latent is the image (Med-DDPM, Dorjsembe et al. 2024)."""

    OPTIONS: ClassVar[Schema] = {}

    def __init__(self, image_channels: int) -> None:
        super().__init__(1, image_channels)

    def _encode(self, image: Tensor) -> Tensor:
        return image

    def _decode(self, latent: Tensor) -> Tensor:
        return latent


class Haar(Representation):
    """Orthonormal 3D Haar wavelet packet of one or more levels; exactly invertible.

    Being orthonormal it maps white noise to white noise, so that diffusion here equals diffusion
    in pixel space, on a grid that is ``2 ** levels`` times coarser along each axis.
    """

    OPTIONS: ClassVar[Schema] = {
        "properties": {"levels": {"type": "integer", "minimum": 1, "maximum": 2}},
    }

    def __init__(self, image_channels: int, levels: int = 1) -> None:
        super().__init__(2**levels, image_channels * 8**levels)
        self.levels = levels

    def _encode(self, image: Tensor) -> Tensor:
        for _ in range(self.levels):
            for axis in (-3, -2, -1):
                even, odd = _take(image, axis, 0), _take(image, axis, 1)
                image = torch.cat([even + odd, even - odd], dim=1) * 0.5**0.5
        return image

    def _decode(self, latent: Tensor) -> Tensor:
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
