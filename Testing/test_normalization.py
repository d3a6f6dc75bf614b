"""Intensities: percentiles to -1 and 1, and output ranges back."""

from __future__ import annotations

import numpy as np

from MedDiffusionLib.normalization import from_model_range, to_model_range


def test_the_percentiles_become_the_ends_and_the_rest_is_clipped() -> None:
    scan = np.arange(1001.0)
    scaled = to_model_range(scan, (10, 90))
    assert scaled[100] == -1
    assert scaled[900] == 1
    assert scaled[500] == 0
    assert scaled.min() == -1
    assert scaled.max() == 1


def test_the_result_does_not_depend_on_the_scans_scale() -> None:
    scan = np.random.default_rng(0).normal(size=(5, 6, 7))
    np.testing.assert_allclose(
        to_model_range(scan, (0.5, 99.5)), to_model_range(scan * 1e6 + 5, (0.5, 99.5)), atol=1e-5
    )


def test_a_constant_scan_stays_finite() -> None:
    assert np.isfinite(to_model_range(np.full((3, 3, 3), 7.0), (0.5, 99.5))).all()


def test_the_output_range_is_met_and_kept() -> None:
    model = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(
        from_model_range(model, (-1000, 3000)), [-1000, -1000, 1000, 3000, 3000]
    )
