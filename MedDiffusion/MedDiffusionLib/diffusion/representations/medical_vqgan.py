"""The VQ-GAN of Medical Diffusion (Khader et al. 2023), to run its published weights exactly.

Every normalization takes its mean and deviation over the whole volume, so that tiles with a halo
would not give what the whole gives. Instead each layer by itself is computed in slabs along the
first axis: the result is the whole's, and two feature maps are in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...compute.schema import Schema
from .base import Representation

_SLAB = 2**23
"""Numbers of a feature map that are computed at once."""
_LOOKUP = 2**24
"""Distances to codes that are in memory at once."""
_EPSILON = 1e-6


class MedicalVQGAN(Representation):
    """A learned latent, each of whose voxels is one of some codes once it is decoded.

    The latent is the encoder's output before it is quantized, scaled so that the least and the
    largest number of the codebook become -1 and 1. What is decoded may leave [-1, 1]; it is not
    clipped. ``downsample``: voxels per latent voxel along each axis, powers of 2.
    """

    clips = False
    codebook: Tensor

    OPTIONS: ClassVar[Schema] = {
        "required": ["width", "downsample", "codes", "embedding", "groups"],
        "properties": {
            "width": {
                "type": "integer",
                "minimum": 1,
                "maximum": 512,
                "description": "Channels at the full resolution; every level doubles them.",
            },
            "downsample": {
                "type": "array",
                "minItems": 3,
                "maxItems": 3,
                "items": {"type": "integer", "minimum": 1, "maximum": 16},
            },
            "codes": {"type": "integer", "minimum": 2, "maximum": 2**20},
            "embedding": {"type": "integer", "minimum": 1, "maximum": 256},
            "groups": {"type": "integer", "minimum": 1, "maximum": 256},
        },
    }

    def __init__(
        self,
        image_channels: int,
        width: int,
        downsample: Sequence[int],
        codes: int,
        embedding: int,
        groups: int,
        *,
        label_count: int = 0,
    ) -> None:
        x, y, z = downsample
        if any(n & (n - 1) for n in downsample) or max(downsample) == 1:
            raise ValueError("downsample needs powers of 2, one of them at least 2")
        super().__init__((x, y, z), embedding)
        levels = max(downsample).bit_length() - 1
        widths = [width * 2**level for level in range(levels + 1)]
        # An axis of fewer levels takes part in the first ones, on the way in and on the way out.
        strides = [[2 if 2**level < n else 1 for n in downsample] for level in range(levels)]
        self.encode_in = _Convolution(image_channels, widths[0], 3)
        self.encode_levels = nn.ModuleList(
            nn.ModuleDict(
                {
                    "resample": _Convolution(before, after, 4, stride),
                    "block": _ResidualBlock(after, groups),
                }
            )
            for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.encode_norm = _Norm(groups, widths[-1])
        self.encode_out = _Convolution(widths[-1], embedding, 1)
        self.register_buffer("codebook", torch.zeros(codes, embedding))
        self.decode_in = _Convolution(embedding, widths[-1], 1)
        self.decode_norm = _Norm(groups, widths[-1])
        ways = [widths[-1], *widths[:0:-1]]
        self.decode_levels = nn.ModuleList(
            nn.ModuleDict(
                {
                    "resample": _Enlargement(before, after, stride),
                    "block1": _ResidualBlock(after, groups),
                    "block2": _ResidualBlock(after, groups),
                }
            )
            for before, after, stride in zip(ways[:-1], ways[1:], strides, strict=True)
        )
        self.decode_out = _Convolution(ways[-1], image_channels, 3)

    @property
    def decodes_slowly(self) -> bool:
        return True

    def decoding_bytes(self, size: Sequence[int]) -> int:
        # The two maps, and as much again for what is padded and laid out for the convolutions.
        return 4 * 4 * self.decode_out.in_channels * math.prod(size)

    def indices(self, latent: Tensor) -> Tensor:
        """The nearest code of every voxel of a latent, ``[B, C, x, y, z]`` -> ``[B, x, y, z]``."""
        return self._nearest(self._unscaled(latent))

    def _encode(self, image: Tensor) -> Tensor:
        # The nearest code is not the same in half precision.
        with torch.autocast(image.device.type, enabled=False):
            h = self.encode_in(image.float())
            for level in cast(Sequence[nn.ModuleDict], self.encode_levels):
                h = level["block"](level["resample"](h))
            latent = self.encode_out(h, self.encode_norm.scale_and_shift(h))
            low, high = self._range()
            return (latent - low) / (high - low) * 2 - 1

    def _decode(self, latent: Tensor, labels: Tensor | None, annotated: Tensor | None) -> Tensor:
        with torch.autocast(latent.device.type, enabled=False):
            codes = self._nearest(self._unscaled(latent.float()))
            h = self.decode_in(functional.embedding(codes, self.codebook).movedim(-1, 1))
            before: Normalization | None = self.decode_norm.scale_and_shift(h)
            for level in cast(Sequence[nn.ModuleDict], self.decode_levels):
                h = level["resample"](h, before)
                h = level["block2"](level["block1"](h))
                before = None
            return self.decode_out(h)

    def _unscaled(self, latent: Tensor) -> Tensor:
        low, high = self._range()
        return (latent + 1) / 2 * (high - low) + low

    def _range(self) -> tuple[Tensor, Tensor]:
        return self.codebook.min(), self.codebook.max()

    def _nearest(self, latent: Tensor) -> Tensor:
        """Of an unscaled latent; the first where two codes are equally near."""
        points = latent.movedim(1, -1)
        squares = self.codebook.square().sum(dim=1)
        parts = points.reshape(-1, points.shape[-1]).split(max(_LOOKUP // len(squares), 1))
        found = [
            (p.square().sum(1, keepdim=True) - 2 * p @ self.codebook.T + squares).argmin(dim=1)
            for p in parts
        ]
        return torch.cat(found).view(points.shape[:-1])


Normalization = tuple[Tensor, Tensor]
"""What a feature map is multiplied by, and what is added, ``[B, C, 1, 1, 1]`` each."""


class _Norm(nn.GroupNorm):
    """GroupNorm whose mean and deviation are found once, and applied slab by slab."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, _EPSILON)

    def scale_and_shift(self, x: Tensor) -> Normalization:
        grouped = x.reshape(len(x), self.num_groups, -1)
        variance, mean = torch.var_mean(grouped, dim=2, correction=0)
        each = self.num_channels // self.num_groups
        deviation = (variance + self.eps).rsqrt().repeat_interleave(each, dim=1)
        scale = deviation * self.weight
        shift = self.bias - mean.repeat_interleave(each, dim=1) * scale
        return scale[..., None, None, None], shift[..., None, None, None]


class _Convolution(nn.Conv3d):
    """A convolution of a map that repeats its outermost voxels: sizes become size / stride."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: Sequence[int] = (1, 1, 1)
    ) -> None:
        super().__init__(before, after, kernel, (stride[0], stride[1], stride[2]))
        self.around = [_around(kernel, s) for s in self.stride]

    def forward(
        self, x: Tensor, normalization: Normalization | None = None, add_to: Tensor | None = None
    ) -> Tensor:
        """Of ``x``, normalized and through SiLU where that is asked for; added to ``add_to``."""
        size = [n // s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        out = x.new_empty(len(x), self.out_channels, *size) if add_to is None else add_to
        kernel, stride = self.kernel_size[0], self.stride[0]
        for start, end in _slabs(out):
            rows = range(start * stride, (end - 1) * stride + kernel)
            part = super().forward(_padded(x, rows, self.around, normalization))
            if add_to is None:
                out[:, :, start:end] = part
            else:
                out[:, :, start:end] += part
        return out


class _Enlargement(nn.ConvTranspose3d):
    """A transposed convolution of a map that repeats its outermost voxels: sizes times stride."""

    def __init__(self, before: int, after: int, stride: Sequence[int]) -> None:
        super().__init__(before, after, 4, (stride[0], stride[1], stride[2]), padding=3)
        self.around = [_around(4, s) for s in self.stride]

    def forward(  # type: ignore[override]
        self, x: Tensor, normalization: Normalization | None = None
    ) -> Tensor:
        size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        out = x.new_empty(len(x), self.out_channels, *size)
        stride = self.stride[0]
        for start, end in _slabs(out, stride):
            rows = range(start // stride, end // stride + sum(self.around[0]))
            part = _padded(x, rows, self.around, normalization)
            out[:, :, start:end] = super().forward(part)
        return out


class _ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; added to its input, in its place."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Norm(groups, channels), _Norm(groups, channels)
        self.conv1 = _Convolution(channels, channels, 3)
        self.conv2 = _Convolution(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x, self.norm1.scale_and_shift(x))
        return self.conv2(h, self.norm2.scale_and_shift(h), add_to=x)


def _around(kernel: int, stride: int) -> tuple[int, int]:
    """How many voxels are repeated before and after, so that sizes fit the stride."""
    after = (kernel - stride) // 2
    return kernel - stride - after, after


def _slabs(out: Tensor, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of the first axis, each a ``multiple`` long, that together are all of it."""
    batch, channels, length, *rest = out.shape
    rows = max(_SLAB // (batch * channels * math.prod(rest) * multiple), 1) * multiple
    for start in range(0, length, rows):
        yield start, min(start + rows, length)


def _padded(
    x: Tensor,
    rows: range,
    around: Sequence[tuple[int, int]],
    normalization: Normalization | None,
) -> Tensor:
    """Some rows of the first axis, counted from the first of those that repeat the outermost."""
    index = torch.arange(rows.start, rows.stop, device=x.device) - around[0][0]
    part = x[:, :, index.clamp(0, x.shape[2] - 1)]
    if normalization is not None:
        scale, shift = normalization
        part = functional.silu(part.mul_(scale).add_(shift), inplace=True)
    if not any(around[1] + around[2]):
        return part
    return functional.pad(part, (*around[2], *around[1], 0, 0), mode="replicate")
