"""The layout of the published 3D VQ-GAN, to be trained beside ours: for a comparison alone.

Medical Diffusion's (Khader et al. 2023): convolutions of 4 x 4 x 4 that halve, one residual block a
level on the way in and two on the way out, group norm over the whole volume, padding that repeats,
16,384 codes of 8 channels, no label map.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from MedDiffusionLib.diffusion.representations import Autoencoder

WIDTH, CODES, EMBEDDING, GROUPS = 16, 16384, 8, 32


class PublishedLayout(Autoencoder):
    """Of ``levels`` halvings along each axis; losses and codebook are those of ours."""

    def __init__(self, image_channels: int, levels: int) -> None:
        factor = 2**levels
        quantizer = {"name": "vq", "codes": CODES}
        super().__init__(
            image_channels, [factor] * 3, 0, [1] * (levels + 1), 1, EMBEDDING, quantizer
        )
        widths = [WIDTH * 2**level for level in range(levels + 1)]
        self.encoder = _Encoder(image_channels, widths)  # type: ignore[assignment]
        self.decoder = _Decoder(image_channels, widths)  # type: ignore[assignment]
        # Its norms see the whole volume.
        self.tile = None


class _Encoder(nn.Sequential):
    def __init__(self, image_channels: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [_Convolution(image_channels, widths[0], 3)]
        for before, after in pairwise(widths):
            layers += [_Convolution(before, after, 4, 2), _ResidualBlock(after)]
        super().__init__(*layers, _norm(widths[-1]), nn.SiLU(), nn.Conv3d(widths[-1], EMBEDDING, 1))


class _Decoder(nn.Module):
    def __init__(self, image_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        ways = [widths[-1], *widths[:0:-1]]
        layers: list[nn.Module] = [nn.Conv3d(EMBEDDING, ways[0], 1), _norm(ways[0]), nn.SiLU()]
        for before, after in pairwise(ways):
            layers += [_Enlargement(before, after), _ResidualBlock(after), _ResidualBlock(after)]
        self.layers = nn.Sequential(*layers)
        self.conv_out = _Convolution(ways[-1], image_channels, 3)

    def forward(self, latent: Tensor, fine: Tensor | None, coarse: Tensor | None) -> Tensor:
        return self.conv_out(self.layers(latent)).float()


class _Convolution(nn.Conv3d):
    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__(before, after, kernel, stride, padding=1, padding_mode="replicate")


class _Enlargement(nn.ConvTranspose3d):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, padding=3)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(functional.pad(x, (1,) * 6, mode="replicate"))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _norm(channels), nn.SiLU(), _Convolution(channels, channels, 3),
            _norm(channels), nn.SiLU(), _Convolution(channels, channels, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)
