"""The network: a 3D residual U-Net conditioned on time, a label map and which labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ...compute.schema import Schema
from ..label_features import EMBEDDED_CHANNELS, MOST_CATEGORIES, LabelFeatures


class ResUNet(nn.Module):
    """Residual U-Net with FiLM conditioning and no attention, for latents of any size.

    ``forward(xt, t, labels, annotated)``: ``xt`` ``[B, latent_channels, x, y, z]``, ``t`` ``[B]``
    in [0, 1], ``labels`` ``[B, x fx, y fy, z fz]`` int64 label indices (0 is background),
    ``annotated`` ``[B, label_count]``. Returns ``[B, latent_channels, x, y, z]``. The sizes x, y, z
    must be multiples of ``multiple``, which is ``2 ** (len(channels) - 1)``.

    The label map keeps its full resolution: the fx fy fz voxels of each latent voxel become
    channels; or, with ``label_channels``, that many features of them (:class:`.LabelFeatures`),
    where labels and voxels would make a thousand.
    ``annotated`` says which labels were annotated at all: where one is not, the background may hold
    it, and with none the prediction is the unconditional one.

    ``recompute``: keep no activations inside residual blocks for the backward pass but compute
    them anew there; a third more time for a fraction of the memory, and the same result.
    """

    recompute = False

    OPTIONS: ClassVar[Schema] = {
        "required": ["channels", "blocks", "groups", "embedding"],
        "properties": {
            "channels": {
                "type": "array",
                "minItems": 1,
                "maxItems": 8,
                "items": {"type": "integer", "minimum": 1, "maximum": 4096},
                "description": "Width of each resolution level.",
            },
            "blocks": {
                "type": "integer",
                "minimum": 1,
                "maximum": 16,
                "description": "Residual blocks a level, each way.",
            },
            "groups": {"type": "integer", "minimum": 1, "maximum": 256},
            "embedding": {"type": "integer", "minimum": 1, "maximum": 8192},
            "label_channels": {"type": "integer", "minimum": 1, "maximum": 1024},
        },
    }

    def __init__(
        self,
        latent_channels: int,
        label_count: int,
        factors: tuple[int, int, int],
        channels: Sequence[int],
        blocks: int,
        groups: int,
        embedding: int,
        label_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(channels) - 1)
        self.factors = factors
        self.categories = label_count + 1
        self.label_features: LabelFeatures | None = None
        self.label_embedding: nn.Embedding | None = None
        if label_channels is not None:
            self.label_features = LabelFeatures(label_count, factors, label_channels)
        elif self.categories > MOST_CATEGORIES:
            label_channels = EMBEDDED_CHANNELS * math.prod(factors)
            self.label_embedding = nn.Embedding(self.categories, EMBEDDED_CHANNELS)
        else:
            label_channels = self.categories * math.prod(factors)
        self.time_embedding = _TimeEmbedding(embedding)
        self.annotated_embedding: nn.Linear | None = None
        if label_count:
            self.annotated_embedding = nn.Linear(label_count, embedding)
            _zero(self.annotated_embedding)

        width = channels[0]
        self.conv_in = nn.Conv3d(latent_channels + label_channels, width, 3, padding=1)
        self.down = nn.ModuleList()
        skips: list[int] = []
        for level, wider in enumerate(channels):
            stage = nn.ModuleList()
            if level > 0:
                stage.append(nn.Conv3d(width, width, 3, stride=2, padding=1))
            for _ in range(blocks):
                stage.append(_ResidualBlock(width, wider, embedding, groups))
                width = wider
                skips.append(width)
            self.down.append(stage)
        self.middle = nn.ModuleList(
            _ResidualBlock(width, width, embedding, groups) for _ in range(2)
        )
        self.up = nn.ModuleList()
        for level, narrower in reversed(list(enumerate(channels))):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(_ResidualBlock(width + skips.pop(), narrower, embedding, groups))
                width = narrower
            if level > 0:
                stage.append(nn.Conv3d(width, channels[level - 1], 3, padding=1))
                width = channels[level - 1]
            self.up.append(stage)
        self.norm_out = nn.GroupNorm(groups, width)
        self.conv_out = nn.Conv3d(width, latent_channels, 3, padding=1)
        _zero(self.conv_out)

    def forward(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        condition = self.time_embedding(t)
        if self.annotated_embedding is not None:
            condition = condition + self.annotated_embedding(2 * annotated.float() - 1)
        condition = functional.silu(condition)
        h = self.conv_in(torch.cat([xt, self._label_channels(labels, xt)], dim=1))
        skips: list[Tensor] = []
        for stage in self.down:
            for layer in stage.children():
                if isinstance(layer, _ResidualBlock):
                    h = self._block(layer, h, condition)
                    skips.append(h)
                else:
                    h = layer(h)
        for layer in self.middle:
            h = self._block(layer, h, condition)
        for stage in self.up:
            for layer in stage.children():
                if isinstance(layer, _ResidualBlock):
                    h = self._block(layer, torch.cat([h, skips.pop()], dim=1), condition)
                else:
                    h = layer(functional.interpolate(h, scale_factor=2, mode="nearest"))
        return self.conv_out(functional.silu(self.norm_out(h)))

    def _block(self, layer: nn.Module, h: Tensor, condition: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, h, condition, use_reentrant=False)
        return layer(h, condition)

    def _label_channels(self, labels: Tensor, like: Tensor) -> Tensor:
        """``[B, X, Y, Z]`` -> ``[B, channels, X / fx, Y / fy, Z / fz]`` (space to depth)."""
        if self.label_features is not None:
            return self.label_features(labels).to(like.dtype)
        if self.label_embedding is not None:
            dense = self.label_embedding(labels)
        else:
            dense = 2 * functional.one_hot(labels, self.categories).to(like.dtype) - 1
        batch, *size, channels = dense.shape
        fx, fy, fz = self.factors
        x, y, z = size[0] // fx, size[1] // fy, size[2] // fz
        folded = dense.view(batch, x, fx, y, fy, z, fz, channels).permute(0, 7, 2, 4, 6, 1, 3, 5)
        return folded.reshape(batch, -1, x, y, z)


class _ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the condition scales and shifts the second norm."""

    def __init__(self, before: int, after: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before)
        self.conv1 = nn.Conv3d(before, after, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * after)
        self.norm2 = nn.GroupNorm(groups, after)
        self.conv2 = nn.Conv3d(after, after, 3, padding=1)
        _zero(self.conv2)
        self.shortcut = nn.Conv3d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None, None, None].chunk(2, dim=1)
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        return self.shortcut(x) + h


def _zero(layer: nn.Module) -> None:
    """Start a layer at 0, so that what it adds grows from nothing in training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class _TimeEmbedding(nn.Module):
    """Sinusoidal embedding of t (Vaswani et al. 2017) and a small perceptron."""

    def __init__(self, embedding: int, frequencies: int = 32) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.layers = nn.Sequential(
            nn.Linear(2 * frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

    def forward(self, t: Tensor) -> Tensor:
        index = torch.arange(self.frequencies, device=t.device) / self.frequencies
        angle = 1000 * t.float()[:, None] * torch.exp(-math.log(1000) * index)
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))
