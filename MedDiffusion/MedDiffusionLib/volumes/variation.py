"""New label maps from a given one: the same anatomy, another shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compute.errors import UserError
from .deformation import (
    DeformableLabels,
    Size,
    exponential,
    identity,
    jacobian,
    resized,
    smooth_noise,
)
from .topology import Topology, remove_specks, topology
from .volume import Volume

Limits = Mapping[tuple[int, ...], tuple[float, float]]
"""Label values -> the least and the greatest volume, in mm³, of all of these labels together."""

_SCALES = (1 / 3, 1 / 8)
"""Over which the shape varies, as shares of the labelled box's mean edge: deviations of the
Gaussians that noise is smoothed with."""
_STRAIN = 0.11
"""Deviation of how much a millimetre is stretched at strength 1, by each of the two scales."""
_GROWTH, _TURN = 0.06, 0.05
"""Deviations of the growth along an axis and of the turn about it (radians), of the whole."""
_NODES_PER_SCALE = 2.0
"""Nodes of a velocity field in the deviation of its finest Gaussian."""
_LESS = (1.0, 1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2)
"""Of the strength, one draw after the other, until topology and volumes are kept."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A varied label map. ``strength`` is the one that it was made with, lower than asked for
    where that kept neither the topology nor the volumes; ``broken`` are the labels of
    which something is still not kept: none but in rare cases."""

    labels: Volume
    strength: float
    broken: tuple[int, ...]


class Variation:
    """Makes label maps of other shapes from a label map on any grid, which they share.

    A variant comes from a smooth, invertible deformation: the flow of a random velocity field.
    Each label keeps the number of its pieces and its Euler number (:class:`.Topology`), and its
    volume stays within ``limits``, which are widened to the given label map's own volumes.
    """

    def __init__(self, labels: Volume, limits: Limits | None = None) -> None:
        """Raises UserError where nothing is labelled."""
        statistics = labels.label_statistics
        low, high = statistics.box(np.diag([*labels.grid.spacing, 1.0]), np.eye(3))
        edge = float(np.cbrt((high - low).prod()))
        self._labels = labels
        self._deformable = DeformableLabels(labels, edge / 4)
        self._scales = [share * edge for share in _SCALES]
        self._topologies = _topologies(labels, self._deformable.box)
        self._limits = _widened(limits or {}, labels)

    def sample(self, strength: float, seed: int) -> Variant:
        """A variant, a function of strength, seed (0 or above) and the label map alone.

        ``strength``: from 0, the same label map, to 1, shapes at the rim of what is plausible.
        """
        check_strength(strength)
        if strength == 0:
            return Variant(self._labels, 0.0, ())
        best: Variant | None = None
        for draw, less in enumerate(_LESS):
            generator = np.random.default_rng((seed, draw))
            displacement = exponential(self._velocity(generator, less * strength))
            if jacobian(displacement).min() <= 0:
                continue
            labels = self._cleaned(self._deformable.deformed(displacement))
            variant = Variant(labels, less * strength, self._broken(labels))
            if not variant.broken:
                return variant
            if best is None or len(variant.broken) < len(best.broken):
                best = variant
        assert best is not None  # The weakest fields cannot fold anything.
        return best

    def _velocity(self, generator: np.random.Generator, strength: float) -> Tensor:
        """A random velocity field: growth and turn of the whole, and noise of two scales."""
        extent = self._deformable.extent
        halves = extent / 2
        nodes = _nodes(extent, self._scales[-1])
        field = torch.zeros(3, *nodes)
        for scale in self._scales:
            coarse = _nodes(extent, scale)
            noise = smooth_noise(coarse, scale / extent * (np.array(coarse) - 1), generator)
            # The slope of noise that was smoothed with s deviates by 1 / (s sqrt 2).
            noise *= _STRAIN * scale * math.sqrt(2) / halves[:, None, None, None]
            field += resized(torch.from_numpy(noise.astype(np.float32)), nodes)
        growth = np.diag(generator.normal(0, _GROWTH, 3))
        x, y, z = generator.normal(0, _TURN, 3)
        linear = growth + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        linear = linear * halves / halves[:, None]
        field += torch.einsum(
            "ij,jxyz->ixyz", torch.from_numpy(linear.astype(np.float32)), identity(nodes)
        )
        return strength * field

    def _cleaned(self, labels: Volume) -> Volume:
        """Without the specks that broke off from where a label is as thin as a voxel."""
        array = labels.array
        for value, known in self._topologies.items():
            if known.is_whole:
                remove_specks(array[self._deformable.box], value, known.pieces)
        return Volume(array, labels.affine, labels.kind, labels.segments)

    def _broken(self, labels: Volume) -> tuple[int, ...]:
        found = _topologies(labels, self._deformable.box)
        broken = [v for v, known in self._topologies.items() if not known.is_kept_by(found[v])]
        for values, (low, high) in self._limits.items():
            if not low <= volume_of(labels, values) <= high:
                broken += values
        return tuple(sorted(set(broken)))


def check_strength(strength: float) -> None:
    """Raise UserError for a strength out of range."""
    if not 0 <= strength <= 1:
        raise UserError(f"strength is {strength:g}", "it must lie between 0 and 1")


def volume_of(labels: Volume, values: tuple[int, ...]) -> float:
    """The volume of labels together, in mm³."""
    counts = labels.label_statistics.counts
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3])))
    return sum(counts.get(value, 0) for value in values) * voxel


def _nodes(extent: NDArray[np.float64], scale: float) -> Size:
    """Nodes over a box that carry what varies over ``scale``."""
    i, j, k = (math.ceil(_NODES_PER_SCALE * e / scale) + 1 for e in extent)
    return i, j, k


def _topologies(labels: Volume, box: tuple[slice, slice, slice]) -> dict[int, Topology]:
    part = labels.array[box]
    values = labels.label_statistics.values
    return {value: topology(part == value) for value in values}


def _widened(limits: Limits, labels: Volume) -> Limits:
    """The limits of what the label map has, with its own volumes in them."""
    own = {values: volume_of(labels, values) for values in limits}
    return {
        values: (min(low, own[values]), max(high, own[values]))
        for values, (low, high) in limits.items()
        if own[values]
    }
