"""Representations: what the diffusion model sees of a volume.

A representation turns an image batch ``[B, C, X, Y, Z]`` (values in [-1, 1]) into a latent batch
``[B, C * channels, X / factor, Y / factor, Z / factor]`` and back. A learned one (an autoencoder)
is one more class here and one line in ``REPRESENTATIONS``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Representation(Protocol):
    """The interface that the denoiser, the training and the synthesis rely on."""

    factor: int
    """Voxels per latent voxel along each axis; volume sizes must be multiples of it."""
    channels: int
    """Latent channels per image channel."""

    def encode(self, image: Tensor) -> Tensor:
        """``[B, C, X, Y, Z]`` -> ``[B, C * channels, X / factor, Y / factor, Z / factor]``."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of :meth:`encode`, exact or learned."""
        ...


class Identity:
    """Pixel space: the latent is the image (Med-DDPM, Dorjsembe et al. 2024)."""

    factor = 1
    channels = 1

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor) -> Tensor:
        return latent


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


def coarsen_mask(weight: Tensor, factor: int) -> Tensor:
    """The weight of latent voxels: the least of their image voxels'.

    ``weight``: ``[B, 1, X, Y, Z]`` in [0, 1]; returns ``[B, 1, X / factor, ...]``.
    """
    return weight if factor == 1 else -functional.max_pool3d(-weight, factor)


REPRESENTATIONS = {"identity": Identity, "haar": Haar}
