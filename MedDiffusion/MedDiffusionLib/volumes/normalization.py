"""Intensities to the model's [-1, 1] and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODEL_RANGE = (-1.0, 1.0)
"""The lowest and highest intensity of what a model sees and makes."""


@dataclass(frozen=True)
class Intensity:
    """Which intensities of a scan -1 and 1 stand for: one of the two.

    ``percentiles`` of the scan itself (MR has no scale), or a ``window`` per channel, of fixed
    intensities (Hounsfield units mean the same in every CT).
    """

    percentiles: tuple[float, float] | None = None
    window: tuple[tuple[float, float], ...] | None = None

    def limits(self, array: NDArray, channel: int = 0) -> tuple[float, float]:
        """The intensities of a scan ``[i, j, k]`` that -1 and 1 stand for."""
        if self.window is not None:
            return self.window[channel]
        low, high = np.percentile(array, self.percentiles or (0, 100))
        return float(low), float(high)


def to_model_range(array: NDArray, limits: tuple[float, float]) -> NDArray[np.float32]:
    """Map the limits to -1 and 1 and clip what lies outside."""
    low, high = limits
    scaled = (array.astype(np.float32) - low) / max(high - low, 1e-12)
    return (np.clip(scaled, 0, 1) * 2 - 1).astype(np.float32)


def from_model_range(
    array: NDArray, output_range: Sequence[float], *, clip: bool = True
) -> NDArray[np.float32]:
    """Map [-1, 1] to a channel's output range; what lies outside is clipped, or goes on."""
    low, high = output_range
    inside = np.clip(array, -1, 1) if clip else array
    return ((inside + 1) / 2 * (high - low) + low).astype(np.float32)
