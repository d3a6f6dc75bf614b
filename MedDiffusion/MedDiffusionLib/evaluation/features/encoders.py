"""The features of a segmenter: what a network looks at that was trained to find the labels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .base import checked


class Encoder(Protocol):
    """A network with a name that makes a vector ``[d]`` of a volume ``[C, X, Y, Z]``."""

    @property
    def name(self) -> str:
        """Its name among its kind."""

    def encode(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """Means over space of its deepest maps."""


class SegmenterFeatures:
    """What a segmenter's encoder makes of a volume; see :class:`.base.Extractor`."""

    def __init__(self, segmenter: Encoder) -> None:
        self._segmenter = segmenter
        self.name = f"segmenter:{segmenter.name}"

    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The encoder's, with air where the volume is not valid."""
        return np.asarray(self._segmenter.encode(checked(image, valid)), np.float64)
