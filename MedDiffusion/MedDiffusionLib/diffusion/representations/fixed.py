"""Fixed, exactly invertible representations: the voxels themselves, and Haar wavelets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ...compute.schema import Schema
from .base import Representation


class Identity(Representation):
    """Pixel space: the latent is the image (Med-DDPM, Dorjsembe et al. 2024)."""

    OPTIONS: ClassVar[Schema] = {}

    def __init__(self, image_channels: int, *, label_count: int = 0) -> None:
        super().__init__((1, 1, 1), image_channels)

    def _encode(self, image: Tensor) -> Tensor:
        return image

    def _decode(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        return latent


class Haar(Representation):
    """Orthonormal 3D Haar wavelet packet of one or more levels; exactly invertible.

    Being orthonormal it maps white noise to white noise, so that diffusion here equals diffusion
    in pixel space, on a grid that is ``2 ** levels`` times coarser along each axis.
    """

    OPTIONS: ClassVar[Schema] = {
        "properties": {"levels": {"type": "integer", "minimum": 1, "maximum": 2}},
    }

    def __init__(self, image_channels: int, levels: int = 1, *, label_count: int = 0) -> None:
        factor = 2**levels
        super().__init__((factor, factor, factor), image_channels * 8**levels)
        self.levels = levels

    def _encode(self, image: Tensor) -> Tensor:
        return haar_transform(image, [(0, 1, 2)] * self.levels)

    def _decode(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        return inverse_haar_transform(latent, [(0, 1, 2)] * self.levels)


def haar_transform(image: Tensor, levels: Sequence[Sequence[int]]) -> Tensor:
    """The Haar coefficients of ``[B, C, X, Y, Z]``, as channels of a coarser grid.

    ``levels``: of each the axes (0 is x) that it halves, each of which doubles the channels.
    """
    for axes in levels:
        for axis in axes:
            even, odd = _take(image, axis - 3, 0), _take(image, axis - 3, 1)
            image = torch.cat([even + odd, even - odd], dim=1) * 0.5**0.5
    return image


def inverse_haar_transform(coefficients: Tensor, levels: Sequence[Sequence[int]]) -> Tensor:
    """The image that :func:`haar_transform` made ``coefficients`` of."""
    for axes in reversed(levels):
        for axis in reversed(axes):
            low, high = coefficients.chunk(2, dim=1)
            coefficients = _interleave(low, high, axis - 3)
    return coefficients


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
