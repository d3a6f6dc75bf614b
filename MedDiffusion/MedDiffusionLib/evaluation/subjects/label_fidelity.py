"""Label fidelity: do segmenters that never saw synthetic volumes find the label map in them?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cases import Pair
from ..figure import AS_REAL, DIFFERS, INCONCLUSIVE, TOO_EASY, Figure
from ..figures.checks import Floats
from ..figures.dice import dice_per_label
from ..figures.intervals import Interval, mean_interval, paired_difference
from ..figures.null import split_halves
from ..json_arrays import listed
from ..results import Results
from .base import SEED, Subject, Tools

MARGIN = 0.02
"""A difference of Dice that is none."""
POOR = 0.5
"""Dice of real volumes below which a segmenter is no judge."""
ALL = "all labels"
_CLEAR = 3
"""Cases that have a label, from which on it has figures of its own."""


class LabelFidelity(Subject):
    """Dice of each label and segmenter, real and synthetic, and the difference."""

    name: ClassVar[str] = "label-fidelity"
    title: ClassVar[str] = "Label fidelity"
    meaning: ClassVar[str] = (
        "Segmenters that were trained on the real training cases alone look for the label map in "
        "each volume; Dice is 1 where they find just that. The difference, synthetic - real, is "
        f"as real within {MARGIN:g}. Far above real is no merit: such volumes are too easy to "
        "segment, as a drawing is. Two segmenters of different make must agree."
    )
    needs_segmenters: ClassVar[bool] = True

    def of_volume(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        count = len(tools.synthesizer.model.labels)
        dice = {}
        for segmenter in tools.segmenters:
            found = segmenter.segment(image)
            each = dice_per_label(found, pair.labels, pair.valid, count)
            # What nobody drew may be there all the same.
            dice[segmenter.name] = listed(np.where(pair.annotated, each, np.nan))
        return {"dice": dice}

    def figures(self, results: Results) -> list[Figure]:
        figures = []
        for segmenter in results.segmenters:
            real = results.real("dice", segmenter)
            made = results.synthetic("dice", segmenter)
            figures += self._of_label(segmenter, ALL, nanmean(real, -1), nanmean(made, -1))
            for number, label in enumerate(results.labels):
                own, other = real[:, number], made[:, :, number]
                if (~np.isnan(own)).sum() >= _CLEAR:
                    figures += self._of_label(segmenter, label, own, other)
        return figures

    def _of_label(self, segmenter: str, label: str, real: Floats, made: Floats) -> list[Figure]:
        """Of real Dice ``[P]`` and synthetic ``[P, S]``."""
        name = f"{self.name}/{segmenter}/{label}"
        mean = nanmean(made, 1)
        difference = paired_difference(real, mean, SEED)
        seeds = made.T
        return [
            Figure(
                name, f"Dice of {label} by {segmenter}, beside that of the real volumes",
                mean_interval(mean, SEED), tuple(float(np.nanmean(seed)) for seed in seeds),
                mean_interval(real, SEED),
            ),
            Figure(
                f"{name}/difference",
                f"Dice of {label} by {segmenter}, synthetic - real; beside it one half of the real "
                "volumes - the other",
                difference, tuple(float(np.nanmean(seed - real)) for seed in seeds),
                _between_halves(real), verdict(difference, float(np.nanmean(real))),
            ),
        ]  # fmt: skip


def _between_halves(real: Floats) -> Interval | None:
    """The difference of mean Dice of two halves of the real volumes; None of fewer than four."""
    known = real[~np.isnan(real)]
    if len(known) < 4:
        return None
    band = split_halves(known[:, None], lambda one, other: float(one.mean() - other.mean()))
    return Interval(band.median, band.low, band.high)


def verdict(difference: Interval, real: float) -> str:
    """The verdict on a difference of Dice, synthetic - real, by a judge whose Dice of real volumes
    is ``real``: one that finds nothing there is none."""
    if real < POOR:
        return INCONCLUSIVE
    if difference.low > 0 and difference.estimate > MARGIN:
        return TOO_EASY
    if difference.high < -MARGIN:
        return DIFFERS
    if difference.low >= -MARGIN and difference.high <= MARGIN:
        return AS_REAL
    return INCONCLUSIVE


def nanmean(values: Floats, axis: int) -> Floats:
    """The mean without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean
