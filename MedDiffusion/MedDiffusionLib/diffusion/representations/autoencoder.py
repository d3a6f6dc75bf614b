"""A learned representation: convolutions to a small latent and back (a VQ-GAN's generator)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...compute.registry import Component, build
from ...compute.schema import Schema
from ..label_features import LabelFeatures
from .base import Factors, Representation, without_autocast
from .fixed import haar_transform, inverse_haar_transform
from .quantizers import QUANTIZERS, Quantized, Quantizer

_WIDTH = {"type": "integer", "minimum": 1, "maximum": 1024}
_TILE = 128
"""Voxels along each axis that are computed at once, where not all are."""
_MAPS = 12
"""Feature maps of the first grid, in float32, that decoding takes at its peak (measured)."""
_GAIN = 1.7
"""What keeps the deviation from before a SiLU to after a layer: its output has a mean square of
0.36 for a normal distribution."""


class Autoencoder(Representation):
    """Encoder and decoder of a VQ-GAN (Esser et al. 2021) in 3D, without attention.

    ``factors``: voxels per latent voxel along each axis, powers of 2; they are halved together
    from the last one on, so that an axis of thicker voxels is halved later. The first ``haar``
    halvings are a fixed Haar transform, in front of the first convolution: an exact, cheap way to
    half the grid. ``channels``: the width on each grid that convolutions see, so one more than the
    halvings that remain. ``blocks``: residual blocks on each grid. ``quantizer``: an entry of
    QUANTIZERS with its options.

    ``labels``: the decoder sees the label map too, on its first and on its last grid: borders are
    where it says, and the latent carries what it does not say. The encoder does not: a latent is
    the same whichever labels are known, so that diffusion may leave some out.

    Every layer is local (its norms are those of a voxel's channels), so that what is computed in
    tiles is what is computed at once, and a decoded volume has no steps of brightness.
    """

    OPTIONS: ClassVar[Schema] = {
        "required": ["factors", "haar", "channels", "blocks", "latent_channels", "quantizer"],
        "properties": {
            "factors": {
                "type": "array",
                "minItems": 3,
                "maxItems": 3,
                "items": {"type": "integer", "enum": [1, 2, 4, 8, 16]},
            },
            "haar": {"type": "integer", "minimum": 0, "maximum": 2},
            "channels": {"type": "array", "minItems": 1, "maxItems": 5, "items": _WIDTH},
            "blocks": {"type": "integer", "minimum": 1, "maximum": 16},
            "latent_channels": {"type": "integer", "minimum": 1, "maximum": 64},
            "quantizer": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "maxLength": 64}},
            },
            "labels": {"type": "boolean"},
        },
    }

    learned = True
    quantizer: Quantizer

    def __init__(
        self,
        image_channels: int,
        factors: Sequence[int],
        haar: int,
        channels: Sequence[int],
        blocks: int,
        latent_channels: int,
        quantizer: Mapping[str, Any],
        labels: bool = False,
        *,
        label_count: int = 0,
    ) -> None:
        fx, fy, fz = factors
        super().__init__((fx, fy, fz), latent_channels, scaled=True)
        halved = halvings(self.factors)
        if haar > len(halved) or len(channels) != len(halved) - haar + 1:
            raise ValueError(
                f"representation: factors {list(factors)} with haar {haar} need "
                f"{max(len(halved) - haar + 1, 1)} channels, not {len(channels)}"
                if haar <= len(halved)
                else f"representation: haar is {haar}, more than factors {list(factors)} halve"
            )
        self.haar = halved[:haar]
        strides = [_factors([axes]) for axes in halved[haar:]]
        fine = _factors(self.haar)
        coefficients = image_channels * math.prod(fine)
        self.encoder = _Encoder(coefficients, channels, strides, blocks, latent_channels)
        self.decoder = _Decoder(coefficients, channels, strides, blocks, latent_channels)
        self.fine_labels: _Labels | None = None
        self.coarse_labels: _Labels | None = None
        if labels:
            self.fine_labels = _Labels(label_count, fine, channels[0])
            self.coarse_labels = _Labels(label_count, self.factors, channels[-1])
        self.quantizer = build(
            QUANTIZERS, Component.from_json(quantizer), "quantizer", channels=latent_channels
        )
        self.label_count = label_count
        self.tile = max(1, _TILE // max(factors))
        self.halo = _halo(strides, blocks)

    def reconstruct(
        self,
        image: Tensor,
        labels: Tensor | None = None,
        annotated: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Quantized]:
        """The image ``[B, C, X, Y, Z]`` through the latent and back, not clamped; for training.

        ``noise``: standard normal, of the latent's shape, for quantizers that add it.
        """
        quantized = self.quantizer(self._encode(image), noise)
        return self._image(quantized.latent, labels, annotated), quantized

    def decoding_bytes(self, size: Sequence[int]) -> int:
        tile = self.tile or max(size)
        most = [f * (tile + 2 * h) for f, h in zip(self.factors, self.halo, strict=True)]
        voxels = math.prod(map(min, size, most)) // math.prod(_factors(self.haar))
        return _MAPS * 4 * self.decoder.conv_out.in_channels * voxels

    def _encode(self, image: Tensor) -> Tensor:
        return self.quantizer.bound(self.encoder(haar_transform(image, self.haar)))

    def _decode(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        """Clamped to [-1, 1]: a latent that no image has makes no spots out of range."""
        return self._image(self.quantizer(latent).latent, labels, annotated).clamp(-1, 1)

    def _image(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        fine = coarse = None
        if self.fine_labels is not None and self.coarse_labels is not None:
            if labels is None or annotated is None:
                size = [n * f for n, f in zip(latent.shape[2:], self.factors, strict=True)]
                labels = torch.zeros(len(latent), *size, dtype=torch.long, device=latent.device)
                annotated = torch.zeros(len(latent), self.label_count, device=latent.device)
            fine = self.fine_labels(labels, annotated)
            coarse = self.coarse_labels(labels, annotated)
        return inverse_haar_transform(self.decoder(latent, fine, coarse), self.haar)


class _Encoder(nn.Module):
    """Coefficients ``[B, C, x, y, z]`` on the first grid -> the latent on the last."""

    def __init__(
        self,
        coefficients: int,
        channels: Sequence[int],
        strides: Sequence[Factors],
        blocks: int,
        latent_channels: int,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(coefficients, channels[0], 3, padding=1)
        self.grids = nn.ModuleList(_blocks(width, blocks) for width in channels)
        self.down = nn.ModuleList(
            nn.Conv3d(before, after, stride, stride)
            for before, after, stride in zip(channels, channels[1:], strides, strict=False)
        )
        self.norm_out = VoxelNorm(channels[-1])
        self.conv_out = nn.Conv3d(channels[-1], latent_channels, 1)
        # The latent begins with a deviation of about 1: one that begins below the quantizer's
        # noise may be given up by a decoder that has the label map.
        nn.init.normal_(self.conv_out.weight, std=_GAIN * channels[-1] ** -0.5)

    def forward(self, coefficients: Tensor) -> Tensor:
        h = self.grids[0](self.conv_in(coefficients))
        for down, grid in zip(self.down, self.grids[1:], strict=True):
            h = grid(down(h))
        return _in_float32(self.conv_out, functional.silu(self.norm_out(h)))


class _Decoder(nn.Module):
    """The latent on the last grid -> coefficients ``[B, C, x, y, z]`` on the first.

    ``fine`` and ``coarse``: features of the label map on the first and last grid, or None.
    """

    def __init__(
        self,
        coefficients: int,
        channels: Sequence[int],
        strides: Sequence[Factors],
        blocks: int,
        latent_channels: int,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(latent_channels, channels[-1], 3, padding=1)
        self.grids = nn.ModuleList(_blocks(width, blocks) for width in reversed(channels))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(before, after, stride, stride)
            for before, after, stride in reversed(
                list(zip(channels[1:], channels, strides, strict=False))
            )
        )
        self.norm_out = VoxelNorm(channels[0])
        self.conv_out = nn.Conv3d(channels[0], coefficients, 3, padding=1)

    def forward(self, latent: Tensor, fine: Tensor | None, coarse: Tensor | None) -> Tensor:
        h = _add(self.conv_in(latent), coarse)
        for up, grid in zip(self.up, self.grids, strict=False):
            h = up(grid(h))
        h = self.grids[-1](_add(h, fine))
        return _in_float32(self.conv_out, functional.silu(self.norm_out(h)))


class _Labels(nn.Module):
    """Features of a label map on a coarser grid, and of which labels it was annotated for."""

    def __init__(self, label_count: int, factors: Factors, channels: int) -> None:
        super().__init__()
        self.features = LabelFeatures(label_count, factors, channels)
        self.annotated = nn.Linear(label_count, channels)

    def forward(self, labels: Tensor, annotated: Tensor) -> Tensor:
        known = self.annotated(2 * annotated.float() - 1)[..., None, None, None]
        return self.features(labels) + known


def _add(h: Tensor, features: Tensor | None) -> Tensor:
    return h if features is None else h + features.to(h.dtype)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_ResidualBlock(channels) for _ in range(count)))


class _ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = VoxelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = VoxelNorm(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(h)))


class VoxelNorm(nn.Module):
    """Layer norm over the channels of each voxel (Ba et al. 2016): it knows of no other voxel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        shape, weight, bias = self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(last, shape, weight, bias).movedim(-1, 1)


def _in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer outside autocast: bfloat16 has but 256 steps between 1 and 2."""
    with without_autocast(x):
        return layer(x.float())


def halvings(factors: Factors) -> list[tuple[int, ...]]:
    """The axes (0 is x) of each halving, from the finest grid on; all are halved in the last one.

    ``(2, 4, 4)``: y and z, then x, y and z.
    """
    times = [f.bit_length() - 1 for f in factors]
    most = max(times)
    return [tuple(a for a, n in enumerate(times) if n >= most - step) for step in range(most)]


def _factors(levels: Sequence[Sequence[int]]) -> Factors:
    """What halvings of these axes amount to."""
    x, y, z = (2 ** sum(axis in axes for axes in levels) for axis in range(3))
    return x, y, z


def _halo(strides: Sequence[Factors], blocks: int) -> tuple[int, int, int]:
    """Latent voxels around a tile on which its decoding, and its encoding, depend."""
    halo = []
    for axis in range(3):
        reach, voxels = 0.0, 1
        for stride in [(1, 1, 1), *reversed(strides)]:
            voxels *= stride[axis]
            reach += 2 * blocks / voxels
        # The first convolution of one lies on the latent's grid, of the other on the first one.
        halo.append(math.ceil(reach + 1 + 1 / voxels))
    return halo[0], halo[1], halo[2]
