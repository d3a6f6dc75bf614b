"""The adversary of a decoder: discriminators that tell real from decoded patches by texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDTHS = (32, 64, 128)
_GROUPS = 8
_SLICES = 8
"""Slices across each axis that are looked at."""
_KEPT = 0.99
"""Of the balance of a step before, in the next one."""
_MOST_BALANCE = 1e4

Triple = tuple[int, int, int]
"""Of x, y and z."""


@dataclass(frozen=True)
class Verdict:
    """What a discriminator says: of each sample its features, and a score of each of its parts.

    ``scores`` ``[B, n]``: above 0 for what it takes for real; ``features``: of each layer.
    """

    scores: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """One looks at the volume, one at slices across all three axes (VQ-GAN: Esser et al. 2021;
    slices and volumes: Ge et al. 2022). Both judge small parts, as PatchGAN does.

    ``balance``: the decoder's gradient from its other losses, as a multiple of that from this one
    (Esser et al. 2021, eq. 7), averaged over steps; it begins at 0, so that the weight of the
    adversary grows from nothing while it learns.
    """

    balance: Tensor

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        self.volume = _PatchDiscriminator(image_channels, (2, 2, 2))
        self.slices = _PatchDiscriminator(image_channels, (2, 2, 1))
        self.register_buffer("balance", torch.zeros(()))

    def forward(self, image: Tensor) -> list[Verdict]:
        """The verdicts on ``[B, C, X, Y, Z]``."""
        return [self.volume(image), *(self.slices(_slices(image, axis)) for axis in (2, 3, 4))]

    def rebalance(self, others: Tensor, own: Tensor) -> None:
        """Take in a step's gradients of one layer of the decoder."""
        ratio = others.norm() / own.norm().clamp_min(1e-12)
        if torch.isfinite(ratio):
            self.balance.lerp_(ratio.clamp_max(_MOST_BALANCE).to(self.balance), 1 - _KEPT)


def discriminator_loss(real: Sequence[Verdict], decoded: Sequence[Verdict]) -> Tensor:
    """The hinge loss (Lim & Ye 2017) of each sample ``[B]``."""
    losses = [
        functional.relu(1 - a.scores.float()).mean(1)
        + functional.relu(1 + b.scores.float()).mean(1)
        for a, b in zip(real, decoded, strict=True)
    ]
    return torch.stack(losses).mean(0)


def decoder_loss(real: Sequence[Verdict], decoded: Sequence[Verdict], matching: float) -> Tensor:
    """What the decoder is to lower, of each sample ``[B]``: to be found out, and ``matching`` times
    the difference of its features from those of the real ones (Wang et al. 2018, eq. 4)."""
    losses = []
    for a, b in zip(real, decoded, strict=True):
        pairs = zip(a.features, b.features, strict=True)
        apart = [(g.float() - f.float().detach()).abs().flatten(1).mean(1) for f, g in pairs]
        losses.append(matching * torch.stack(apart).mean(0) - b.scores.float().mean(1))
    return torch.stack(losses).mean(0)


class _PatchDiscriminator(nn.Module):
    """Strided convolutions; the last one scores a part of the image at each of its voxels.

    Along an axis with stride 1 every voxel is by itself.
    """

    def __init__(self, image_channels: int, stride: Triple) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        before = image_channels
        for width in _WIDTHS:
            # No norm behind the first layer, which sees brightness.
            norm = nn.Identity() if width == _WIDTHS[0] else nn.GroupNorm(_GROUPS, width)
            kernel, padding = _kernel(stride, 4)
            self.layers.append(
                nn.Sequential(nn.Conv3d(before, width, kernel, stride, padding), norm)
            )
            before = width
        kernel, padding = _kernel(stride, 3)
        self.score = nn.Conv3d(before, 1, kernel, padding=padding)

    def forward(self, image: Tensor) -> Verdict:
        features = []
        h = image
        for layer in self.layers:
            h = functional.leaky_relu(layer(h), 0.2)
            features.append(h)
        return Verdict(self.score(h).flatten(1), features)


def _kernel(stride: Triple, length: int) -> tuple[Triple, Triple]:
    """The kernel, and its padding: ``length`` long along the axes that shrink."""
    x, y, z = (length if n > 1 else 1 for n in stride)
    return (x, y, z), ((x - 1) // 2, (y - 1) // 2, (z - 1) // 2)


def _slices(image: Tensor, axis: int) -> Tensor:
    """Evenly spaced slices across an axis of ``[B, C, X, Y, Z]``, which comes last."""
    length = image.shape[axis]
    count = min(_SLICES, length)
    places = [(2 * n + 1) * length // (2 * count) for n in range(count)]
    index = torch.tensor(places, device=image.device)
    return image.index_select(axis, index).movedim(axis, -1)
