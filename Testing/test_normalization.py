"""Intensities: percentiles to -1 and 1, and output ranges back."""

from __future__ import annotations

import numpy as np

from MedDiffusionLib.volumes.normalization import Intensity, from_model_range, to_model_range


def test_the_percentiles_become_the_ends_and_the_rest_is_clipped() -> None:
    scan = np.arange(1001.0)
    scaled = to_model_range(scan, Intensity((10, 90)).limits(scan))
    assert scaled[100] == -1
    assert scaled[900] == 1
    assert scaled[500] == 0
    assert scaled.min() == -1
    assert scaled.max() == 1


def test_the_result_does_not_depend_on_the_scans_scale() -> None:
    scan = np.random.default_rng(0).normal(size=(5, 6, 7))
    first, second = (
        to_model_range(s, Intensity((0.5, 99.5)).limits(s)) for s in (scan, scan * 1e6 + 5)
    )
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_constant_scan_stays_finite() -> None:
    assert np.isfinite(to_model_range(np.full((3, 3, 3), 7.0), (7.0, 7.0))).all()


def test_a_window_is_the_channels_own_whatever_the_scan_holds() -> None:
    intensity = Intensity(window=((-1000, 1000), (0, 80)))
    scan = np.array([-2000.0, -1000, 0, 40, 80, 3000])
    bone = to_model_range(scan, intensity.limits(scan, 0))
    brain = to_model_range(scan, intensity.limits(scan, 1))
    np.testing.assert_allclose(bone, [-1, -1, 0, 0.04, 0.08, 1], atol=1e-6)
    np.testing.assert_allclose(brain, [-1, -1, -1, 0, 1, 1], atol=1e-6)


def test_the_output_range_is_met_and_kept() -> None:
    model = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(
        from_model_range(model, (-1000, 3000)), [-1000, -1000, 1000, 3000, 3000]
    )
