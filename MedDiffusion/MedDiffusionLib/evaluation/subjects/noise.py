"""Noise: are volumes as grainy as real ones, within labels that should be homogeneous?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from ..cases import Pair
from ..figure import Figure, within
from ..figures.checks import Floats
from ..figures.intervals import Interval, bootstrap
from ..figures.noise import noise_parts, noise_power
from ..figures.null import split_halves
from ..json_arrays import listed
from ..results import Results
from .base import SEED, Subject, Tools
from .label_fidelity import nanmean


class Noise(Subject):
    """The power of high frequencies, synthetic over real."""

    name: ClassVar[str] = "noise"
    title: ClassVar[str] = "Noise"
    meaning: ClassVar[str] = (
        "The power of high frequencies within labels, synthetic over real of the same label map: "
        "1 is as real, below is too smooth, above too grainy. Label fidelity sees neither."
    )
    fewest: ClassVar[int] = 4

    def of_volume(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        parts = noise_parts(pair.labels, pair.valid)
        return {"noise": [listed(_high(channel, parts, pair.grid.spacing)) for channel in image]}

    def figures(self, results: Results) -> list[Figure]:
        with np.errstate(divide="ignore"):
            real = _finite(np.log(results.real("noise")))
            made = _finite(np.log(results.synthetic("noise")))
        figures = []
        for number, channel in enumerate(results.channels):
            own, ratios = real[:, number], made[:, :, number] - real[:, number, None]
            mean = nanmean(ratios, 1)
            known = own[~np.isnan(own)]
            band = split_halves(known[:, None], _ratio, seed=SEED)
            value = bootstrap(mean[~np.isnan(mean)], _geometric, SEED)
            row = Interval(band.median, band.low, band.high)
            figures.append(Figure(
                f"{self.name}/{channel}",
                f"High-frequency power of {channel}, synthetic over real; beside it one half of "
                "the real cases over the other",
                value, tuple(_geometric(seed[~np.isnan(seed)]) for seed in ratios.T), row,
                within(value, row),
            ))  # fmt: skip
        return figures


def _high(channel: NDArray[np.float32], parts: NDArray, spacing: Floats) -> float:
    try:
        return noise_power(channel, parts, spacing.tolist()).high
    except UserError as error:
        if error.code != "too-small":
            raise
        return np.nan


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _geometric(logarithms: Floats) -> float:
    return float(np.exp(logarithms.mean()))


def _ratio(one: NDArray, other: NDArray) -> float:
    return float(np.exp(other.mean() - one.mean()))
