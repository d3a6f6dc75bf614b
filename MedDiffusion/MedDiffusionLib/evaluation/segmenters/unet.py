"""Our own segmenter: a plain residual 3D U-Net with instance normalization."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import WIDTHS, SegmentationNetwork, Size


class UNet(SegmentationNetwork):
    """A residual block at each level on the way down and on the way up; see the package."""

    def __init__(self, channels: int, classes: int, strides: Sequence[Size]) -> None:
        super().__init__(channels, classes, strides)
        self.strides = [(1, 1, 1), *strides]
        widths = WIDTHS[: len(self.strides)]
        self.down = nn.ModuleList(
            _Block(before, width, stride)
            for before, width, stride in zip(
                (channels, *widths), widths, self.strides, strict=False
            )
        )
        self.narrow = nn.ModuleList(
            nn.Conv3d(below, width, 1) for width, below in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(_Block(2 * width, width, (1, 1, 1)) for width in widths[:-1])
        self.out = nn.Conv3d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self._maps(images)
        h = maps[-1]
        for level in reversed(range(len(self.up))):
            scale = [float(n) for n in self.strides[level + 1]]
            wider = functional.interpolate(self.narrow[level](h), scale_factor=scale)
            h = self.up[level](torch.cat([wider, maps[level]], dim=1))
        return self.out(h)

    def deepest(self, images: Tensor) -> Tensor:
        return self._maps(images)[-1]

    def _maps(self, h: Tensor) -> list[Tensor]:
        """The maps of all levels on the way down."""
        maps = []
        for block in self.down:
            h = block(h)
            maps.append(h)
        return maps


class _Block(nn.Module):
    """Convolution, normalization, leaky ReLU, twice, beside a convolution of 1^3."""

    def __init__(self, before: int, after: int, stride: Size) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        self.norm1 = InstanceNorm(after)
        self.conv2 = nn.Conv3d(after, after, 3, padding=1, bias=False)
        self.norm2 = InstanceNorm(after)
        self.shortcut = nn.Conv3d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        h = self.norm2(self.conv2(h)) + self.shortcut(x)
        return functional.leaky_relu(h, 0.01)


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov et al. 2016), by batch normalization of single samples.

    What torch has for it, or for as many groups as channels, takes half of a training step here:
    its backward pass knows no channels-last order.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        made = [
            functional.batch_norm(each, None, None, self.weight, self.bias, training=True)
            for each in x.split(1)
        ]
        return torch.cat(made) if len(made) > 1 else made[0]
