"""Intensities to the model's [-1, 1] and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def to_model_range(array: NDArray, percentiles: Sequence[float]) -> NDArray[np.float32]:
    """Map the given low and high percentile of a scan to -1 and 1 and clip what lies outside."""
    low, high = np.percentile(array, percentiles)
    scaled = (array.astype(np.float32) - low) / max(float(high - low), 1e-12)
    return (np.clip(scaled, 0, 1) * 2 - 1).astype(np.float32)


def from_model_range(array: NDArray, output_range: Sequence[float]) -> NDArray[np.float32]:
    """Map [-1, 1] to a channel's output range, clipping what lies outside."""
    low, high = output_range
    return ((np.clip(array, -1, 1) + 1) / 2 * (high - low) + low).astype(np.float32)
