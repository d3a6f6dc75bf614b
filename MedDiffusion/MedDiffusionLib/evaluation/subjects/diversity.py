"""Diversity: do volumes of different label maps differ from each other as real ones do?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..figure import Figure, within
from ..figures.similarity import ms_ssim
from ..json_arrays import listed
from ..results import Results
from .base import Kept, Subject, mean_over_pairs


class Diversity(Subject):
    """The mean structural similarity of two patients' volumes: lower is more diverse."""

    name: ClassVar[str] = "diversity"
    title: ClassVar[str] = "Diversity"
    meaning: ClassVar[str] = (
        "MS-SSIM of volumes of two patients, mean over pairs: LOWER is more diverse. Far above "
        "real is a model that makes the same volume again and again."
    )
    fewest: ClassVar[int] = 3

    def across(self, one: Kept, other: Kept) -> dict[str, Any]:
        made = [
            _similarity(a, b, one.valid, other.valid)
            for a, b in zip(one.synthetic, other.synthetic, strict=True)
        ]
        real = _similarity(one.real, other.real, one.valid, other.valid)
        return {"similarity": listed(np.array([real, *made]))}

    def figures(self, results: Results) -> list[Figure]:
        pairs, patients = results.pairs("similarity"), results.patient_numbers
        real = mean_over_pairs([(a, b, float(values[0])) for a, b, values in pairs], patients)
        made = [(a, b, float(values[1:].mean())) for a, b, values in pairs]
        value = mean_over_pairs(made, patients)
        seeds = np.stack([values[1:] for _, _, values in pairs]).mean(0)
        return [
            Figure(
                f"{self.name}/MS-SSIM",
                "Mean MS-SSIM of two patients' volumes (lower is more diverse); beside it that of "
                "real ones",
                value,
                tuple(float(seed) for seed in seeds),
                real,
                within(value, real),
            )
        ]


def _similarity(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
) -> float:
    """MS-SSIM of the middles that two fields of view share, where both were scanned."""
    size = [min(n, m) for n, m in zip(a.shape[1:], b.shape[1:], strict=True)]
    return ms_ssim(_middle(a, size), _middle(b, size), _middle(first, size) & _middle(second, size))


def _middle(volume: NDArray[Any], size: list[int]) -> NDArray[Any]:
    starts = [(n - wanted) // 2 for n, wanted in zip(volume.shape[-3:], size, strict=True)]
    x, y, z = (slice(start, start + n) for start, n in zip(starts, size, strict=True))
    return volume[..., x, y, z]
