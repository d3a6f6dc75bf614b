"""Representations: what the diffusion model sees of a volume.

A representation turns an image batch ``[B, C, X, Y, Z]`` (values in [-1, 1]) into a latent batch
``[B, C * channels, X / factor, Y / factor, Z / factor]`` and back. A learned one (an autoencoder)
is one more class here and one line in ``REPRESENTATIONS``.
"""

from __future__ import annotations

from typing import Protocol

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


def coarsen_mask(weight: Tensor, factor: int) -> Tensor:
    """The weight of latent voxels: the least of their image voxels'.

    ``weight``: ``[B, 1, X, Y, Z]`` in [0, 1]; returns ``[B, 1, X / factor, ...]``.
    """
    return weight if factor == 1 else -functional.max_pool3d(-weight, factor)
