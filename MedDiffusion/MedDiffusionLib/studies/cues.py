"""Simple measures of a volume's voxels by which a reader could tell the arms apart unknowingly.

Each takes a volume ``[i, j, k]`` as it is shown, and gives one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_SHELL = 2
"""Voxels of the outer layer that is compared with what lies within."""


def lowest_share(array: NDArray) -> float:
    """The part of the voxels that have the lowest value."""
    return float((array == array.min()).mean())


def highest_share(array: NDArray) -> float:
    """The part of the voxels that have the highest value."""
    return float((array == array.max()).mean())


def lowest_value(array: NDArray) -> float:
    """The lowest value."""
    return float(array.min())


def highest_value(array: NDArray) -> float:
    """The highest value."""
    return float(array.max())


def number_of_values(array: NDArray) -> float:
    """How many different values there are."""
    return float(len(np.unique(array)))


def border_constancy(array: NDArray) -> float:
    """The part of neighbouring voxels on the six faces that are equal."""
    faces = [np.take(array, end, axis) for axis in range(3) for end in (0, -1)]
    equal = [np.diff(face, axis=axis).ravel() == 0 for face in faces for axis in (0, 1)]
    return float(np.concatenate(equal).mean())


def border_grain(array: NDArray) -> float:
    """The noise of the outer voxels over that of the inner ones."""
    residual = np.abs(_residual(array))
    width = min(_SHELL, (min(array.shape) - 1) // 2)
    inside = np.zeros(array.shape, bool)
    inside[(slice(width, -width or None),) * 3] = True
    inner, outer = float(residual[inside].mean()), float(residual[~inside].mean())
    return outer / inner if inner else 1.0


def noise_floor(array: NDArray) -> float:
    """The tenth part of the local deviations: how noisy the smoothest places are."""
    blocks = _blocks(array.astype(np.float64))
    return float(np.percentile(blocks.std(1), 10))


def grain(array: NDArray) -> float:
    """The mean noise over the contrast of the whole."""
    deviation = float(array.std())
    return float(np.abs(_residual(array)).mean()) / deviation if deviation else 0.0


def mean(array: NDArray) -> float:
    """The mean intensity."""
    return float(array.mean())


def contrast(array: NDArray) -> float:
    """The standard deviation of the intensities."""
    return float(array.std())


def middle_frequencies(array: NDArray) -> float:
    """The part of the power from a quarter to half of the highest frequency, as a logarithm."""
    return _power(array, 0.25, 0.5)


def high_frequencies(array: NDArray) -> float:
    """The part of the power above half of the highest frequency, as a logarithm."""
    return _power(array, 0.5, 2.0)


def anisotropy(array: NDArray) -> float:
    """The largest of the mean steps along the axes over the smallest."""
    steps = [float(np.abs(np.diff(array.astype(np.float64), axis=a)).mean()) for a in range(3)]
    return max(steps) / min(steps) if min(steps) else 1.0


CUES: dict[str, Callable[[NDArray], float]] = {
    "lowest value": lowest_value,
    "highest value": highest_value,
    "share at the lowest value": lowest_share,
    "share at the highest value": highest_share,
    "number of values": number_of_values,
    "border constancy": border_constancy,
    "grain of the border": border_grain,
    "noise floor": noise_floor,
    "grain": grain,
    "mean": mean,
    "contrast": contrast,
    "middle frequencies": middle_frequencies,
    "high frequencies": high_frequencies,
    "anisotropy": anisotropy,
}
"""By what each is called in a report."""


def _residual(array: NDArray) -> NDArray:
    """What a voxel differs by from the mean of its neighbours along the three axes."""
    padded = np.pad(array.astype(np.float32), 1, mode="reflect")
    around = np.zeros(array.shape, np.float32)
    for axis in range(3):
        for end in (slice(None, -2), slice(2, None)):
            around += padded[tuple(end if a == axis else slice(1, -1) for a in range(3))]
    return array - around / 6


def _blocks(array: NDArray, edge: int = 3) -> NDArray:
    """Cubes of ``edge`` voxels side by side, a row each."""
    size = [n // edge for n in array.shape]
    cut = array[tuple(slice(n * edge) for n in size)]
    split = cut.reshape(size[0], edge, size[1], edge, size[2], edge)
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(-1, edge**3)


def _power(array: NDArray, low: float, high: float) -> float:
    """The logarithm of the part of the power between two parts of the highest frequency."""
    centred = array - array.mean()
    # Without a window the step from one face to the other would be most of what is seen.
    for axis, n in enumerate(array.shape):
        shape = [1, 1, 1]
        shape[axis] = n
        centred = centred * np.hanning(n + 2)[1:-1].reshape(shape)
    power = np.abs(np.fft.rfftn(centred)) ** 2
    frequencies = np.meshgrid(
        *(np.fft.fftfreq(n) for n in array.shape[:2]), np.fft.rfftfreq(array.shape[2]),
        indexing="ij",
    )  # fmt: skip
    radius = 2 * np.sqrt(sum(f**2 for f in frequencies))
    total = float(power.sum())
    part = float(power[(radius >= low) & (radius < high)].sum())
    return math.log10(max(part, 1e-12 * total) / total) if total else 0.0
