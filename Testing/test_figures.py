"""Figures of models: closed forms, written-out cases, and what each figure is there to notice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.evaluation.figures.dice import dice_per_label
from MedDiffusionLib.evaluation.figures.frechet import (
    fit_dimensions,
    frechet_bias,
    frechet_distance,
    project,
)
from MedDiffusionLib.evaluation.figures.intensities import (
    intensity_distance,
    intensity_distances,
    label_quantiles,
    quantile_distance,
)
from MedDiffusionLib.evaluation.figures.intervals import (
    half_samples,
    mean_interval,
    paired_difference,
)
from MedDiffusionLib.evaluation.figures.kernel import kernel_distance
from MedDiffusionLib.evaluation.figures.neighbours import expected_coverage, neighbour_figures
from MedDiffusionLib.evaluation.figures.noise import (
    high_frequency_ratio,
    mean_spectrum,
    noise_parts,
    noise_power,
)
from MedDiffusionLib.evaluation.figures.null import split_halves
from MedDiffusionLib.evaluation.figures.relations import contrast_relations
from MedDiffusionLib.evaluation.figures.similarity import (
    diversity,
    ms_ssim,
    pair_similarities,
    pairs_of,
    scales_and_kernel,
)

Floats = NDArray[np.float64]


def gaussian(seed: int, cases: int, dimensions: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(cases, dimensions))


def exact(seed: int, mean: Floats, covariance: Floats) -> Floats:
    """A set of 50 cases with exactly this mean and this covariance (of n - 1)."""
    drawn = gaussian(seed, 50, len(mean))
    drawn -= drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


# ---- Fréchet


@pytest.mark.parametrize("dimensions", [8, 64])
def test_a_set_has_no_distance_from_itself_and_covers_itself(dimensions: int) -> None:
    features = gaussian(0, 40, dimensions)
    assert frechet_distance(features, features.copy()) < 1e-6
    figures = neighbour_figures(features, features.copy())
    assert (figures.precision, figures.recall, figures.coverage) == (1, 1, 1)


def test_frechet_is_the_closed_form_of_gaussians_with_common_axes() -> None:
    axes = np.linalg.qr(gaussian(1, 5, 5))[0]
    one, other = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 0.5, 9, 1])
    means = np.array([0.0, 1, 2, 3, 4]), np.array([1.0, 1, 2, 3, 2])
    expected = 1 + 4 + ((one**0.5 - other**0.5) ** 2).sum()
    sets = [
        exact(seed, mean, axes @ np.diag(variances) @ axes.T)
        for seed, mean, variances in zip((2, 3), means, (one, other), strict=True)
    ]
    assert frechet_distance(*sets) == pytest.approx(expected, abs=1e-6)


def test_frechet_is_the_closed_form_of_gaussians_in_the_plane() -> None:
    # The trace of the root of a 2 x 2 matrix M is sqrt(tr M + 2 sqrt(det M)).
    one, other = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    product = one @ other
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 4 + np.trace(one + other) - 2 * root
    sets = exact(4, np.zeros(2), one), exact(5, np.array([2.0, 0]), other)
    assert frechet_distance(*sets) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("dimensions", "cases", "bias"),
    [(4, 40, 0.4), (8, 40, 1.3), (16, 40, 4.3), (32, 40, 14.7), (32, 100, 6.0), (64, 100, 22),
     (128, 100, 84)],
)  # fmt: skip
def test_frechet_of_equal_gaussians_is_as_far_as_known(
    dimensions: int, cases: int, bias: float
) -> None:
    random = np.random.default_rng(6)
    draws = max(8, 320 // dimensions)
    found = [frechet_distance(*random.normal(size=(2, cases, dimensions))) for _ in range(draws)]
    assert np.mean(found) == pytest.approx(bias, rel=0.15, abs=0.08)
    assert frechet_bias(dimensions, cases, cases) == pytest.approx(bias, rel=0.15, abs=0.08)


def test_forty_cases_allow_eight_dimensions_and_more_cases_more() -> None:
    found = {cases: fit_dimensions(cases, cases) for cases in (2, 10, 40, 100, 1000)}
    assert found[40].count == 8
    assert [each.count for each in found.values()] == sorted(each.count for each in found.values())
    assert all(each.bias <= 1.3 for cases, each in found.items() if cases > 2)
    assert "40 real and 40 synthetic" in found[40].reason


def test_projection_keeps_what_varies_in_the_reference_whatever_its_unit() -> None:
    features = gaussian(7, 60, 3)
    mixed = np.hstack([features, features @ gaussian(8, 3, 5), np.ones((60, 1))])
    (kept,) = project(mixed, mixed * 1.0, dimensions=3)
    (scaled,) = project(mixed * 1000, mixed * 1000, dimensions=3)
    assert np.allclose(np.abs(kept), np.abs(scaled))
    assert kept.shape == (60, 3)
    standard = (mixed[:, :-1] - mixed[:, :-1].mean(0)) / mixed[:, :-1].std(0, ddof=1)
    assert kept.var(0, ddof=1).sum() == pytest.approx(standard.var(0, ddof=1).sum())


# ---- kernel distance and neighbours


def test_kernel_distance_is_the_sum_over_pairs_written_out() -> None:
    real, synthetic = gaussian(9, 4, 3), gaussian(10, 5, 3) + 1
    mean, deviation = real.mean(0), real.std(0, ddof=1)
    one, other = (real - mean) / deviation, (synthetic - mean) / deviation

    def kernel(x: Floats, y: Floats) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = [np.mean([kernel(x, y) for x, y in combinations(each, 2)]) for each in (one, other)]
    across = np.mean([[kernel(x, y) for y in other] for x in one])
    assert kernel_distance(real, synthetic) == pytest.approx(sum(within) - 2 * across)


def test_kernel_distance_of_one_distribution_is_zero_in_the_mean() -> None:
    random = np.random.default_rng(11)
    reference = random.normal(size=(1000, 4))
    pairs = random.normal(size=(400, 2, 15, 4))
    found = np.array([kernel_distance(one, other, reference) for one, other in pairs])
    assert abs(found.mean()) < 3 * found.std() / 20
    assert (found < 0).any()


def test_neighbour_figures_of_points_on_a_line() -> None:
    # Radii by the first neighbour: real 1 1 1 6; synthetic 1.5 1.5 18.5.
    real = np.array([[0.0], [1], [2], [8]])
    synthetic = np.array([[0.5], [-1], [20]])
    found = neighbour_figures(real, synthetic, k=1)
    # 0.5 lies in the balls of 0 and 1, -1 in that of 0, 20 in none.
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx(3 / 3)
    assert found.coverage == pytest.approx(2 / 4)
    # The balls of 0.5 and -1 hold 0, 1 and 2, that of 20 reaches down to 1.5.
    assert found.recall == 1


def test_density_is_one_and_coverage_as_the_lemma_says_for_one_distribution() -> None:
    random = np.random.default_rng(12)
    reference = random.normal(size=(1000, 3))
    found = [
        neighbour_figures(one, other, 3, reference)
        for one, other in random.normal(size=(300, 2, 20, 3))
    ]
    assert np.mean([each.density for each in found]) == pytest.approx(1, abs=0.03)
    expected = expected_coverage(20, 20, 3)
    assert np.mean([each.coverage for each in found]) == pytest.approx(expected, abs=0.01)


# ---- similarity


def written_out(one: Floats, other: Floats, width: int) -> float:
    """MS-SSIM of three scales of volumes in [-1, 1], the moments of each window on their own."""
    place = np.arange(width) - width // 2
    line = np.exp(-(place**2) / 4.5)
    weights = line[:, None, None] * line[:, None] * line
    weights /= weights.sum()
    one, other = (one + 1) / 2, (other + 1) / 2
    result = 1.0
    for scale, power in enumerate(np.array([0.0448, 0.2856, 0.3001]) / 0.6305):
        windows = (sliding_window_view(each, weights.shape) for each in (one, other))
        a, b = (each.reshape(-1, width**3) for each in windows)
        flat = weights.ravel()
        mean_a, mean_b = a @ flat, b @ flat
        away_a, away_b = a - mean_a[:, None], b - mean_b[:, None]
        structure = (2 * (away_a * away_b) @ flat + 0.0009) / (
            (away_a**2) @ flat + (away_b**2) @ flat + 0.0009
        )
        luminance = (2 * mean_a * mean_b + 0.0001) / (mean_a**2 + mean_b**2 + 0.0001)
        result *= np.mean(structure * luminance if scale == 2 else structure) ** power
        x, y, z = (size // 2 for size in one.shape)
        one, other = (
            each[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))
            for each in (one, other)
        )
    return float(result)


def test_similarity_is_that_of_windows_written_out() -> None:
    random = np.random.default_rng(13)
    one = random.uniform(-1, 1, (12, 15, 21))
    other = np.clip(one + random.normal(0, 0.4, one.shape), -1, 1)
    assert scales_and_kernel(one.shape) == (3, 3)
    assert ms_ssim(one, other) == pytest.approx(written_out(one, other, 3), abs=1e-5)
    both = np.stack([one, one]), np.stack([other, other])
    assert ms_ssim(*both) == pytest.approx(ms_ssim(one, other), abs=1e-6)


def test_similarity_does_not_see_what_is_not_valid() -> None:
    random = np.random.default_rng(14)
    one = random.uniform(-1, 1, (1, 16, 16, 16)).astype(np.float32)
    valid = np.zeros((16, 16, 16), bool)
    valid[:12] = True
    other = one.copy()
    other[:, 12:] = np.nan
    assert ms_ssim(one, other, valid) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "fit"),
    [((40, 56, 40), (3, 9)), ((96, 112, 96), (3, 11)), ((16, 60, 60), (3, 3)),
     ((8, 60, 60), (2, 3)), ((3, 60, 60), (1, 3))],
)  # fmt: skip
def test_scales_and_window_fit_the_volume(shape: tuple[int, ...], fit: tuple[int, int]) -> None:
    assert scales_and_kernel(shape) == fit


def test_pairs_are_all_or_so_many_and_always_the_same() -> None:
    assert pairs_of(4) == list(combinations(range(4), 2))
    some = pairs_of(40, 50, seed=3)
    assert len(set(some)) == 50
    assert all(0 <= i < j < 40 for i, j in some)
    assert some == pairs_of(40, 50, seed=3)
    assert some != pairs_of(40, 50, seed=4)


# ---- noise


def white(seed: int, deviation: float = 0.2) -> Floats:
    return np.random.default_rng(seed).normal(0, deviation, (32, 32, 32))


def test_white_noise_has_its_variance_per_voxel_volume_at_all_frequencies() -> None:
    spacing = (1.0, 1.0, 2.0)
    thin = np.zeros((32, 32, 32), np.uint8)
    for start in range(0, 32, 6):
        thin[start : start + 5] = start + 1
    blocks = noise_power(white(15), np.ones((32, 32, 32), bool), spacing)
    voxels = noise_power(white(15), thin, spacing)
    assert (blocks.method, voxels.method) == ("blocks", "voxels")
    assert blocks.high == pytest.approx(0.04 * 2, rel=0.03)
    assert voxels.high == pytest.approx(0.04 * 2, rel=0.03)
    # The lowest bins have lost the plane of best fit.
    assert blocks.power[2:] == pytest.approx(0.04 * 2, rel=0.1)


def test_a_wave_is_found_at_its_part_of_nyquists_frequency() -> None:
    wave = np.cos(np.pi * 0.75 * np.arange(32))[:, None, None] + np.zeros((32, 32, 32))
    spectrum = noise_power(wave, np.ones(wave.shape, bool), (1, 1, 1))
    peak = spectrum.frequencies[spectrum.power.argmax()]
    assert peak == pytest.approx(0.75, abs=0.11)
    assert spectrum.high > 10 * spectrum.power[0]


def test_power_is_of_parts_alone_and_edges_between_labels_do_not_count() -> None:
    parts = np.ones((32, 32, 32), np.uint8)
    parts[16:] = 2
    parts[:, :, 30:] = 0
    image = white(16) + 5.0 * (parts == 2)
    image[parts == 0] = np.nan
    whole = noise_power(image, parts, (1, 1, 1))
    assert whole.high == pytest.approx(0.04, rel=0.03)


def test_without_labels_noise_is_looked_for_in_all_that_is_valid() -> None:
    valid = np.ones((32, 32, 32), bool)
    valid[:4] = False
    assert np.array_equal(noise_parts(np.zeros(valid.shape, np.uint8), valid), valid)
    labels = np.zeros(valid.shape, np.uint8)
    labels[2:12, :10, :10] = 3
    assert np.array_equal(noise_parts(labels, valid), np.where(valid, labels, 0))


def test_spectra_of_cases_are_averaged_where_there_are_some() -> None:
    mask = np.ones((32, 32, 32), bool)
    one, other = (noise_power(white(17, d), mask, (1, 1, 1)) for d in (0.1, 0.3))
    both = mean_spectrum([one, other])
    assert both is not None
    assert both.high == pytest.approx((one.high + other.high) / 2)
    assert high_frequency_ratio(one, other) == pytest.approx(9)
    assert mean_spectrum([]) is None


# ---- intensities and relations


def test_intensity_distance_is_wassersteins_over_the_real_interquartile_range() -> None:
    real = np.arange(101.0)
    assert intensity_distance(real, real + 25) == pytest.approx(0.5)
    random = np.random.default_rng(18)
    one, other = random.normal(size=3000), random.gamma(2, size=2000)
    iqr = np.subtract(*np.percentile(one, [75, 25]))
    expected = wasserstein_distance(one, other) / iqr
    assert intensity_distance(one, other) == pytest.approx(expected)
    labels = np.ones((2000, 1, 1), np.uint8)
    quantiles = [
        label_quantiles(each[None, :2000, None, None], labels, labels > 0, 1)
        for each in (one, other)
    ]
    expected = intensity_distance(one[:2000], other)
    assert quantile_distance(*quantiles) == pytest.approx(expected, rel=0.03)


def test_labels_without_voxels_or_spread_have_no_distance() -> None:
    labels = np.array([0, 1, 1, 1, 1, 2, 2, 2], np.uint8).reshape(2, 2, 2)
    real = np.array([0, 1, 2, 3, 4, 7, 7, 7], np.float32).reshape(1, 2, 2, 2)
    found = intensity_distances(real, real + 3, labels, np.ones((2, 2, 2), bool), 3)
    assert found[0, 0] == pytest.approx(2)
    assert np.isnan(found[0, 1:]).all()


def test_relations_see_what_single_contrasts_do_not() -> None:
    random = np.random.default_rng(19)
    labels = np.ones((10, 10, 10), np.uint8)
    labels[5:] = 2
    first = random.normal(size=labels.shape)
    real = np.stack([first, first]).astype(np.float32)
    apart = np.stack([first, random.permutation(first.reshape(2, -1), axis=1).reshape(first.shape)])
    found = contrast_relations(real, apart.astype(np.float32), labels, labels > 0, 2)
    assert found.pairs == ((0, 1),)
    assert found.real == pytest.approx(1)
    assert np.abs(found.synthetic).max() < 0.2
    assert found.distance.min() > 0.1
    same = contrast_relations(real, real, labels, labels > 0, 2)
    assert same.distance == pytest.approx(0)
    assert contrast_relations(real[:1], real[:1], labels, labels > 0, 2).real.shape == (2, 0)


def test_dice_counts_valid_voxels_and_knows_when_a_label_is_nowhere() -> None:
    labels = np.array([1, 1, 1, 2, 2, 0, 1, 1]).reshape(2, 2, 2)
    found = np.array([1, 1, 2, 2, 2, 0, 0, 0]).reshape(2, 2, 2)
    valid = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool).reshape(2, 2, 2)
    dice = dice_per_label(found, labels, valid, 3)
    assert dice[:2] == pytest.approx([4 / 5, 4 / 5])
    assert np.isnan(dice[2])


# ---- bad data

NAN = np.full((12, 3), np.nan)
CONSTANT = np.ones((12, 3))
GOOD = gaussian(28, 12, 3)
BOX = np.ones((16, 16, 16), bool)
ZERO = np.zeros((1, 16, 16, 16), np.float32)
TWO = np.zeros((2, 16, 16, 16), np.float32)


@pytest.mark.parametrize(
    ("figure", "code", "said"),
    [
        (lambda: frechet_distance(GOOD, GOOD[:1]), "too-few-cases", "at least 2 cases"),
        (lambda: kernel_distance(GOOD[:1], GOOD), "too-few-cases", "at least 2 cases"),
        (lambda: neighbour_figures(GOOD[:5], GOOD), "too-few-cases", "at least 6 cases"),
        (lambda: diversity([ZERO]), "too-few-cases", "at least 2 cases"),
        (lambda: mean_interval(np.array([1, np.nan]), 0), "too-few-cases", "at least 2 cases"),
        (lambda: half_samples(GOOD[:3], GOOD, kernel_distance, 0), "too-few-cases", "4 cases"),
        (
            lambda: split_halves(GOOD, kernel_distance, sizes=(8, 8)),
            "too-few-cases",
            "at least 16 cases",
        ),
        (lambda: frechet_distance(GOOD, NAN), "not-finite", "not finite"),
        (lambda: kernel_distance(NAN, GOOD), "not-finite", "not finite"),
        (lambda: neighbour_figures(GOOD, NAN), "not-finite", "not finite"),
        (lambda: project(NAN, dimensions=2), "not-finite", "not finite"),
        (lambda: kernel_distance(CONSTANT, GOOD), "constant", "same features"),
        (lambda: neighbour_figures(CONSTANT, GOOD), "constant", "same features"),
        (lambda: project(CONSTANT, dimensions=2), "constant", "same features"),
        (lambda: ms_ssim(ZERO, ZERO * np.nan), "not-finite", "not finite"),
        (lambda: ms_ssim(ZERO, ZERO, ~BOX), "too-small", "too small"),
        (lambda: ms_ssim(ZERO[:, :2], ZERO[:, :2]), "too-small", "3 voxels along each axis"),
        (lambda: noise_power(ZERO[0] * np.nan, BOX, (1, 1, 1)), "not-finite", "not finite"),
        (lambda: noise_power(ZERO[0], ~BOX, (1, 1, 1)), "too-small", "there are 0"),
        (
            lambda: high_frequency_ratio(*[noise_power(ZERO[0] + 0.7, BOX, (1, 1, 1))] * 2),
            "constant",
            "constant",
        ),
        (lambda: intensity_distance(NAN[0], GOOD[0]), "not-finite", "not finite"),
        (lambda: intensity_distance(CONSTANT[0], GOOD[0]), "constant", "the same"),
        (lambda: intensity_distance(GOOD[0], GOOD[0][:0]), "too-few-values", "no values"),
        (
            lambda: intensity_distances(ZERO, ZERO * np.nan, BOX.astype(int), BOX, 1),
            "not-finite",
            "not finite",
        ),
        (
            lambda: contrast_relations(TWO, TWO * np.nan, BOX, BOX, 1),
            "not-finite",
            "not finite",
        ),
    ],
)
def test_bad_data_give_a_sentence(figure: Callable[[], Any], code: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        figure()
    assert caught.value.code == code
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "figure",
    [
        lambda: frechet_distance(GOOD, GOOD[:, :2]),
        lambda: kernel_distance(GOOD, GOOD[0]),
        lambda: dice_per_label(BOX, BOX, BOX[:2], 1),
        lambda: dice_per_label(2 * BOX, BOX, BOX, 1),
        lambda: ms_ssim(ZERO, ZERO[:, 1:]),
        lambda: ms_ssim(ZERO, ZERO, BOX[1:]),
        lambda: noise_power(ZERO[0], BOX[1:], (1, 1, 1)),
        lambda: intensity_distances(ZERO, ZERO, BOX[1:], BOX, 1),
        lambda: contrast_relations(ZERO, ZERO, BOX[1:], BOX, 1),
        lambda: paired_difference(GOOD[0], GOOD[0, :2], 0),
        lambda: half_samples(GOOD, GOOD[1:], kernel_distance, 0, paired=True),
        lambda: pair_similarities([ZERO, ZERO[:, 1:]], [(0, 1)]),
    ],
)
def test_shapes_that_do_not_fit_are_the_callers_mistake(figure: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        figure()
