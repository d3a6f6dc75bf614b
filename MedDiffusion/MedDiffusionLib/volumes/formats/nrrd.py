"""NRRD, by SimpleITK."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from .content import Content, unusable_spacing
from .itk import read_itk

_SPATIAL_AXES = 3


def read_nrrd(path: Path) -> Content:
    """An NRRD file; refuses spacings that SimpleITK mends in silence.

    Raises UserError for a spacing that is not a positive number, ValueError for one that is no
    number, and what :func:`read_itk` raises.
    """
    for spacings in _spacings(path):
        # Undefined is the spacing of an axis that is not one of space, such as that of layers.
        undefined = sum(map(math.isnan, spacings))
        if undefined > max(0, len(spacings) - _SPATIAL_AXES):
            raise unusable_spacing(path)
        if any(spacing <= 0 or math.isinf(spacing) for spacing in spacings):
            raise unusable_spacing(path)
    return read_itk(path)


def _spacings(path: Path) -> Iterator[list[float]]:
    """The spacing of each axis that has one, of every field of the header that gives spacings."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                break
            name, _, value = line.decode("latin-1").partition(": ")
            if name == "spacings":
                yield [float(word) for word in value.split()]
            elif name == "space directions":
                vectors = re.findall(r"\(([^)]*)\)", value)
                yield [math.hypot(*map(float, vector.split(","))) for vector in vectors]
