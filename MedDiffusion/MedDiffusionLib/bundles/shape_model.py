"""A statistical shape model of label maps: new, plausible label maps from nothing but a seed.

A training map becomes signed distance fields on the model's grid, positive inside: one of all
labels together and one of each label. The model is the mean of these fields and their main modes
of variation (principal components). It is stored with a bundle as ``shape.safetensors``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..volumes.grids import GridSpec, fov_grid
from ..volumes.resampling import resample, signed_distance
from ..volumes.variation import Limits
from ..volumes.volume import Grid, Kind, Segment, Volume
from .manifest import Manifest
from .shape_file import Shapes, read_shape_file, write_shape_file

KIND = "shape"
_TENSORS = ("mean", "modes", "explained", "volumes")
_REACH = 5.0
"""Distances are cut off at this many voxels: farther away they would only add to the variance."""
_MOST_MODES = 256
_LIMIT = 2.0
"""Standard deviations within which coefficients are drawn."""
_DRAWS = 30
"""Label maps drawn in search of one with every label and a usual volume."""


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """The mean distance fields and their modes of variation, in mm.

    Fields lie on every second voxel of the model's grid, in float16 as they are stored. Field 0
    tells the labelled region from the background; within it, a voxel belongs to the label whose
    field is largest, so labels that touch in training touch in every map.
    ``mean`` is ``[1 + L, X, Y, Z]``; ``modes`` is ``[M, 1 + L, X, Y, Z]``, each mode one standard
    deviation long; ``explained`` is ``[M]``, the share of the training maps' variance, in falling
    order; ``volumes`` is ``[2]``, the least and the greatest labelled volume of a training map
    in mm³; ``label_volumes`` is ``[2, L]``, the 1st and the 99th percentile of each label's, where
    they were kept.
    """

    spec: GridSpec
    segments: tuple[Segment, ...]
    mean: NDArray[np.float16]
    modes: NDArray[np.float16]
    explained: NDArray[np.float32]
    volumes: NDArray[np.float32]
    label_volumes: NDArray[np.float32] | None = None

    @property
    def limits(self) -> Limits:
        """The usual volumes in mm³: of each label where they were kept, else of all together."""
        values = [segment.value for segment in self.segments]
        if self.label_volumes is None:
            low, high = self.volumes
            return {tuple(values): (float(low), float(high))}
        ends = zip(values, *self.label_volumes, strict=True)
        return {(value,): (float(low), float(high)) for value, low, high in ends}

    def sample(self, seed: int) -> Volume:
        """A random label map, a function of ``seed`` (0 or above) alone.

        Coefficients come from the standard normal distribution cut off at 2 standard deviations.
        Every label is there, in one face-connected piece, and the labelled volume is within the
        training maps' range, or as close to it as 30 draws come. See :meth:`label_map` for the
        volume. Raises UserError when no draw has every label.
        """
        closest, least_excess = None, np.inf
        for draw in range(_DRAWS):
            labels = self.label_map(_coefficients(len(self.modes), seed, draw))
            if not np.isin([s.value for s in self.segments], labels.array).all():
                continue
            volume, (low, high) = _labelled_volume(labels), self.volumes
            excess = max(low - volume, volume - high, 0.0)
            if excess < least_excess:
                closest, least_excess = labels, excess
            if excess == 0:
                break
        if closest is None:
            raise UserError(
                f"The shape model drew {_DRAWS} label maps and none has every label",
                "fit it to label maps that are more alike",
            )
        return closest

    def label_map(self, coefficients: NDArray[np.floating]) -> Volume:
        """The int32 label map at ``coefficients`` ``[M]``, in standard deviations of the modes.

        It fills the model's grid, whose center lies at RAS (0, 0, 0). A label may be missing.
        """
        weights = coefficients.astype(np.float32)
        fields = self.mean + np.tensordot(weights, self.modes.astype(np.float32), 1)
        grid = self.spec.centered()
        indices = _label_indices(np.stack([_upsample(field, grid) for field in fields]))
        values = np.array([0, *(s.value for s in self.segments)], np.int32)
        return Volume(values[indices], grid.affine, Kind.LABEL, self.segments)


def fit_shape_model(
    label_maps: Iterable[Volume], spec: GridSpec, label_values: Sequence[int], modes: int = 12
) -> ShapeModel:
    """Fit a model with at most ``modes`` modes to label maps, each centered on its labelled box.

    ``label_values`` are the labels in the model's order; other values count as background.
    The maps need not share a grid. Raises UserError when a map lacks one of the labels, and when
    there are no two different maps.
    """
    rows, volumes, counts = [], [], []
    for labels in label_maps:
        centered = _center(labels, spec, label_values)
        rows.append(_fields(centered, label_values).ravel())
        volumes.append(_labelled_volume(centered))
        found = centered.label_statistics.counts
        counts.append([found[value] for value in label_values])
    if len(rows) < 2:
        raise UserError("A shape model needs at least two label maps", "give more")
    table = np.stack(rows)
    mean = table.mean(0)
    _, scales, directions = np.linalg.svd(table - mean, full_matrices=False)
    variances = scales**2 / (len(rows) - 1)
    if variances.sum() < 1e-6:
        raise UserError("The label maps of a shape model are all the same", "give different ones")
    count = min(modes, len(rows) - 1)
    shape = (1 + len(label_values), *_coarse_size(spec))
    deviations = np.sqrt(variances[:count, None]) * directions[:count]
    return ShapeModel(
        spec,
        tuple(Segment(value, f"label {value}") for value in label_values),
        mean.reshape(shape).astype(np.float16),
        deviations.reshape(count, *shape).astype(np.float16),
        (variances[:count] / variances.sum()).astype(np.float32),
        np.array([min(volumes), max(volumes)], np.float32),
        volume_percentiles(counts, spec),
    )


def volume_percentiles(counts: Sequence[Sequence[int]], spec: GridSpec) -> NDArray[np.float32]:
    """The 1st and the 99th percentile ``[2, L]`` of labels' volumes in mm³, from their voxels in
    each label map ``[N][L]`` on a grid of the model's spacing."""
    table = np.array(counts, float) * float(np.prod(spec.spacing))
    return np.percentile(table, (1, 99), axis=0).astype(np.float32)


def save_shape_model(model: ShapeModel, folder: Path) -> str:
    """Write ``shape.safetensors`` into a bundle folder; returns its SHA-256 for the manifest."""
    tensors = {name: getattr(model, name) for name in _TENSORS}
    if model.label_volumes is not None:
        tensors["label_volumes"] = model.label_volumes
    return write_shape_file(folder, tensors, model.spec, [s.value for s in model.segments])


def read_shape_model(folder: Path, manifest: Manifest) -> ShapeModel:
    """Load a bundle's generator of this kind; raises UserError as :func:`.load_generator` does."""
    segments = tuple(Segment(label.value, label.name, label.code) for label in manifest.labels)
    shape = (1 + len(segments), *_coarse_size(manifest.grid))

    def fits(shapes: Shapes) -> bool:
        count = min((*shapes["explained"], _MOST_MODES))
        wanted = {"mean": shape, "modes": (count, *shape), "explained": (count,), "volumes": (2,)}
        if "label_volumes" in shapes:
            wanted["label_volumes"] = (2, len(segments))
        return shapes == wanted

    types = dict(zip((*_TENSORS, "label_volumes"), ("F16", "F16", *["F32"] * 3), strict=True))
    _, tensors = read_shape_file(folder, manifest, types, fits, optional=("label_volumes",))
    return ShapeModel(manifest.grid, segments, **tensors)


def _center(labels: Volume, spec: GridSpec, label_values: Sequence[int]) -> Volume:
    """The model's labels alone, on the lattice whose every second voxel carries the fields."""
    known = np.where(np.isin(labels.array, label_values), labels.array, 0)
    labels = Volume(known, labels.affine, Kind.LABEL)
    x, y, z = (2 * n - 1 for n in _coarse_size(spec))
    labels = resample(labels, spec.at(fov_grid(labels, spec).origin, (x, y, z)))
    missing = [value for value in label_values if not (labels.array == value).any()]
    if missing:
        raise UserError(
            f"A label map has no label {missing[0]} in the model's field of view",
            "leave it out of the shape model",
        )
    return labels


def _fields(labels: Volume, label_values: Sequence[int]) -> NDArray[np.float32]:
    """The fields ``[1 + L, X, Y, Z]`` of one centered label map."""
    masks = [labels.array != 0, *(labels.array == value for value in label_values)]
    return np.stack([_distance(mask, labels.grid) for mask in masks])


def _distance(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """Signed distance in mm to the mask's surface, cut off, at every second voxel."""
    reach = float(_REACH * grid.spacing.max())
    return signed_distance(mask, grid)[::2, ::2, ::2].clip(-reach, reach)


def _labelled_volume(labels: Volume) -> float:
    """Volume of all labels together in mm³."""
    return float(np.count_nonzero(labels.array) * labels.grid.spacing.prod())


def _coarse_size(spec: GridSpec) -> tuple[int, int, int]:
    """Voxels of twice the spacing that reach from the first voxel of the grid to its last."""
    x, y, z = (n // 2 + 1 for n in spec.size)
    return x, y, z


def _upsample(field: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """A field on the voxels of the grid; it has the grid's first voxel and twice its spacing."""
    volume = Volume(field, grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]), Kind.INTENSITY)
    return resample(volume, grid, background=float(field.min())).array


def _coefficients(count: int, seed: int, draw: int) -> NDArray[np.float64]:
    return truncated_normal(np.random.default_rng((seed, draw)).random(count))


def truncated_normal(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers of the normal distribution cut off at 2 standard deviations, from uniform ones."""
    normal = NormalDist()
    low, high = normal.cdf(-_LIMIT), normal.cdf(_LIMIT)
    return np.array([normal.inv_cdf(low + (high - low) * share) for share in shares])


def _label_indices(fields: NDArray[np.float32]) -> NDArray[np.int64]:
    """Label indices ``[X, Y, Z]``, 0 for background, from fields ``[1 + L, X, Y, Z]``."""
    indices = np.where(fields[0] > 0, fields[1:].argmax(0) + 1, 0)
    for index in range(1, len(fields)):
        mask = indices == index
        indices[mask & ~_largest_piece(mask)] = 0
    return indices


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    return sitk.GetArrayFromImage(sitk.RelabelComponent(pieces)) == 1
