"""Which images a model was trained on, so that nobody judges it by these unawares.

A bundle has a short salted hash of each image's voxels: who has an image can see whether it was one
of them, whatever its file is called; who has none learns nothing of any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_IMAGES = 10_000
"""Of more, a bundle has no record: it would not fit a manifest."""
_SALT, _HASH = 32, 20
"""Hexadecimal digits."""


@dataclass(frozen=True)
class TrainingImages:
    """Of each image of a training a hash, sorted."""

    salt: str
    hashes: tuple[str, ...]

    @staticmethod
    def of(images: Sequence[str], before: TrainingImages | None = None) -> TrainingImages | None:
        """The record of images by their :func:`voxels_sha256`; None where there are too many.

        ``before``: of the model whose weights a training began with; its images stay in it. The
        salt follows from all images, so that a training gives the same bundle each time.
        """
        salt = hashlib.sha256("".join(sorted(images)).encode()).hexdigest()[:_SALT]
        salt, known = (salt, ()) if before is None else (before.salt, before.hashes)
        hashes = tuple(sorted({*known, *(_salted(salt, image) for image in images)}))
        return TrainingImages(salt, hashes) if len(hashes) <= MOST_IMAGES else None

    @staticmethod
    def from_json(content: dict[str, Any]) -> TrainingImages:
        """As a manifest holds it."""
        return TrainingImages(content["salt"], tuple(content["hashes"]))

    def has(self, image: str) -> bool:
        """Whether an image of this :func:`voxels_sha256` is among them."""
        return _salted(self.salt, image) in self.hashes


def voxels_sha256(array: NDArray) -> str:
    """The SHA-256 of an array's shape and numbers as they were read, whatever the file's format."""
    digest = hashlib.sha256(f"{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _salted(salt: str, image: str) -> str:
    return hashlib.sha256(f"{salt} {image}".encode()).hexdigest()[:_HASH]
