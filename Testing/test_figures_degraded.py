"""Every figure goes one way, step by step, while volumes get worse in a way it is there to see.

Blur, grain, volumes of shifted or of other cases' label maps, and a model that makes one volume
ever more often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from figure_factory import LABELS, Case, blurred, cases, grainy, segmented, shifted, volume
from MedDiffusionLib.evaluation.features import EXTRACTORS
from MedDiffusionLib.evaluation.figures.dice import dice_per_label
from MedDiffusionLib.evaluation.figures.frechet import fit_dimensions, frechet_distance, project
from MedDiffusionLib.evaluation.figures.intensities import intensity_distances
from MedDiffusionLib.evaluation.figures.kernel import kernel_distance
from MedDiffusionLib.evaluation.figures.neighbours import NeighbourFigures, neighbour_figures
from MedDiffusionLib.evaluation.figures.noise import (
    high_frequency_ratio,
    noise_parts,
    noise_power,
)
from MedDiffusionLib.evaluation.figures.relations import contrast_relations
from MedDiffusionLib.evaluation.figures.similarity import diversity, ms_ssim

Floats = NDArray[np.float64]
Volume = NDArray[np.float32]

PATIENTS = 24
OTHER_TEXTURE = 500
STEPS = {
    ("gray-levels", "blur"): (0, 0.38, 0.42, 0.46, 0.5),
    ("gray-levels", "grain"): (0, 0.02, 0.03, 0.05, 0.08),
    ("random-network", "blur"): (0, 0.5, 0.6, 0.7, 0.9),
    ("random-network", "grain"): (0, 0.07, 0.09, 0.11, 0.13),
}
"""In voxels, and in units of intensity: fine enough that shares do not reach 0 early."""


def direction(values: Sequence[float] | Floats) -> float:
    """Spearman's correlation with the step: 1 or -1 where no step goes back or stays."""
    assert not np.isnan(values).any()
    return round(float(spearmanr(range(len(values)), values).statistic), 12)


def degraded(image: Volume, how: str, step: float, seed: int) -> Volume:
    if step == 0:
        return image
    return blurred(image, step) if how == "blur" else grainy(image, step, seed)


# ---- figures of sets of features


class Sets:
    """Features of real cases, and of synthetic ones at each step."""

    def __init__(self, extractor: str) -> None:
        self._extract = EXTRACTORS[extractor]().features
        self.real = self._features([case.image for case in cases(PATIENTS)])
        synthetic = [case.image for case in cases(PATIENTS, OTHER_TEXTURE)]
        self.good = self._features(synthetic)
        self.worse = {
            how: [
                self._features([degraded(x, how, step, n) for n, x in enumerate(synthetic)])
                for step in STEPS[extractor, how]
            ]
            for how in ("blur", "grain")
        }

    def _features(self, images: Sequence[Volume]) -> Floats:
        valid = np.ones(images[0].shape[1:], bool)
        return np.stack([self._extract(image, valid) for image in images])

    def collapsed(self, share: float) -> list[Floats]:
        """Sets with a share of copies of one case, of each case in turn."""
        sets = []
        for mode in range(PATIENTS):
            features = self.good.copy()
            features[(mode + np.arange(round(share * PATIENTS))) % PATIENTS] = self.good[mode]
            sets.append(features)
        return sets


@pytest.fixture(scope="module", params=["gray-levels", "random-network"])
def sets(request: pytest.FixtureRequest) -> Sets:
    return Sets(request.param)


def frechet(real: Floats, synthetic: Floats) -> float:
    dimensions = fit_dimensions(len(real), len(synthetic)).count
    return frechet_distance(*project(real, real, synthetic, dimensions=dimensions))


@pytest.mark.parametrize("figure", [frechet, kernel_distance])
@pytest.mark.parametrize("how", ["blur", "grain"])
def test_distances_rise_with_blur_and_grain(
    sets: Sets, how: str, figure: Callable[[Floats, Floats], float]
) -> None:
    assert direction([figure(sets.real, worse) for worse in sets.worse[how]]) == 1


@pytest.mark.parametrize("figure", [frechet, kernel_distance])
def test_distances_rise_with_the_share_of_copies_of_one_volume(
    sets: Sets, figure: Callable[[Floats, Floats], float]
) -> None:
    found = [
        float(np.mean([figure(sets.real, worse) for worse in sets.collapsed(share)]))
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert direction(found) == 1


def nearest(sets: Sets, synthetic: Floats) -> NeighbourFigures:
    return neighbour_figures(sets.real, synthetic, k=1)


@pytest.mark.parametrize("sets", ["random-network"], indirect=True)
@pytest.mark.parametrize("how", ["blur", "grain"])
def test_neighbours_get_fewer_with_blur_and_grain(sets: Sets, how: str) -> None:
    found = [nearest(sets, worse) for worse in sets.worse[how]]
    for name in ("precision", "recall", "density", "coverage"):
        assert direction([getattr(each, name) for each in found]) == -1, name


def test_recall_and_coverage_fall_with_the_share_of_copies_of_one_volume(sets: Sets) -> None:
    found = [
        [nearest(sets, worse) for worse in sets.collapsed(share)]
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    for name in ("recall", "coverage"):
        assert direction([np.mean([getattr(e, name) for e in each]) for each in found]) == -1, name


def test_similarity_of_pairs_rises_with_the_share_of_copies_of_one_volume() -> None:
    images = [case.image[:1] for case in cases(8, OTHER_TEXTURE)]
    found = [diversity([images[0]] * copies + images[copies:]) for copies in (1, 3, 5, 8)]
    assert direction(found) == 1
    assert found[-1] == pytest.approx(1)


# ---- figures of single cases

FIGURES: dict[str, Callable[[Case, Volume], float]] = {
    "similarity": lambda case, made: ms_ssim(case.image, made),
    "dice": lambda case, made: float(
        dice_per_label(segmented(made), case.labels, case.valid, LABELS).mean()
    ),
    "intensities": lambda case, made: float(
        intensity_distances(case.image, made, case.labels, case.valid, LABELS).mean()
    ),
    "relations": lambda case, made: float(
        contrast_relations(case.image, made, case.labels, case.valid, LABELS).distance.mean()
    ),
    "noise": lambda case, made: high_frequency_ratio(
        *(
            noise_power(each[0], noise_parts(case.labels, case.valid), (1, 1, 1))
            for each in (case.image, made)
        )
    ),
}
FEW = 6


def mean_figures(figure: str, real: Sequence[Case], made: Sequence[Volume]) -> float:
    return float(np.mean([FIGURES[figure](*pair) for pair in zip(real, made, strict=True)]))


@pytest.mark.parametrize(
    ("figure", "blur", "grain"),
    [("similarity", -1, -1), ("dice", -1, -1), ("intensities", 1, 1), ("relations", 1, 1),
     ("noise", -1, 1)],
)  # fmt: skip
def test_figures_of_cases_go_one_way_with_blur_and_with_grain(
    figure: str, blur: int, grain: int
) -> None:
    real = cases(FEW)
    for how, expected, steps in (
        ("blur", blur, (0, 0.4, 0.6, 0.8, 1.1)),
        ("grain", grain, (0, 0.05, 0.1, 0.15, 0.2)),
    ):
        found = [
            mean_figures(
                figure, real, [degraded(case.image, how, step, n) for n, case in enumerate(real)]
            )
            for step in steps
        ]
        assert direction(found) == expected, how


def made_of(label_maps: Sequence[NDArray[np.uint8]]) -> list[Volume]:
    return [volume(labels, OTHER_TEXTURE + n) for n, labels in enumerate(label_maps)]


@pytest.mark.parametrize(
    ("figure", "expected"),
    [("similarity", -1), ("dice", -1), ("intensities", 1), ("relations", 1)],
)
def test_figures_of_cases_go_one_way_where_labels_are_shifted_or_of_others(
    figure: str, expected: int
) -> None:
    real = cases(FEW)
    maps = [case.labels for case in real]
    shifts = [made_of([shifted(labels, step) for labels in maps]) for step in range(4)]
    assert direction([mean_figures(figure, real, made) for made in shifts]) == expected
    others = maps[1:] + maps[:1]
    shuffled = [made_of(others[:count] + maps[count:]) for count in (0, 2, 4, 6)]
    assert direction([mean_figures(figure, real, made) for made in shuffled]) == expected
