"""The 3D U-Net of Medical Diffusion (Khader et al. 2023), to run its published weights exactly.

Convolutions and spatial attention look at one slice at a time; attention along the first axis,
which the paper takes for time (Ho et al. 2022, video diffusion), connects the slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...compute.schema import Schema

_EXACT, _BUCKETS, _FARTHEST = 8, 16, 32
"""Distances below the first have a bucket each, farther ones share; buckets in each direction."""
_MOST_LOGITS = 2**24
"""Attention logits that are in memory at once."""
_MOST_FEATURES = 2**22
"""Queries', keys' and values' features in the slices that are in memory at once."""


class MedicalDiffusionUNet(nn.Module):
    """An unconditional U-Net that never resamples its first axis.

    ``forward(xt, t, labels, annotated)``: ``xt`` ``[B, latent_channels, x, y, z]``, ``t`` ``[B]``
    the step that the network was trained on (0 is the least noise), the other two of no effect.
    Returns ``[B, latent_channels, x, y, z]``; y and z are multiples of
    ``2 ** (len(channels) - 1)``, x is any number.
    """

    recompute = False
    rotary_frequencies: Tensor

    OPTIONS: ClassVar[Schema] = {
        "required": ["width", "channels", "heads", "head_channels", "groups"],
        "properties": {
            "width": {"type": "integer", "minimum": 4, "maximum": 1024},
            "channels": {
                "type": "array",
                "minItems": 1,
                "maxItems": 8,
                "items": {"type": "integer", "minimum": 1, "maximum": 4096},
                "description": "Width of each resolution level.",
            },
            "heads": {"type": "integer", "minimum": 1, "maximum": 64},
            "head_channels": {"type": "integer", "minimum": 2, "maximum": 256},
            "groups": {"type": "integer", "minimum": 1, "maximum": 256},
        },
    }

    def __init__(
        self,
        latent_channels: int,
        label_count: int,
        factors: tuple[int, int, int],
        width: int,
        channels: Sequence[int],
        heads: int,
        head_channels: int,
        groups: int,
    ) -> None:
        if label_count:
            raise ValueError("its network takes no labels, and it has some")
        if head_channels % 2:
            raise ValueError("head_channels is odd")
        super().__init__()
        coarsest = 2 ** (len(channels) - 1)
        self.multiple = (1, coarsest, coarsest)
        attention = heads, head_channels
        embedding = 4 * width
        self.time_embedding = _TimeEmbedding(width, embedding)
        self.distance_bias = _DistanceBias(heads)
        # Interleaved pairs of features turn with the position (Su et al. 2021, sec. 3.2).
        pairs = torch.arange(0, head_channels, 2) / head_channels
        self.register_buffer("rotary_frequencies", 10000.0**-pairs)
        self.conv_in = nn.Conv3d(latent_channels, width, (1, 7, 7), padding=(0, 3, 3))
        self.attention_in = _AttentionAlongX(width, *attention)
        pairs_of_widths = list(zip([width, *channels], channels))  # noqa: B905

        def stage(before: int, after: int) -> nn.ModuleDict:
            return nn.ModuleDict(
                {
                    "block1": _ResidualBlock(before, after, groups, embedding),
                    "block2": _ResidualBlock(after, after, groups, embedding),
                    "within": _LinearAttention(after, *attention),
                    "along": _AttentionAlongX(after, *attention),
                }
            )

        self.down = nn.ModuleList(stage(*widths) for widths in pairs_of_widths)
        self.shrink = nn.ModuleList(
            nn.Conv3d(n, n, (1, 4, 4), (1, 2, 2), (0, 1, 1)) for n in channels[:-1]
        )
        deepest = channels[-1]
        self.middle = nn.ModuleDict(
            {
                "block1": _ResidualBlock(deepest, deepest, groups, embedding),
                "within": _SliceAttention(deepest, *attention),
                "along": _AttentionAlongX(deepest, *attention),
                "block2": _ResidualBlock(deepest, deepest, groups, embedding),
            }
        )
        back = [(before, after) for before, after in reversed(pairs_of_widths)]
        self.up = nn.ModuleList(stage(2 * after, before) for before, after in back)
        self.grow = nn.ModuleList(
            nn.ConvTranspose3d(before, before, (1, 4, 4), (1, 2, 2), (0, 1, 1))
            for before, _after in back[:-1]
        )
        self.block_out = _ResidualBlock(2 * width, width, groups, None)
        self.conv_out = nn.Conv3d(width, latent_channels, 1)

    def forward(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        condition = self.time_embedding(t)
        bias = self.distance_bias(xt.shape[2])
        turn = _rotation(self.rotary_frequencies, xt.shape[2])
        first = self.conv_in(xt)
        h = self.attention_in(first, bias, turn)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            h = _run(stage, h, condition, bias, turn)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        middle = self.middle
        h = middle["along"](middle["within"](middle["block1"](h, condition)), bias, turn)
        h = middle["block2"](h, condition)
        for level, stage in enumerate(self.up):
            h = _run(stage, torch.cat([h, skips.pop()], dim=1), condition, bias, turn)
            if level < len(self.grow):
                h = self.grow[level](h)
        return self.conv_out(self.block_out(torch.cat([h, first], dim=1), None))


Rotation = tuple[Tensor, Tensor]
"""Cosine and sine ``[x, head_channels / 2]`` by which features turn at each position."""


def _run(stage: nn.Module, h: Tensor, condition: Tensor, bias: Tensor, turn: Rotation) -> Tensor:
    assert isinstance(stage, nn.ModuleDict)
    h = stage["block2"](stage["block1"](h, condition), condition)
    return stage["along"](stage["within"](h), bias, turn)


class _TimeEmbedding(nn.Module):
    """Sinusoids of the step (Ho et al. 2020, app. B), sines first, and a small perceptron."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.frequencies = width // 2
        self.layers = nn.Sequential(
            nn.Linear(2 * self.frequencies, embedding), nn.GELU(), nn.Linear(embedding, embedding)
        )

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(self.sinusoids(t))

    def sinusoids(self, t: Tensor) -> Tensor:
        """``[B]`` -> ``[B, width]``."""
        index = torch.arange(self.frequencies, device=t.device)
        angle = t.float()[:, None] * torch.exp(-math.log(10000) / (self.frequencies - 1) * index)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class _DistanceBias(nn.Module):
    """What attention adds for the distance of two positions (Raffel et al. 2020, T5, sec. 2.1)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * _BUCKETS, heads)

    def forward(self, length: int) -> Tensor:
        """``[heads, length, length]``, rows are queries."""
        return self.table(distance_buckets(length, self.table.weight.device)).permute(2, 0, 1)


def distance_buckets(length: int, device: torch.device | None = None) -> Tensor:
    """The bucket of query i and key j, ``[length, length]``: near distances exactly, then in
    steps of their logarithm, those of later keys in the upper half."""
    position = torch.arange(length, device=device)
    difference = position[:, None] - position[None]
    distance = difference.abs()
    far = (distance.clamp(min=1).float() / _EXACT).log() / math.log(_FARTHEST / _EXACT)
    shared = _EXACT + (far * (_BUCKETS - _EXACT)).long()
    near = torch.where(distance < _EXACT, distance, shared.clamp(max=_BUCKETS - 1))
    return near + _BUCKETS * (difference < 0)


def _rotation(frequencies: Tensor, length: int) -> Rotation:
    angle = torch.arange(length, device=frequencies.device)[:, None] * frequencies
    return angle.cos(), angle.sin()


def rotate(features: Tensor, turn: Rotation) -> Tensor:
    """Turn the pairs (2 n, 2 n + 1) of ``[..., x, head_channels]`` by their position's angles."""
    cos, sin = turn
    a, b = features[..., 0::2], features[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


class _ResidualBlock(nn.Module):
    """Convolution in the slice, GroupNorm, SiLU, twice; the step scales and shifts the first."""

    def __init__(self, before: int, after: int, groups: int, embedding: int | None) -> None:
        super().__init__()
        self.film = nn.Linear(embedding, 2 * after) if embedding else None
        self.conv1 = nn.Conv3d(before, after, (1, 3, 3), padding=(0, 1, 1))
        self.norm1 = nn.GroupNorm(groups, after)
        self.conv2 = nn.Conv3d(after, after, (1, 3, 3), padding=(0, 1, 1))
        self.norm2 = nn.GroupNorm(groups, after)
        self.shortcut = nn.Conv3d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = self.norm1(self.conv1(x))
        if self.film is not None and condition is not None:
            film = self.film(functional.silu(condition))
            scale, shift = film[..., None, None, None].chunk(2, dim=1)
            h = h * (scale + 1) + shift
        h = self.norm2(self.conv2(functional.silu(h)))
        return functional.silu(h) + self.shortcut(x)


class _ChannelNorm(nn.Module):
    """Every voxel's channels to mean 0 and deviation 1, then a gain per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.gain


class _AttentionAlongX(nn.Module):
    """Attention along the first axis, for every place (y, z) by itself; adds to its input."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * heads * head_channels, bias=False)
        self.project = nn.Linear(heads * head_channels, channels, bias=False)

    def forward(self, x: Tensor, bias: Tensor, turn: Rotation) -> Tensor:
        batch, channels, *size = x.shape
        tokens = self.norm(x).permute(0, 3, 4, 2, 1).reshape(-1, size[0], channels)
        parts = max(_MOST_LOGITS // (self.heads * size[0] ** 2), 1)
        # In parts: what attention takes beside its result does not grow with the slices.
        seen = torch.cat([self._attend(part, bias, turn) for part in tokens.split(parts)])
        return x + seen.view(batch, *size[1:], size[0], channels).permute(0, 4, 3, 1, 2)

    def _attend(self, tokens: Tensor, bias: Tensor, turn: Rotation) -> Tensor:
        query, key, value = _split_heads(self.qkv(tokens), self.heads)
        query, key = rotate(query, turn), rotate(key, turn)
        seen = functional.scaled_dot_product_attention(
            query.to(value), key.to(value), value, attn_mask=bias.to(value)
        )
        return self.project(_join_heads(seen))


class _SliceAttention(nn.Module):
    """Attention of every slice's voxels to one another; adds to its input."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * heads * head_channels, bias=False)
        self.project = nn.Linear(heads * head_channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *size = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 4, 1).reshape(-1, size[1] * size[2], channels)
        parts = max(_MOST_LOGITS // (self.heads * tokens.shape[1] ** 2), 1)
        seen = torch.cat([self._attend(part) for part in tokens.split(parts)])
        return x + seen.view(batch, *size, channels).permute(0, 4, 1, 2, 3)

    def _attend(self, tokens: Tensor) -> Tensor:
        query, key, value = _split_heads(self.qkv(tokens), self.heads)
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self.project(_join_heads(seen))


class _LinearAttention(nn.Module):
    """Attention in the slice at a cost linear in its voxels (Shen et al. 2021, eq. 6); adds."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _ChannelNorm(channels)
        self.qkv = nn.Conv3d(channels, 3 * heads * head_channels, 1, bias=False)
        self.project = nn.Conv3d(heads * head_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # No slice sees another, and queries, keys and values of all would be wide: in parts.
        slices = self.norm(x).transpose(1, 2).flatten(0, 1).unsqueeze(2)
        parts = max(_MOST_FEATURES // (self.qkv.out_channels * slices[0, 0].numel()), 1)
        seen = torch.cat([self._attend(part) for part in slices.split(parts)])
        return x + seen.squeeze(2).unflatten(0, (len(x), -1)).transpose(1, 2)

    def _attend(self, part: Tensor) -> Tensor:
        query, key, value = (
            features.unflatten(1, (self.heads, -1)).flatten(3)
            for features in self.qkv(part).chunk(3, dim=1)
        )
        context = key.softmax(dim=3).to(value) @ value.transpose(2, 3)
        query = query.softmax(dim=2) * query.shape[2] ** -0.5
        seen = context.transpose(2, 3) @ query.to(value)
        return self.project(seen.flatten(1, 2).unflatten(2, part.shape[2:]))


def _split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``[B, N, 3 * heads * C]`` -> three of ``[B, heads, N, C]``."""
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
    )
    return query, key, value


def _join_heads(seen: Tensor) -> Tensor:
    """``[B, heads, N, C]`` -> ``[B, N, heads * C]``."""
    return seen.transpose(1, 2).flatten(-2)
