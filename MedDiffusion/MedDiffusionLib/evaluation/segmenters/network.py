"""What a segmenter's network is, and how deep it is for a size of patches."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

Size = tuple[int, int, int]

WIDTHS = (16, 32, 64, 96)
"""Channels of each level, from full resolution downwards."""
_LARGEST_PATCH = 64
_COARSEST = 8
"""Least voxels along an axis that is halved to the last level. Two are too few: oneDNN's gradients
of such maps are wrong in bfloat16 (torch 2.13)."""


class SegmentationNetwork(nn.Module):
    """Logits of labels from images; see the package."""

    REQUIRES: ClassVar[str] = ""
    """A package that must be installed for it; empty: none."""

    @abstractmethod
    def __init__(self, channels: int, classes: int, strides: Sequence[Size]) -> None:
        super().__init__()

    @abstractmethod
    def deepest(self, images: Tensor) -> Tensor:
        """The maps of the last level ``[B, width, x, y, z]``."""


def patch_of(size: Size) -> Size:
    """Voxels that a segmenter sees at once on a field of view of ``size``."""
    x, y, z = (_patch_along(n) for n in size)
    return x, y, z


def strides_of(patch: Size) -> list[Size]:
    """The strides of the levels below the first, at least one of them, for patches of a size."""
    halvings = [_halvings(n) for n in patch]
    strides = []
    for level in range(max(1, *halvings)):
        x, y, z = (2 if level < count else 1 for count in halvings)
        strides.append((x, y, z))
    return strides


def _patch_along(n: int) -> int:
    n = min(n, _LARGEST_PATCH)
    step = 2 ** _halvings(n)
    return n // step * step


def _halvings(n: int) -> int:
    return max(0, min(len(WIDTHS) - 1, math.floor(math.log2(n / _COARSEST))))
