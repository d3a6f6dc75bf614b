"""Intensities: are labels as bright as in the real volume of the same label map?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cases import Pair
from ..figure import Figure, at_most
from ..figures.checks import Floats
from ..figures.intensities import intensity_distances, label_quantiles, quantile_distance
from ..figures.intervals import Interval, mean_interval
from ..json_arrays import listed
from ..results import Results
from .base import SEED, Kept, Subject, Tools, mean_over_pairs
from .label_fidelity import nanmean


class Intensities(Subject):
    """Wasserstein's distance of each label's intensities, in real interquartile ranges."""

    name: ClassVar[str] = "intensities"
    title: ClassVar[str] = "Intensities"
    meaning: ClassVar[str] = (
        "How far a label's intensities lie from those of the real volume of the same label map, in "
        "real interquartile ranges; 0 is the same. Real: between two patients' volumes; as real is "
        "what is no more."
    )
    fewest: ClassVar[int] = 3

    def of_synthetic(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        count = len(tools.synthesizer.model.labels)
        found = intensity_distances(pair.real, image, pair.labels, pair.valid, count)
        return {"intensities": listed(found)}

    def across(self, one: Kept, other: Kept) -> dict[str, Any]:
        count = int(max(one.labels.max(), other.labels.max()))
        first, second = (
            label_quantiles(each.real, each.labels, each.valid, count) for each in (one, other)
        )
        return {"intensities": listed(quantile_distance(first, second))}

    def figures(self, results: Results) -> list[Figure]:
        made = results.synthetic("intensities")
        figures = []
        for channel, contrast in enumerate(results.channels):
            for label, words in enumerate(results.labels):
                own = made[:, :, channel, label]
                mean = nanmean(own, 1)
                if (~np.isnan(mean)).sum() < self.fewest:
                    continue
                value = mean_interval(mean, SEED)
                real = self._between_patients(results, channel, label)
                figures.append(Figure(
                    f"{self.name}/{contrast}/{words}",
                    f"Distance of the intensities of {words} in {contrast}; beside it that of two "
                    "patients' real volumes",
                    value, tuple(float(np.nanmean(seed)) for seed in own.T), real,
                    at_most(value, real),
                ))  # fmt: skip
        return figures

    def _between_patients(self, results: Results, channel: int, label: int) -> Interval:
        table = [
            (one, other, _at(values, channel, label))
            for one, other, values in results.pairs(self.name)
        ]
        return mean_over_pairs(table, results.patient_numbers)


def _at(values: Floats, channel: int, label: int) -> float:
    """NaN for a label that neither patient has, which the measuring does not know of."""
    return float(values[channel, label]) if label < values.shape[1] else np.nan
