"""Planted copies: real volumes, changed as a model might change what it has memorized.

A detector that does not find these finds nothing. All work on whole volumes ``[C, X, Y, Z]`` in
[-1, 1], by scipy, so that they share no code with the views that the encoder learns from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]
Plant = Callable[[Volume, Volume, np.random.Generator], Volume]
"""Makes a copy of the first volume; the second is of another patient, for those that need one."""

_CONTROL = 4
"""Points along an axis between which smooth fields are interpolated."""


def exact(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """The volume itself."""
    return image.copy()


def flipped(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Mirrored along an axis."""
    return np.ascontiguousarray(np.flip(image, 1 + int(random.integers(3))))


def moved(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Turned by up to 5 degrees about each axis and scaled by up to 5 % along each."""
    matrix = np.diag(1 + random.uniform(-0.05, 0.05, 3))
    for axis, angle in enumerate(np.deg2rad(random.uniform(-5, 5, 3))):
        a, b = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    centre = (np.array(image.shape[1:]) - 1) / 2
    offset = centre - matrix @ centre
    parts = [ndimage.affine_transform(c, matrix, offset, order=1, mode="nearest") for c in image]
    return np.stack(parts)


def elastic(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Displaced smoothly, by 1 to 2 voxels where it is displaced most."""
    size = image.shape[1:]
    field = np.stack([_smooth(size, random) for _ in range(3)])
    field *= random.uniform(1, 2) / max(float(np.linalg.norm(field, axis=0).max()), 1e-12)
    place = np.indices(size) + field
    return np.stack([ndimage.map_coordinates(c, place, order=1, mode="nearest") for c in image])


def gamma(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Another contrast: an exponent from .8 to 1.25."""
    exponent = np.exp(random.uniform(np.log(0.8), np.log(1.25)))
    return _to_range(_gray(image) ** exponent)


def biased(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """A smooth field of brightness, up to 30 % to either side."""
    field = _smooth(image.shape[1:], random)
    return _to_range(_gray(image) * np.exp(np.log(1.3) * field / np.abs(field).max()))


def blended(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Half of it, and half of another patient's."""
    return ((image + other) / 2).astype(np.float32)


def blurred(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
    """Low-pass: a Gaussian of 1 to 2 voxels."""
    deviation = random.uniform(1, 2)
    return np.stack([ndimage.gaussian_filter(c, deviation, mode="nearest") for c in image])


def rician(share: float) -> Plant:
    """Grain of a magnitude image, its deviation a share of the range of intensities."""

    def noisy(image: Volume, other: Volume, random: np.random.Generator) -> Volume:
        first, second = share * random.standard_normal((2, *image.shape))
        return _to_range(np.hypot(_gray(image) + first, second))

    return noisy


PLANTS: dict[str, Plant] = {
    "exact": exact,
    "Rician noise 2 %": rician(0.02),
    "Rician noise 5 %": rician(0.05),
    "Rician noise 10 %": rician(0.10),
    "flip": flipped,
    "affine": moved,
    "elastic": elastic,
    "gamma": gamma,
    "bias field": biased,
    "blend 1/2": blended,
    "low-pass": blurred,
}
"""By what each is called in a report."""


def _smooth(size: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random field of that size."""
    points = random.uniform(-1, 1, (_CONTROL,) * 3)
    axes = [np.linspace(0, _CONTROL - 1, n) for n in size]
    place = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(points, place, order=3, mode="nearest")


def _gray(image: Volume) -> Volume:
    return np.clip((image + 1) / 2, 0, 1)


def _to_range(gray: NDArray) -> Volume:
    return (np.clip(gray, 0, 1) * 2 - 1).astype(np.float32)
