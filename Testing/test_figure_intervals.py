"""Intervals of figures, and the bands that real cases give against real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap as scipy_bootstrap

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.evaluation.figures import FEWEST_CASES
from MedDiffusionLib.evaluation.figures.frechet import (
    frechet_distance,
)
from MedDiffusionLib.evaluation.figures.intervals import (
    bootstrap,
    half_samples,
    mean_interval,
    paired_difference,
)
from MedDiffusionLib.evaluation.figures.kernel import kernel_distance
from MedDiffusionLib.evaluation.figures.neighbours import neighbour_figures
from MedDiffusionLib.evaluation.figures.null import compare_alike, split_halves
from MedDiffusionLib.evaluation.figures.similarity import (
    diversity,
)

Floats = NDArray[np.float64]


def gaussian(seed: int, cases: int, dimensions: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(cases, dimensions))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_gives_the_intervals_of_scipy(method: Any) -> None:
    values = np.random.default_rng(20).gamma(2, size=25)
    interval = bootstrap(values, lambda each: float(each.mean()), 0, 4000, method=method)
    name = {"percentile": "percentile", "bca": "BCa"}[method]
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=9999, method=name)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(theirs.confidence_interval.low, abs=0.08 * width)
    assert interval.high == pytest.approx(theirs.confidence_interval.high, abs=0.08 * width)


def test_intervals_of_means_and_differences_leave_out_what_is_missing() -> None:
    real = np.array([1.0, 2, 3, 4, np.nan, 6])
    interval = paired_difference(real, real + np.array([1, 1, 1, 1, 1, np.nan]), 0)
    assert (interval.estimate, interval.low, interval.high) == (1, 1, 1)
    whole = bootstrap(real[:4], lambda each: float(each.mean()), 5)
    assert mean_interval(np.append(real[:4], np.nan), 5) == whole
    missing = bootstrap(real, lambda each: float(each.mean()), 5)
    assert np.isnan([missing.estimate, missing.low, missing.high]).all()


def test_half_samples_vary_as_figures_of_new_cases_do() -> None:
    def difference(one: Floats, other: Floats) -> float:
        return float(other.mean() - one.mean())

    real, synthetic = gaussian(21, 60, 1), gaussian(22, 40, 1) + 1
    interval = half_samples(real, synthetic, difference, 0, 2000)
    error = np.sqrt(real.var(ddof=1) / 60 + synthetic.var(ddof=1) / 40)
    assert interval.estimate == pytest.approx(difference(real, synthetic))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    paired = half_samples(real, real + 1, difference, 0, 50, paired=True)
    assert paired.high - paired.low == pytest.approx(0, abs=1e-9)


BANDS: dict[str, Callable[[Floats, Floats], float]] = {
    "frechet": frechet_distance,
    "kernel": kernel_distance,
    "precision": lambda a, b: neighbour_figures(a, b).precision,
    "density": lambda a, b: neighbour_figures(a, b).density,
    "coverage": lambda a, b: neighbour_figures(a, b).coverage,
}


@pytest.mark.parametrize("name", BANDS)
def test_halves_of_real_cases_lie_in_the_band(name: str) -> None:
    features = gaussian(23, 40, 5)
    band = split_halves(features, BANDS[name], seed=0)
    again = split_halves(features, BANDS[name], 200, seed=1)
    assert np.mean([band.contains(value) for value in again.values]) >= 0.93
    assert band.low <= band.median <= band.high
    assert band.sizes == (20, 20)


def test_a_set_that_differs_leaves_the_band_at_the_same_sizes() -> None:
    features = gaussian(24, 40, 5)
    band = split_halves(features, frechet_distance, 200)
    alike = compare_alike(features, gaussian(25, 40, 5), frechet_distance, band, 50)
    apart = compare_alike(features, gaussian(25, 40, 5) + 1.5, frechet_distance, band, 50)
    assert band.contains(float(np.median(alike)))
    assert not band.contains(float(np.median(apart)))


def test_paired_parts_have_no_patient_in_common() -> None:
    patients = np.arange(21)
    seen: list[int] = []

    def count(one: NDArray[Any], other: NDArray[Any]) -> float:
        seen.extend((len(one), len(other)))
        return float(len(set(one.tolist()) & set(other.tolist())))

    band = split_halves(patients, count, 20)
    assert band.values.max() == 0
    assert compare_alike(patients, patients, count, band, 20, paired=True).max() == 0
    assert set(seen) == {10}


@pytest.mark.parametrize("name", FEWEST_CASES)
def test_so_many_cases_are_needed_for_a_band_and_no_more(name: str) -> None:
    figures: dict[str, Callable[[Floats, Floats], float]] = {
        "frechet": frechet_distance,
        "kernel": kernel_distance,
        "neighbours": lambda a, b: neighbour_figures(a, b).coverage,
        "diversity": lambda a, b: diversity(list(a)) - diversity(list(b)),
    }
    items = np.random.default_rng(29).uniform(-1, 1, (FEWEST_CASES[name], 4, 4, 4))
    items = items if name == "diversity" else items.reshape(len(items), -1)
    assert np.isfinite(split_halves(items, figures[name], 3).values).all()
    with pytest.raises(UserError, match="needs at least"):
        split_halves(items[1:], figures[name], 3)


def test_items_of_a_band_may_be_any_sequence() -> None:
    band = split_halves(["a", "b", "c"], lambda a, b: float(len(a[0] + b[0])), 5, sizes=(1, 1))
    assert band.values.tolist() == [2.0] * 5


def test_figures_are_the_same_again() -> None:
    real, synthetic = gaussian(26, 12, 3), gaussian(27, 12, 3)
    assert half_samples(real, synthetic, kernel_distance, 4, 20) == half_samples(
        real, synthetic, kernel_distance, 4, 20
    )
    one, other = (split_halves(real, kernel_distance, 20, seed=2).values for _ in range(2))
    assert np.array_equal(one, other)
