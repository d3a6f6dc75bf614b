"""What every representation is: an image batch into a latent batch and back.

A representation is a module with its own weights (none, where it is a fixed transform) and its own
device. It turns an image batch ``[B, C, X, Y, Z]`` (values in [-1, 1]) into a latent batch
``[B, latent_channels, X / fx, Y / fy, Z / fz]`` that diffusion sees, and back.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Factors = tuple[int, int, int]
"""Voxels per latent voxel along x, y and z."""
Place = tuple[slice, ...]
"""A slice along x, y and z."""


class Representation(nn.Module, ABC):
    """Scales latents, encodes and decodes in tiles; a subclass has ``_encode`` and ``_decode``.

    ``factors``: voxels per latent voxel along each axis, volume sizes must be multiples of them;
    ``latent_channels``: channels of the latent. With ``scaled`` the latent is shifted and scaled by
    ``latent_mean`` and ``latent_deviation`` ``[latent_channels]``, which are kept with the weights,
    so that diffusion sees mean 0 and deviation 1 (Rombach et al. 2022, app. G).

    ``learned``: whether it is to be trained before anything is encoded.
    """

    learned: ClassVar[bool] = False
    tile: int | None = None
    """Latent voxels along each axis that are computed at once; None: all of them."""
    halo: tuple[int, int, int] = (0, 0, 0)
    """Latent voxels around a tile on which it depends."""
    clips = True
    """Whether what decodes to less than -1 or more than 1 is clipped in volumes."""

    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(self, factors: Factors, latent_channels: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.factors = factors
        self.latent_channels = latent_channels
        self.scaled = scaled
        if scaled:
            self.register_buffer("latent_mean", torch.zeros(latent_channels))
            self.register_buffer("latent_deviation", torch.ones(latent_channels))

    def encode(self, image: Tensor) -> Tensor:
        """``[B, C, X, Y, Z]`` -> ``[B, latent_channels, X / fx, Y / fy, Z / fz]``."""

        def encode_part(part: Place) -> Tensor:
            return self._encode(image[_across(voxels_of(part, self.factors))])

        latent = self._in_tiles(self.latent_size(image.shape[2:]), (1, 1, 1), encode_part)
        if self.scaled:
            latent = (latent - _spread(self.latent_mean)) / _spread(self.latent_deviation)
        return latent

    def decode(
        self, latent: Tensor, labels: Tensor | None = None, annotated: Tensor | None = None
    ) -> Tensor:
        """The inverse of :meth:`encode`, exact or learned.

        A representation may use the label map that the image is to have: ``labels``
        ``[B, X, Y, Z]``, indices of any integer type (0 is background), and ``annotated``
        ``[B, L]``, 1 where a label was annotated and 0 where it is unknown. None is a label map of
        which nothing is known.
        """
        if self.scaled:
            latent = latent * _spread(self.latent_deviation) + _spread(self.latent_mean)

        def decode_part(part: Place) -> Tensor:
            labels_there = _part(labels, voxels_of(part, self.factors))
            return self._decode(latent[_across(part)], labels_there, annotated)

        return self._in_tiles(latent.shape[2:], self.factors, decode_part)

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Latent voxels along x, y and z of an image of ``size`` voxels."""
        x, y, z = (n // f for n, f in zip(size, self.factors, strict=True))
        return x, y, z

    def set_scale(self, mean: Tensor, variance: Tensor) -> None:
        """Take the scale from the ``mean`` and ``variance`` ``[C]`` of unscaled latents.

        Each channel gets its own mean, and all get one deviation: a channel that varies little has
        little to say, and would be mostly noise if it were scaled up. Raises ValueError where they
        are not finite or nothing varies.
        """
        deviation = float(variance.double().mean()) ** 0.5
        if not (torch.isfinite(mean).all() and math.isfinite(deviation) and deviation > 1e-6):
            raise ValueError("the latents are not finite, or do not vary")
        self.latent_mean.copy_(mean)
        self.latent_deviation.fill_(deviation)

    @property
    def decodes_slowly(self) -> bool:
        """Whether decoding takes as long as some of sampling's steps, for it takes a network."""
        return self.learned

    def decoding_bytes(self, size: Sequence[int]) -> int:
        """What decoding to an image of a size takes beside latent and image, about."""
        return 0

    @abstractmethod
    def _encode(self, image: Tensor) -> Tensor:
        """Of :meth:`encode`, one tile at a time, before the latent is scaled."""

    @abstractmethod
    def _decode(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        """Of :meth:`decode`, one tile at a time."""

    def _in_tiles(
        self, size: Sequence[int], factors: Factors, compute: Callable[[Place], Tensor]
    ) -> Tensor:
        """What ``compute`` makes of all latent voxels, ``factors`` voxels of each, tile by tile.

        A tile is computed with its halo, so that the result does not depend on the tiles.
        """
        if self.tile is None or all(
            n <= self.tile + 2 * h for n, h in zip(size, self.halo, strict=True)
        ):
            return compute(tuple(slice(0, n) for n in size))
        whole: Tensor | None = None
        for part, inner, place in _tiles(size, self.tile, self.halo):
            made = compute(part)[_across(voxels_of(inner, factors))]
            if whole is None:
                shape = (n * f for n, f in zip(size, factors, strict=True))
                whole = made.new_empty(*made.shape[:2], *shape)
            whole[_across(voxels_of(place, factors))] = made
        assert whole is not None
        return whole


def _tiles(
    size: Sequence[int], tile: int, halo: Sequence[int]
) -> Iterator[tuple[Place, Place, Place]]:
    """Of each tile: its place with halo, its own place within that, and its place in the whole."""
    for corner in itertools.product(*(range(0, n, tile) for n in size)):
        part, inner, place = [], [], []
        for start, n, wide in zip(corner, size, halo, strict=True):
            end = min(start + tile, n)
            low, high = max(start - wide, 0), min(end + wide, n)
            part.append(slice(low, high))
            inner.append(slice(start - low, end - low))
            place.append(slice(start, end))
        yield tuple(part), tuple(inner), tuple(place)


def voxels_of(place: Place, factors: Factors) -> Place:
    """The image voxels of latent voxels."""
    return tuple(slice(s.start * f, s.stop * f) for s, f in zip(place, factors, strict=True))


def _across(place: Place) -> Place:
    """A place in all samples and channels of a batch."""
    return slice(None), slice(None), *place


def _part(labels: Tensor | None, place: Place) -> Tensor | None:
    return None if labels is None else labels[(slice(None), *place)]


def _spread(per_channel: Tensor) -> Tensor:
    return per_channel[:, None, None, None]


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Computes in the numbers that are given; on the meta device there is no autocast to leave."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def coarsen_mask(weight: Tensor, factors: Factors) -> Tensor:
    """The weight of latent voxels: the least of their image voxels'.

    ``weight``: ``[B, 1, X, Y, Z]`` in [0, 1]; returns ``[B, 1, X / fx, Y / fy, Z / fz]``.
    """
    return weight if max(factors) == 1 else -functional.max_pool3d(-weight, factors)
