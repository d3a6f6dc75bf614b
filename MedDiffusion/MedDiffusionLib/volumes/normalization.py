"""Intensities to the model's [-1, 1] and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_RANGE = (-1.0, 1.0)
"""The lowest and highest intensity of what a model sees and makes."""


def intensity_limits(
    array: NDArray, intensity: Mapping[str, Any], channel: int = 0
) -> tuple[float, float]:
    """The intensities of a scan that -1 and 1 stand for, as a manifest's ``intensity`` says.

    With ``percentiles`` they are the scan's own (MR has no scale), with ``window`` the channel's
    fixed ones (Hounsfield units mean the same in every CT).
    """
    if "window" in intensity:
        low, high = intensity["window"][channel]
    else:
        low, high = np.percentile(array, intensity["percentiles"])
    return float(low), float(high)


def to_model_range(array: NDArray, limits: tuple[float, float]) -> NDArray[np.float32]:
    """Map the limits to -1 and 1 and clip what lies outside."""
    low, high = limits
    scaled = (array.astype(np.float32) - low) / max(high - low, 1e-12)
    return (np.clip(scaled, 0, 1) * 2 - 1).astype(np.float32)


def from_model_range(array: NDArray, output_range: Sequence[float]) -> NDArray[np.float32]:
    """Map [-1, 1] to a channel's output range, clipping what lies outside."""
    low, high = output_range
    return ((np.clip(array, -1, 1) + 1) / 2 * (high - low) + low).astype(np.float32)
