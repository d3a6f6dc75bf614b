"""A label map as features of a coarser grid, without a channel for every label and voxel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_CATEGORIES = 16
"""Up to so many labels (background counted) have weights of their own; more share an embedding."""
EMBEDDED_CHANNELS = 8


class LabelFeatures(nn.Module):
    """The convolution of a one-hot label map with kernel and stride ``factors``.

    Label indices ``[B, X, Y, Z]`` (0 is background) -> ``[B, channels, X / fx, Y / fy, Z / fz]``:
    every voxel of the label map counts, by its label and its place within the coarse voxel. The
    one-hot map is never made: what each label adds at each place is looked up in a table.
    """

    def __init__(self, label_count: int, factors: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.categories = label_count + 1
        self.factors = factors
        places = math.prod(factors)
        self.embedding: nn.Parameter | None = None
        rows = self.categories
        if self.categories > MOST_CATEGORIES:
            rows = EMBEDDED_CHANNELS
            self.embedding = nn.Parameter(torch.randn(self.categories, rows) * rows**-0.5)
        # The features of a coarse voxel begin with variance 1.
        self.table = nn.Parameter(torch.randn(places, rows, channels) * places**-0.5)

    def forward(self, labels: Tensor) -> Tensor:
        table = self.table if self.embedding is None else self.embedding @ self.table
        batch, *size = labels.shape
        (x, y, z), (fx, fy, fz) = (
            (n // f for n, f in zip(size, self.factors, strict=True)),
            self.factors,
        )
        folded = labels.view(batch, x, fx, y, fy, z, fz).permute(0, 1, 3, 5, 2, 4, 6)
        places = torch.arange(len(table), device=labels.device) * self.categories
        rows = folded.reshape(-1, len(table)) + places
        features = functional.embedding_bag(rows, table.flatten(0, 1), mode="sum")
        return features.view(batch, x, y, z, -1).permute(0, 4, 1, 2, 3)
