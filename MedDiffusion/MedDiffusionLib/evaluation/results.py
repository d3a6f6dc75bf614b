"""What was measured of all cases, as JSON holds it: figures are computed from this alone.

``cases`` is a list of objects, one a case, as :mod:`.measuring` makes them, ``pairs`` one of pairs
of cases: whoever has the file can compute each figure again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .figures.checks import Floats
from .json_arrays import array


@dataclass(frozen=True)
class Results:
    """The content of a report's JSON, read by its parts."""

    content: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        return list(self.content["labels"])

    @property
    def channels(self) -> list[str]:
        return list(self.content["channels"])

    @property
    def segmenters(self) -> list[str]:
        """Their names, of those that judged."""
        return list(self.content["inputs"]["segmenters"])

    @property
    def extractors(self) -> list[str]:
        return list(self.content["inputs"]["extractors"])

    @property
    def seeds(self) -> list[int]:
        return list(self.content["settings"]["seeds"])

    @property
    def names(self) -> list[str]:
        return [case["name"] for case in self.content["cases"]]

    def real(self, *path: str) -> Floats:
        """What was measured of each patient's real volume, ``[patients, ...]``."""
        return self._of_patients([_at(case["real"], path) for case in self.content["cases"]])

    def synthetic(self, *path: str) -> Floats:
        """The same of the synthetic ones, ``[patients, seeds, ...]``."""
        return self._of_patients(
            [
                np.stack([_at(made, path) for made in case["synthetic"]])
                for case in self.content["cases"]
            ]
        )

    def pairs(self, name: str) -> list[tuple[int, int, Floats]]:
        """What was measured of pairs of cases: their numbers, and it."""
        return [
            (*pair["cases"], array(pair[name])) for pair in self.content["pairs"] if name in pair
        ]

    @property
    def patient_numbers(self) -> list[int]:
        """The number of each case's patient, in the order in which they come."""
        patients = list(dict.fromkeys(case["patient"] for case in self.content["cases"]))
        return [patients.index(case["patient"]) for case in self.content["cases"]]

    def _of_patients(self, values: list[NDArray[Any]]) -> Floats:
        """The mean over each patient's cases, where one has several; NaN counts for nothing."""
        numbers = np.array(self.patient_numbers)
        stacked = np.stack(values) if values else np.zeros((0,))
        if len(set(self.patient_numbers)) == len(values):
            return stacked
        known = ~np.isnan(stacked)
        means = []
        for patient in range(numbers.max() + 1):
            own = numbers == patient
            count = known[own].sum(0)
            total = np.where(known[own], stacked[own], 0).sum(0)
            means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
        return np.stack(means)


def _at(content: Any, path: tuple[str, ...]) -> Floats:
    for name in path:
        content = content[name]
    return array(content)
