"""Distributions of features: are synthetic volumes spread as real ones, by several extractors?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cases import Pair
from ..figure import Figure, within
from ..figures import FEWEST_CASES
from ..figures.checks import Floats
from ..figures.frechet import fit_dimensions, frechet_distance, project
from ..figures.intervals import Interval
from ..figures.kernel import kernel_distance
from ..figures.neighbours import NeighbourFigures, neighbour_figures
from ..figures.null import compare_alike, split_halves
from ..json_arrays import listed
from ..results import Results
from .base import SEED, Subject, Tools, too_few

NEIGHBOURS = 5
_SPLITS, _PARTS = 400, 100
Compare = Callable[[Floats, Floats], float]


class Distribution(Subject):
    """Fréchet and kernel distance, precision, recall, density, coverage, of each extractor."""

    name: ClassVar[str] = "distribution"
    title: ClassVar[str] = "Distribution of features"
    meaning: ClassVar[str] = (
        "Half of the real cases against synthetic volumes of the other half's label maps, many "
        "times; beside it half against half of the real ones, so that both have the same bias. "
        "Kernel distance first: 0 is one distribution. Fréchet distance in as many dimensions as "
        "the cases allow. Precision: synthetic volumes like real ones; recall: real ones that "
        "synthetic ones are like; density and coverage the same, less moved by single cases. "
        "Figures of different extractors do not compare, nor do published ones."
    )
    fewest: ClassVar[int] = min(FEWEST_CASES["frechet"], FEWEST_CASES["kernel"])
    needs_segmenters: ClassVar[bool] = True

    def of_volume(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        return {
            "features": {
                extractor.name: listed(extractor.features(image, pair.valid))
                for extractor in tools.extractors
            }
        }

    def missing(self, patients: int) -> list[str]:
        needed = FEWEST_CASES["neighbours"]
        if self.fewest <= patients < needed:
            return [too_few("Precision, recall, density and coverage", needed, patients)]
        return super().missing(patients)

    def figures(self, results: Results) -> list[Figure]:
        figures = []
        for extractor in results.extractors:
            real = results.real("features", extractor)
            made = results.synthetic("features", extractor)
            for words, compare in _comparisons(real).items():
                figures.append(
                    _figure(f"{self.name}/{extractor}/{words}", words, real, made, compare)
                )
        return figures


def _comparisons(real: Floats) -> dict[str, Compare]:
    """The figures between two sets of feature vectors, all scaled by the real cases."""
    half = len(real) // 2
    dimensions = fit_dimensions(half, half).count

    def frechet(one: Floats, other: Floats) -> float:
        first, second = project(real, one, other, dimensions=dimensions)
        return frechet_distance(first, second)

    known: dict[bytes, NeighbourFigures] = {}

    def of_neighbours(name: str) -> Compare:
        def compare(one: Floats, other: Floats) -> float:
            # All four are asked of the same parts, since these are drawn by the same seed.
            key = hashlib.sha256(one.tobytes() + other.tobytes()).digest()
            if key not in known:
                known[key] = neighbour_figures(one, other, NEIGHBOURS, real)
            return float(getattr(known[key], name))

        return compare

    found: dict[str, Compare] = {
        "kernel distance": lambda one, other: kernel_distance(one, other, real),
        f"Fréchet distance in {dimensions} dimensions": frechet,
    }
    if len(real) >= FEWEST_CASES["neighbours"]:
        names = ("precision", "recall", "density", "coverage")
        found |= {name: of_neighbours(name) for name in names}
    return found


def _figure(name: str, words: str, real: Floats, made: Floats, compare: Compare) -> Figure:
    """Of features ``[n, d]`` and ``[n, S, d]``."""
    band = split_halves(real, compare, _SPLITS, SEED)
    seeds = [
        compare_alike(real, made[:, seed], compare, band, _PARTS, SEED, paired=True)
        for seed in range(made.shape[1])
    ]
    drawn = np.concatenate(seeds)
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = Interval(float(drawn.mean()), float(low), float(high))
    row = Interval(band.median, band.low, band.high)
    return Figure(
        name,
        f"{words.capitalize()} of {band.sizes[0]} real and {band.sizes[1]} synthetic cases; beside "
        "it that of as many real ones each",
        value,
        tuple(float(seed.mean()) for seed in seeds),
        row,
        within(value, row),
    )
