"""Structural similarity of volumes on several scales, and the diversity of a set by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from .checks import Floats, enough, finite

Singles = NDArray[Any]
"""Of float32."""

_WEIGHTS = (0.0448, 0.2856, 0.3001)
"""Of the finest scales (Wang 2003), before they are divided by their sum."""
_KERNEL, _SIGMA = 11, 1.5
_SMALLEST_KERNEL = 3
_C1, _C2 = 0.01**2, 0.03**2
"""Of intensities in [0, 1]."""


def scales_and_kernel(shape: Sequence[int]) -> tuple[int, int]:
    """How many scales, and a Gaussian window of how many voxels, fit volumes of a shape ``[3]``.

    Three scales and 11 voxels where these fit the volume at the coarsest scale, which has a quarter
    of the voxels along each axis; else the largest odd window, and fewer scales where not even 3
    voxels fit. Values of different settings do not compare. Raises UserError (``too-small``).
    """
    for scales in (3, 2, 1):
        smallest = min(shape) >> (scales - 1)
        if smallest >= _SMALLEST_KERNEL:
            return scales, min(_KERNEL, smallest - 1 + smallest % 2)
    raise UserError(
        f"Structural similarity needs {_SMALLEST_KERNEL} voxels along each axis, and a volume has "
        f"{' x '.join(map(str, shape))}",
        "leave this figure out",
        code="too-small",
    )


def ms_ssim(a: NDArray[Any], b: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> float:
    """Multi-scale structural similarity (Wang 2003) of two volumes; 1 where they are equal.

    ``a``, ``b``: ``[C, X, Y, Z]`` or ``[X, Y, Z]`` in [-1, 1], taken to [0, 1], since luminance is
    compared by ratios; contrasts count alike. ``valid`` ``[X, Y, Z]``: voxels elsewhere are taken
    for air in both, and windows about them do not count. Windows lie within the volume. Scales are
    the finest three of Wang's five, their weights divided by their sum (``scales_and_kernel``);
    below 0 a scale counts 0. Raises ValueError where shapes differ, UserError for values that are
    not finite, and ``too-small``.
    """
    space = a.shape[-3:]
    if a.shape != b.shape or a.ndim not in (3, 4) or (valid is not None and valid.shape != space):
        raise ValueError(f"volumes of shapes {a.shape} and {b.shape}")
    scales, width = scales_and_kernel(space)
    one, other = _unit(a, valid), _unit(b, valid)
    weights = np.array(_WEIGHTS[:scales]) / sum(_WEIGHTS[:scales])
    result = 1.0
    for scale, weight in enumerate(weights):
        if scale > 0:
            one, other = _halved(one), _halved(other)
            valid = None if valid is None else _halved(valid[None].astype(np.float32))[0] == 1
        luminance, structure = _maps(one, other, _windows(one.shape[1:], width))
        shown = structure if scale < scales - 1 else luminance * structure
        result *= max(0.0, _mean(shown, valid, width)) ** float(weight)
    return float(result)


def _unit(image: NDArray[Any], valid: NDArray[np.bool_] | None) -> Singles:
    """``[C, X, Y, Z]`` in [0, 1]; 0 where it is not valid."""
    volume = image.reshape(-1, *image.shape[-3:])
    known = volume if valid is None else np.where(valid, volume, -1.0)
    return (finite(known, "A volume's values").astype(np.float32) + 1) / 2


def _halved(image: Singles) -> Singles:
    """Means of 2 x 2 x 2 voxels; a last odd one is left out."""
    for axis in (1, 2, 3):
        whole = np.moveaxis(image, axis, 0)
        count = len(whole) // 2 * 2
        image = np.moveaxis((whole[:count:2] + whole[1:count:2]) / 2, 0, axis)
    return np.ascontiguousarray(image)


def _windows(shape: Sequence[int], width: int) -> list[Singles]:
    """Per axis of n voxels the Gaussian window at every place, ``[n - width + 1, n]``.

    Multiplying with these is many times faster than filters that walk along lines.
    """
    places = np.arange(width) - width // 2
    window = np.exp(-(places**2) / (2 * _SIGMA**2))
    window /= window.sum()
    matrices = []
    for size in shape:
        matrix = np.zeros((size - width + 1, size), np.float32)
        for offset, weight in enumerate(window):
            np.fill_diagonal(matrix[:, offset:], weight)
        matrices.append(matrix)
    return matrices


def _smooth(image: Singles, windows: list[Singles]) -> Singles:
    x, y, z = windows
    along_z = image @ z.T
    along_y = y @ along_z
    channels, _, *rest = along_y.shape
    return (x @ along_y.reshape(channels, x.shape[1], -1)).reshape(channels, -1, *rest)


def _maps(one: Singles, other: Singles, windows: list[Singles]) -> tuple[Singles, Singles]:
    """Luminance, and contrast times structure (Wang 2004, eq. 6 and 13), where windows fit."""
    mean, other_mean = _smooth(one, windows), _smooth(other, windows)
    product, squares = mean * other_mean, mean**2 + other_mean**2
    covariance = _smooth(one * other, windows) - product
    variances = _smooth(one**2 + other**2, windows) - squares
    luminance = (2 * product + _C1) / (squares + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _mean(shown: Singles, valid: NDArray[np.bool_] | None, width: int) -> float:
    """Over the windows whose centre is valid."""
    if valid is None:
        return float(shown.mean(dtype=np.float64))
    half = width // 2
    inner = valid[tuple(slice(half, size - half) for size in valid.shape)]
    if not inner.any():
        raise UserError(
            "The part of a volume that was scanned is too small for structural similarity",
            "leave this figure out",
            code="too-small",
        )
    return float(shown[:, inner].mean(dtype=np.float64))


def pairs_of(count: int, most: int = 200, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs of different cases: all, or ``most`` of them drawn at random, in ascending order."""
    if math.comb(count, 2) <= most:
        return list(combinations(range(count), 2))
    chosen = np.random.default_rng(seed).choice(math.comb(count, 2), most, replace=False)
    first, second = np.triu_indices(count, 1)
    return [(int(first[each]), int(second[each])) for each in np.sort(chosen)]


def pair_similarities(
    images: Sequence[NDArray[Any]],
    pairs: Sequence[tuple[int, int]],
    valid: Sequence[NDArray[np.bool_]] | None = None,
) -> Floats:
    """``ms_ssim`` of pairs of cases, within what is valid in both, ``[pairs]``.

    ``images`` may read each volume when it is asked for; two are in memory at a time.
    """
    return np.array([
        ms_ssim(images[i], images[j], None if valid is None else valid[i] & valid[j])
        for i, j in pairs
    ])  # fmt: skip


def diversity(
    images: Sequence[NDArray[Any]],
    valid: Sequence[NDArray[np.bool_]] | None = None,
    *,
    most: int = 200,
    seed: int = 0,
) -> float:
    """The mean ``ms_ssim`` of pairs of different cases: **lower is more diverse**.

    Raises what ``ms_ssim`` does, and UserError (code ``too-few-cases``) for fewer than 2.
    """
    enough(len(images), 2, "Diversity")
    return float(pair_similarities(images, pairs_of(len(images), most, seed), valid).mean())
