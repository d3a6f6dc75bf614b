"""The power spectrum of parts that should be homogeneous: is a volume too smooth, or too grainy?

Label fidelity does not see either. Parts are labels, so that real and synthetic volumes of one
label map are looked at in the same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, maximum_filter, minimum_filter

from ...compute.errors import UserError
from .checks import Floats, finite

HIGH = 0.5
"""From which part of Nyquist's frequency on power is of high frequency."""
BLOCK = 8
"""Voxels of a block along each axis."""
_STEP = BLOCK // 2
_FEWEST_BLOCKS, _MOST_BLOCKS = 8, 2000
_FEWEST_VOXELS = 50
_BINS = 8
"""Of the spectrum, up to Nyquist's frequency of all axes at once, which is sqrt(3)."""
_LEAST_POWER = 1e-12
"""Below this is rounding of intensities of some 1."""
_BINOMIAL = (0.25, 0.5, 0.25)


@dataclass(frozen=True, eq=False)
class PowerSpectrum:
    """Power by frequency, mean over the blocks of a volume or over several volumes."""

    frequencies: Floats
    """``[F]``, parts of Nyquist's frequency: the root of the sum of squares over the axes."""
    power: Floats
    """``[F]``, squared intensity times mm^3."""
    high: float
    """The mean power above ``HIGH``, in the same unit."""
    count: int
    """Blocks, or voxels, that were looked at."""
    method: Literal["blocks", "voxels"]


def noise_parts(labels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """The parts ``noise_power`` looks at: labels within ``valid``; where these have no inner voxels
    (there are none, or all are thin) all that is valid as one part."""
    parts = np.where(valid, labels, 0)
    return parts if np.count_nonzero(_inner(parts)) >= _FEWEST_VOXELS else valid.astype(np.uint8)


def noise_power(image: NDArray[Any], mask: NDArray[Any], spacing: Sequence[float]) -> PowerSpectrum:
    """The power spectrum of one contrast ``[X, Y, Z]`` within parts of it.

    ``mask`` ``[X, Y, Z]``: numbers of parts, 0 where nothing is looked at (a bool mask is one
    part); see ``noise_parts``. ``spacing`` in mm. Blocks of 8 voxels that lie within one part lose
    their plane of best fit, are multiplied with Hann's window and transformed. Where fewer than 8
    fit, high-frequency power is found at voxels whose 27 neighbours are of one part, by what a
    binomial filter takes away, on the same scale: white noise gives the same by both; there is no
    spectrum then. Which way depends on the mask alone.

    Raises ValueError where shapes differ, UserError (``not-finite``; ``too-small`` where fewer than
    50 voxels are left).
    """
    if image.shape != mask.shape or image.ndim != 3:
        raise ValueError(f"a volume of shape {image.shape} and a mask of {mask.shape}")
    image = np.asarray(image, np.float64)
    parts = mask.astype(np.uint8) if mask.dtype == bool else mask
    finite(image[parts > 0], "A volume's values")
    volume = math.prod(float(size) for size in spacing)
    corners = _block_corners(parts)
    if len(corners) >= _FEWEST_BLOCKS:
        return _of_blocks(image, corners, volume)
    inner = _inner(parts)
    count = int(np.count_nonzero(inner))
    if count < _FEWEST_VOXELS:
        raise UserError(
            f"Noise power needs {_FEWEST_VOXELS} voxels within a label, and there are {count}",
            "leave this figure out",
            code="too-small",
        )
    high = float(np.square(_without_binomial(np.where(parts > 0, image, 0.0))[inner]).mean())
    high *= volume / _white_gain()
    return PowerSpectrum(np.zeros(0), np.zeros(0), high, count, "voxels")


def high_frequency_ratio(real: PowerSpectrum, synthetic: PowerSpectrum) -> float:
    """High-frequency power, synthetic over real: 1 is as real, below is smoother, above grainier.

    Raises ValueError where they were found in different ways, UserError (code ``constant``) where
    the real one has no power.
    """
    if real.method != synthetic.method:
        raise ValueError("spectra that were found in different ways")
    if real.high <= _LEAST_POWER:
        raise UserError(
            "A real volume is constant within its labels",
            "leave this case out",
            code="constant",
        )
    return synthetic.high / real.high


def mean_spectrum(spectra: Sequence[PowerSpectrum]) -> PowerSpectrum | None:
    """The mean over volumes of those found in blocks, each counted once; None without any."""
    own = [each for each in spectra if each.method == "blocks"]
    if not own:
        return None
    return PowerSpectrum(
        own[0].frequencies,
        np.mean([each.power for each in own], 0),
        float(np.mean([each.high for each in own])),
        sum(each.count for each in own),
        "blocks",
    )


def _block_corners(parts: NDArray[Any]) -> NDArray[np.intp]:
    """The first voxels of blocks within one part, ``[N, 3]``, by half blocks apart."""
    cells = [size // _STEP for size in parts.shape]
    if min(cells) < 2:
        return np.zeros((0, 3), np.intp)
    cropped = parts[tuple(slice(n * _STEP) for n in cells)]
    cut = cropped.reshape([size for n in cells for size in (n, _STEP)])
    low = sliding_window_view(cut.min((1, 3, 5)), (2, 2, 2)).min((3, 4, 5))
    high = sliding_window_view(cut.max((1, 3, 5)), (2, 2, 2)).max((3, 4, 5))
    corners = np.argwhere((low == high) & (low > 0)) * _STEP
    some = np.linspace(0, len(corners) - 1, min(len(corners), _MOST_BLOCKS)).astype(np.intp)
    return corners[some]


def _of_blocks(image: Floats, corners: NDArray[np.intp], volume: float) -> PowerSpectrum:
    windows = sliding_window_view(image, (BLOCK, BLOCK, BLOCK))
    blocks = windows[tuple(corners.T)].reshape(len(corners), -1)
    place = np.arange(BLOCK) - (BLOCK - 1) / 2
    planes = [np.ones((BLOCK,) * 3), *np.meshgrid(place, place, place, indexing="ij")]
    basis = np.stack([plane.ravel() / np.linalg.norm(plane) for plane in planes], 1)
    blocks = blocks - (blocks @ basis) @ basis.T
    hann = np.hanning(BLOCK + 2)[1:-1]
    window = hann[:, None, None] * hann[:, None] * hann
    transformed = np.fft.fftn(blocks.reshape(-1, *window.shape) * window, axes=(1, 2, 3))
    power = np.square(np.abs(transformed)).mean(0) * volume / np.square(window).sum()
    part = np.abs(np.fft.fftfreq(BLOCK)) * 2
    frequency = np.sqrt(part[:, None, None] ** 2 + part[:, None] ** 2 + part**2)
    bins = np.minimum((frequency / math.sqrt(3) * _BINS).astype(np.intp), _BINS - 1).ravel()
    counts = np.bincount(bins, minlength=_BINS)
    return PowerSpectrum(
        np.bincount(bins, frequency.ravel(), _BINS) / counts,
        np.bincount(bins, power.ravel(), _BINS) / counts,
        float(power[frequency >= HIGH].mean()),
        len(corners),
        "blocks",
    )


def _inner(parts: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels whose 27 neighbours, within the volume, are of one part."""
    low = minimum_filter(parts, 3, mode="constant", cval=0)
    return (low > 0) & (low == maximum_filter(parts, 3, mode="constant", cval=0))


def _without_binomial(image: Floats) -> Floats:
    smooth = image
    for axis in range(3):
        smooth = correlate1d(smooth, _BINOMIAL, axis, mode="nearest")
    return image - smooth


def _white_gain() -> float:
    """The variance that ``_without_binomial`` leaves of white noise of variance 1."""
    middle, squares = _BINOMIAL[1] ** 3, sum(weight**2 for weight in _BINOMIAL) ** 3
    return 1 - 2 * middle + squares
