"""Med-DDPM's network (Dorjsembe et al. 2024): a 3D U-Net to which masks are further channels.

Parameters have the names of the published weights. It predicts the noise, of images in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...compute.schema import Schema

_GROUPS = 32
_PERIOD = 1000


class MedDDPMUNet(nn.Module):
    """U-Net with self-attention at coarse levels, told the step of a discrete schedule.

    ``forward(xt, t, labels, annotated)`` as of :class:`.resunet.ResUNet`, but ``t`` ``[B]`` is the
    step's number. One mask channel per label, in the model's order: 1 where the label is and
    ``outside`` elsewhere; ``annotated`` is not used: the mask of a label that is absent is empty.

    ``axes``: "kji" where the network was trained on volumes with their axes reversed; "ijk" where
    not. ``strides``: how much each level is coarser than the one before, along each of the
    network's axes. ``attention``: the levels with self-attention, beside the middle.
    """

    recompute = False

    OPTIONS: ClassVar[Schema] = {
        "required": ["channels", "multipliers", "blocks", "attention", "outside", "axes"],
        "properties": {
            "channels": {"type": "integer", "minimum": 32, "maximum": 1024},
            "multipliers": {
                "type": "array",
                "minItems": 1,
                "maxItems": 8,
                "items": {"type": "integer", "minimum": 1, "maximum": 64},
                "description": "Width of each level, in channels.",
            },
            "blocks": {"type": "integer", "minimum": 1, "maximum": 16},
            "attention": {
                "type": "array",
                "maxItems": 8,
                "items": {"type": "integer", "minimum": 0, "maximum": 7},
            },
            "heads": {"type": "integer", "minimum": 1, "maximum": 64},
            "outside": {"type": "integer", "minimum": -1, "maximum": 0},
            "axes": {"type": "string", "enum": ["kji", "ijk"]},
            "strides": {
                "type": "array",
                "minItems": 3,
                "maxItems": 3,
                "items": {"type": "integer", "minimum": 1, "maximum": 2},
            },
        },
    }

    def __init__(
        self,
        latent_channels: int,
        label_count: int,
        factors: tuple[int, int, int],
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        outside: int,
        axes: str,
        heads: int = 1,
        strides: Sequence[int] = (2, 2, 2),
    ) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        if factors != (1, 1, 1):
            raise ValueError("the network med-ddpm works on voxels, so on the identity alone")
        if any(width % math.lcm(_GROUPS, heads) for width in widths):
            raise ValueError(f"widths of the network are no multiples of {_GROUPS} and its heads")
        self.multiple = 2 ** (len(widths) - 1)
        self.channels = channels
        self.label_count = label_count
        self.outside = outside
        self.reverse = axes == "kji"
        embedding = 4 * channels
        step = strides[0], strides[1], strides[2]

        def level_block(before: int, level: int) -> list[nn.Module]:
            parts: list[nn.Module] = [_ResidualBlock(before, widths[level], embedding)]
            if level in attention:
                parts.append(_Attention(widths[level], heads))
            return parts

        self.time_embed = nn.ModuleDict(
            {"0": nn.Linear(channels, embedding), "2": nn.Linear(embedding, embedding)}
        )
        first = _Convolution(latent_channels + label_count, widths[0], 3, padding=1)
        inputs: list[list[nn.Module]] = [[first]]
        skips = [widths[0]]
        width = widths[0]
        for level, wider in enumerate(widths):
            if level > 0:
                inputs.append([_Downsample(width, step)])
                skips.append(width)
            for _ in range(blocks):
                inputs.append(level_block(width, level))
                width = wider
                skips.append(width)
        outputs: list[list[nn.Module]] = []
        for level in reversed(range(len(widths))):
            for last in [False] * blocks + [True]:
                parts = level_block(width + skips.pop(), level)
                width = widths[level]
                if last and level > 0:
                    parts.append(_Upsample(width, step))
                outputs.append(parts)
        middle = widths[-1]
        self.input_blocks = nn.ModuleList(nn.ModuleList(parts) for parts in inputs)
        self.middle_block = nn.ModuleList(
            [
                _ResidualBlock(middle, middle, embedding),
                _Attention(middle, heads),
                _ResidualBlock(middle, middle, embedding),
            ]
        )
        self.output_blocks = nn.ModuleList(nn.ModuleList(parts) for parts in outputs)
        self.out = nn.ModuleDict(
            {
                "0": nn.GroupNorm(_GROUPS, width),
                "2": nn.Conv3d(width, latent_channels, 3, padding=1),
            }
        )

    def forward(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        h = self._turned(torch.cat([xt, self.masks(labels, xt)], dim=1))
        told = functional.silu(self.time_embed["0"](step_embedding(t, self.channels)))
        told = self.time_embed["2"](told)
        # Each name that holds a large tensor longer than needed costs memory at full resolution.
        skips: list[Tensor] = []
        for parts in self.input_blocks:
            for part in parts.children():
                h = part(h, told)
            skips.append(h)
        for part in self.middle_block:
            h = part(h, told)
        for parts in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            for part in parts.children():
                h = part(h, told)
        return self._turned(self.out["2"](_activated(self.out["0"], h)))

    def masks(self, labels: Tensor, like: Tensor) -> Tensor:
        """``[B, x, y, z]`` label indices -> ``[B, label_count, x, y, z]`` of 1 and ``outside``."""
        known = torch.arange(1, self.label_count + 1, device=labels.device)
        inside = labels[:, None] == known.view(1, -1, 1, 1, 1)
        return torch.where(inside, 1, self.outside).to(like.dtype)

    def _turned(self, image: Tensor) -> Tensor:
        """Between the model's axes and those of the network."""
        return image.permute(0, 1, 4, 3, 2) if self.reverse else image


def step_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding of step numbers ``[B]``, ``[B, channels]``: cosines, then sines.

    Unlike that of Vaswani et al. 2017 its longest period is 1000 steps, and it is never reached.
    """
    half = channels // 2
    index = torch.arange(half, device=t.device) / half
    angle = t.float()[:, None] * torch.exp(-math.log(_PERIOD) * index)
    return functional.pad(torch.cat([angle.cos(), angle.sin()], dim=1), (0, channels % 2))


class _ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the step's embedding is added between them."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.ModuleDict(
            {"0": nn.GroupNorm(_GROUPS, before), "2": nn.Conv3d(before, after, 3, padding=1)}
        )
        self.emb_layers = nn.ModuleDict({"1": nn.Linear(embedding, after)})
        self.out_layers = nn.ModuleDict(
            {"0": nn.GroupNorm(_GROUPS, after), "3": nn.Conv3d(after, after, 3, padding=1)}
        )
        self.skip_connection = nn.Conv3d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        h: Tensor = self.in_layers["2"](_activated(self.in_layers["0"], x))
        h += self.emb_layers["1"](functional.silu(told))[..., None, None, None]
        h = self.out_layers["3"](_activated(self.out_layers["0"], h))
        h += self.skip_connection(x)
        return h


class _Attention(nn.Module):
    """Self-attention over all voxels, of which no matrix of weights is ever whole in memory."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        tokens = x.flatten(2)
        # Channels are split into heads first, then into queries, keys and values.
        heads = self.qkv(self.norm(tokens)).unflatten(1, (self.heads, -1)).transpose(2, 3)
        q, k, v = (part.contiguous() for part in heads.chunk(3, dim=-1))
        seen = functional.scaled_dot_product_attention(q, k, v)
        h = self.proj_out(seen.transpose(2, 3).flatten(1, 2))
        return (tokens + h).view_as(x)


class _Convolution(nn.Conv3d):
    """A convolution that is told the step like all other parts, and does not heed it."""

    def forward(self, input: Tensor, told: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input)


class _Downsample(nn.Module):
    def __init__(self, channels: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        self.op = nn.Conv3d(channels, channels, 3, stride=strides, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        down: Tensor = self.op(x)
        return down


class _Upsample(nn.Module):
    def __init__(self, channels: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        self.scale = tuple(float(n) for n in strides)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        larger = functional.interpolate(x, scale_factor=self.scale, mode="trilinear")
        up: Tensor = self.conv(larger)
        return up


def _activated(norm: nn.Module, x: Tensor) -> Tensor:
    """SiLU of the normalized tensor, in its place where no gradient needs it."""
    return functional.silu(norm(x), inplace=not torch.is_grad_enabled())
