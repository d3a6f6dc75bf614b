"""What an extractor of features is, and what all of them ask of a volume."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError

AIR = -1.0
"""The value of voxels that were not scanned: the lowest of a model's range."""


class Extractor(Protocol):
    """From a volume to a vector that figures of sets compare.

    The same volume always gives the same vector, as long as ``name`` is the same.
    """

    @property
    def name(self) -> str:
        """What it is, for a report: figures of different extractors do not compare."""

    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The vector ``[d]`` of a volume ``[C, X, Y, Z]`` in [-1, 1]; only voxels in ``valid``
        ``[X, Y, Z]`` count. Raises what :func:`checked` does."""


def checked(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The volume as a copy, with air where it is not valid.

    Raises ValueError where shapes differ; UserError where nothing is valid (``too-small``), and for
    values that are not finite (``not-finite``) or a contrast that is constant (``constant``).
    """
    if image.ndim != 4 or image.shape[1:] != valid.shape:
        raise ValueError(f"a volume of shape {image.shape} and validity of {valid.shape}")
    if not valid.any():
        raise UserError("No voxel of a volume was scanned", "leave this case out", code="too-small")
    filled = np.where(valid, image, AIR).astype(np.float32)
    if not np.isfinite(filled).all():
        raise UserError(
            "A volume has NaN or infinite values", "leave this case out", code="not-finite"
        )
    for channel in filled:
        values = channel[valid]
        if values.min() == values.max():
            raise UserError(
                "A volume is constant where it was scanned", "leave this case out", code="constant"
            )
    return filled
