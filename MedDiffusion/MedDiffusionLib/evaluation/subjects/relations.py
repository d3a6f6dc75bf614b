"""Relations of contrasts: do the contrasts of one volume go together as in real ones?"""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cases import Pair
from ..figure import Figure
from ..figures.intervals import mean_interval
from ..figures.relations import contrast_relations
from ..json_arrays import listed
from ..results import Results
from .base import SEED, Subject, Tools
from .label_fidelity import nanmean


class Relations(Subject):
    """The correlation of two contrasts within each label, and the distance of joint intensities."""

    name: ClassVar[str] = "relations"
    title: ClassVar[str] = "Relations of contrasts"
    meaning: ClassVar[str] = (
        "The correlation of two contrasts within a label, synthetic - real; and how far their "
        "joint intensities lie apart, in real interquartile ranges. 0 is as real. Only where a "
        "model makes several contrasts."
    )

    def of_synthetic(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        if len(image) == 1:
            return {}
        count = len(tools.synthesizer.model.labels)
        found = contrast_relations(pair.real, image, pair.labels, pair.valid, count)
        return {
            "relations": {
                "difference": listed(found.synthetic - found.real),
                "distance": listed(found.distance),
            }
        }

    def figures(self, results: Results) -> list[Figure]:
        figures = []
        pairs = list(combinations(results.channels, 2))
        for kind, words in (
            ("difference", "Correlation, synthetic - real,"),
            ("distance", "Distance of the joint intensities"),
        ):
            made = results.synthetic("relations", kind) if pairs else np.zeros((0, 0, 0, 0))
            for number, (one, other) in enumerate(pairs):
                for label, name in enumerate(results.labels):
                    own = made[:, :, label, number]
                    mean = nanmean(own, 1)
                    if (~np.isnan(mean)).sum() < self.fewest:
                        continue
                    figures.append(Figure(
                        f"{self.name}/{one}-{other}/{name}/{kind}",
                        f"{words} of {one} and {other} within {name}",
                        mean_interval(mean, SEED),
                        tuple(float(np.nanmean(seed)) for seed in own.T),
                    ))  # fmt: skip
        return figures
