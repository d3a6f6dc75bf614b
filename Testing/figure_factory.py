"""Small volumes of smooth labels and texture, and ways to make them worse by degrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SHAPE = (20, 20, 20)
LABELS = 2
LEVELS = (-0.6, 0.0, 0.6)
"""Mean intensity of background and labels."""
GRAIN = 0.08


@dataclass(frozen=True, eq=False)
class Case:
    """A volume ``[2, X, Y, Z]`` in [-1, 1] of two contrasts, and the label map that it is of."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def label_map(seed: int) -> NDArray[np.uint8]:
    """A ball of label 1 with a smaller one of label 2 in it, each somewhere and of some size."""
    random = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    centre = 9.5 + random.uniform(-2, 2, 3)
    outer, inner = random.uniform(6, 8), random.uniform(3, 4.5)
    far = np.linalg.norm(place - centre, axis=-1)
    near = np.linalg.norm(place - centre - random.uniform(-1.5, 1.5, 3), axis=-1)
    return np.where(near < inner, 2, np.where(far < outer, 1, 0)).astype(np.uint8)


def volume(labels: NDArray[np.uint8], seed: int, gain: float = 1.0) -> NDArray[np.float32]:
    """Two contrasts of a label map: means of labels, and texture, of which they share a part."""
    random = np.random.default_rng(1000 + seed)
    clean = gain * gaussian_filter(np.array(LEVELS)[labels], 0.6)
    shared = gaussian_filter(random.normal(size=SHAPE), 0.7)
    shared *= GRAIN / shared.std()
    own = random.normal(0, GRAIN / 2, SHAPE)
    return np.stack([clean + shared, shared - clean + own]).astype(np.float32)


def cases(count: int, textures: int = 0) -> list[Case]:
    """Patients, each with a label map and a gain; other ``textures`` are other scans of them."""
    found = []
    for patient in range(count):
        labels = label_map(patient)
        gain = np.random.default_rng(3000 + patient).uniform(0.9, 1.1)
        image = volume(labels, textures + patient, float(gain))
        found.append(Case(image, labels, np.ones(SHAPE, bool)))
    return found


def blurred(image: NDArray[np.float32], voxels: float) -> NDArray[np.float32]:
    return np.stack([gaussian_filter(channel, voxels) for channel in image])


def grainy(image: NDArray[np.float32], deviation: float, seed: int) -> NDArray[np.float32]:
    grain = np.random.default_rng(2000 + seed).normal(size=image.shape)
    return (image + deviation * grain).astype(np.float32)


def shifted(labels: NDArray[np.uint8], voxels: int) -> NDArray[np.uint8]:
    """Label map, some voxels along the first axis."""
    return np.roll(labels, voxels, 0)


def segmented(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A segmenter that knows the means of the labels in the first contrast."""
    return np.digitize(gaussian_filter(image[0], 0.5), (-0.3, 0.3)).astype(np.uint8)
