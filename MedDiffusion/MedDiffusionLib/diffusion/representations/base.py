"""What every representation is: an image batch into a latent batch and back.

A representation is a module with its own weights (none, where it is a fixed transform) and its own
device. It turns an image batch ``[B, C, X, Y, Z]`` (values in [-1, 1]) into a latent batch
``[B, latent_channels, X / factor, Y / factor, Z / factor]`` that diffusion sees, and back.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Place = tuple[slice, ...]
"""A slice along every axis of a batch ``[B, C, x, y, z]``."""


class Representation(nn.Module, ABC):
    """Scales latents and decodes in tiles; a subclass has ``_encode`` and ``_decode``.

    ``factor``: voxels per latent voxel along each axis, volume sizes must be multiples of it;
    ``latent_channels``: channels of the latent. With ``scaled`` the latent is shifted and scaled by
    ``latent_mean`` and ``latent_deviation`` ``[latent_channels]``, which are kept with the weights,
    so that diffusion sees mean 0 and deviation 1 (Rombach et al. 2022, app. G).
    """

    tile: int | None = None
    """Latent voxels along each axis that are decoded at once; None: all of them."""
    halo = 0
    """Latent voxels around a tile on which its decoding depends."""
    clips = True
    """Whether what decodes to less than -1 or more than 1 is clipped in volumes."""
    is_learned = False
    """Whether decoding takes a network, and so the time of one or more of sampling's steps."""

    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(self, factor: int, latent_channels: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.factor = factor
        self.latent_channels = latent_channels
        self.scaled = scaled
        if scaled:
            self.register_buffer("latent_mean", torch.zeros(latent_channels))
            self.register_buffer("latent_deviation", torch.ones(latent_channels))

    @property
    def factors(self) -> tuple[int, int, int]:
        """Voxels per latent voxel along x, y and z; the largest is ``factor``."""
        return self.factor, self.factor, self.factor

    def encode(self, image: Tensor) -> Tensor:
        """``[B, C, X, Y, Z]`` -> ``[B, latent_channels, X / factor, Y / factor, Z / factor]``."""
        latent = self._encode(image)
        if self.scaled:
            latent = (latent - _spread(self.latent_mean)) / _spread(self.latent_deviation)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of :meth:`encode`, exact or learned; in tiles where the latent is larger.

        A tile is decoded with its halo, so that the result does not depend on the tiles.
        """
        if self.scaled:
            latent = latent * _spread(self.latent_deviation) + _spread(self.latent_mean)
        size = latent.shape[2:]
        if self.tile is None or max(size) <= self.tile:
            return self._decode(latent)
        image: Tensor | None = None
        for corner in itertools.product(*(range(0, n, self.tile) for n in size)):
            part, inner, place = self._tile(corner, size)
            decoded = self._decode(latent[part])[inner]
            if image is None:
                whole = (n * self.factor for n in size)
                image = decoded.new_empty(*decoded.shape[:2], *whole)
            image[place] = decoded
        assert image is not None
        return image

    def decoding_bytes(self, size: Sequence[int]) -> int:
        """What decoding to an image of a size takes beside latent and image, about."""
        return 0

    @abstractmethod
    def _encode(self, image: Tensor) -> Tensor:
        """Of :meth:`encode`, before the latent is scaled."""

    @abstractmethod
    def _decode(self, latent: Tensor) -> Tensor:
        """Of :meth:`decode`, one tile at a time."""

    def _tile(self, corner: tuple[int, ...], size: torch.Size) -> tuple[Place, Place, Place]:
        """A tile's latent with halo, its own voxels in what that decodes to, and their place."""
        part, inner, place = ([slice(None), slice(None)] for _ in range(3))
        for start, n in zip(corner, size, strict=True):
            end = min(start + (self.tile or n), n)
            low, high = max(start - self.halo, 0), min(end + self.halo, n)
            part.append(slice(low, high))
            inner.append(slice((start - low) * self.factor, (end - low) * self.factor))
            place.append(slice(start * self.factor, end * self.factor))
        return tuple(part), tuple(inner), tuple(place)


def _spread(per_channel: Tensor) -> Tensor:
    return per_channel[:, None, None, None]


def coarsen_mask(weight: Tensor, factor: int) -> Tensor:
    """The weight of latent voxels: the least of their image voxels'.

    ``weight``: ``[B, 1, X, Y, Z]`` in [0, 1]; returns ``[B, 1, X / factor, ...]``.
    """
    return weight if factor == 1 else -functional.max_pool3d(-weight, factor)
