"""MONAI's segmenter, DynUNet: nnU-Net's network, of another make than ours. Needs monai."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from .network import WIDTHS, SegmentationNetwork, Size


class DynUNet(SegmentationNetwork):
    """Plain convolutions, and transposed ones upwards; see the package."""

    REQUIRES: ClassVar[str] = "monai"

    def __init__(self, channels: int, classes: int, strides: Sequence[Size]) -> None:
        super().__init__(channels, classes, strides)
        # Half a minute, and for this network alone.
        from monai.networks.nets import DynUNet as Network

        made = Network(
            spatial_dims=3,
            in_channels=channels,
            out_channels=classes,
            kernel_size=[3] * (1 + len(strides)),
            strides=[(1, 1, 1), *strides],
            upsample_kernel_size=list(strides),
            filters=WIDTHS[: 1 + len(strides)],
            norm_name=("INSTANCE", {"affine": True}),
        )
        # Its own forward goes through a second list of the same layers, which no file can hold.
        self.down = nn.ModuleList([made.input_block, *made.downsamples, made.bottleneck])
        self.up = made.upsamples
        self.out = made.output_block

    def forward(self, images: Tensor) -> Tensor:
        maps = self._maps(images)
        h = maps.pop()
        for layer in self.up:
            h = layer(h, maps.pop())
        return self.out(h)

    def deepest(self, images: Tensor) -> Tensor:
        return self._maps(images)[-1]

    def _maps(self, h: Tensor) -> list[Tensor]:
        """The maps of all levels on the way down."""
        maps = []
        for layer in self.down:
            h = layer(h)
            maps.append(h)
        return maps
