"""Extractors of features, all of them offline; a new one is a file here and, if it needs nothing, a
line in ``EXTRACTORS``.

Those that need something are made by who has it: :class:`.encoders.SegmenterFeatures` of a trained
segmenter, :class:`.contrastive.Contrastive` of the audit's encoder, :func:`.weights.read_weights`
of a file of the user's. Figures of different extractors do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .base import Extractor
from .gray_levels import GrayLevels
from .random_network import RandomNetwork

__all__ = ["EXTRACTORS", "Extractor"]

EXTRACTORS: Mapping[str, Callable[[], Extractor]] = {
    "gray-levels": GrayLevels,
    "random-network": RandomNetwork,
}
"""By name those that need neither a file nor training, for any number of contrasts."""
