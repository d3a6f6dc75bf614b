"""Fitting a label map generator to label maps, of the kind that suits them."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..compute.files import atomic_together, json_bytes
from ..volumes.volume import Volume
from . import shape_model, template_model
from .manifest import Manifest
from .names import MANIFEST_NAME, SHAPE_MODEL_NAME
from .template_fit import MOST_LABELS, OnProgress, fit_template_model, model_indices

ReadLabelMap = Callable[[], Volume]

_THIN = 0.7
"""Dice below which a label is thin, of its map and what every second voxel tells of it."""
_FEWEST = 10
"""Label maps below which templates would be too much like single persons'."""
_LOOKED_AT = 4
"""Label maps by which the kind is chosen."""
_MAX_DISTANCES, _DISTANCES = 2**28, 2**23
"""Distances that a shape model may be fitted to, 1 GiB, and those that it is fitted to where
:data:`_SHAPE_MAPS` label maps have fewer: memory must not grow with the number of cases."""
_SHAPE_MAPS = 32
_MAX_VOXELS, _TEMPLATE_MAPS = 2**29, 256
"""Voxels of label maps that templates are put together from, half a GiB, and maps at most."""


def choose_kind(label_maps: Sequence[ReadLabelMap], manifest: Manifest) -> str:
    """The kind of generator that suits label maps: ``deformation`` where a label is thin.

    Distances on every second voxel, which the kind ``shape`` has, do not hold what is thinner.
    Where there are few maps it is ``shape`` all the same: a template is to be of many persons.
    Raises UserError for a label map that cannot be used.
    """
    if len(label_maps) < _FEWEST:
        return shape_model.KIND
    values = [label.value for label in manifest.labels]
    shares = []
    for read in _evenly(label_maps, _LOOKED_AT):
        indices = model_indices(read(), manifest.grid, values)
        shares.append([_kept_by_half(indices == n) for n in range(1, len(values) + 1)])
    thinnest = float(np.nanmean(shares, 0).min())
    return template_model.KIND if thinnest < _THIN else shape_model.KIND


def fit_generator(
    label_maps: Sequence[ReadLabelMap],
    manifest: Manifest,
    folder: Path,
    most: int = _TEMPLATE_MAPS,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Manifest | None:
    """Fit a generator and write it into a bundle's folder; returns the manifest that names it.

    ``label_maps`` are read one after the other, evenly chosen where there are more than ``most`` or
    than memory holds. None where there are none, or they do not fit into memory. Raises UserError
    where they have not all labels, or are too few or all the same; OSError.
    """
    if not manifest.labels or not label_maps:
        return None
    kind = choose_kind(label_maps, manifest)
    values = [label.value for label in manifest.labels]
    if kind == shape_model.KIND:
        fields = (1 + len(values)) * math.prod(manifest.grid.size) // 8
        count = min(len(label_maps), max(_SHAPE_MAPS, _DISTANCES // fields))
        if fields * count > _MAX_DISTANCES:
            return None
        read = (one() for one in _evenly(label_maps, count))
        fitted = shape_model.fit_shape_model(read, manifest.grid, values)
        digest = shape_model.save_shape_model(fitted, folder)
    else:
        count = min(len(label_maps), most, _MAX_VOXELS // math.prod(manifest.grid.size))
        if count < 1 or len(values) > MOST_LABELS:
            return None
        read = (one() for one in _evenly(label_maps, count))
        model = fit_template_model(read, manifest.grid, values, on_progress=on_progress)
        digest = template_model.save_template_model(model, folder)
    return replace(manifest, shape_model_sha256=digest, shape_model_kind=kind)


def refit_generator(
    label_maps: Sequence[ReadLabelMap], manifest: Manifest, folder: Path, on_progress: OnProgress
) -> Manifest:
    """Fit a generator and put it into a bundle that is there, file and manifest together.

    Raises UserError as :func:`fit_generator` does, and where nothing could be fitted; OSError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        fitted = fit_generator(label_maps, manifest, Path(temporary), on_progress=on_progress)
        if fitted is None:
            raise UserError(
                f"{manifest.name} has no labels, or its grid is too large for a label map "
                "generator",
                "take another model",
            )
        paths = folder / SHAPE_MODEL_NAME, folder / MANIFEST_NAME
        with atomic_together(paths) as (shape, manifest_file):
            shutil.copyfile(Path(temporary) / SHAPE_MODEL_NAME, shape)
            manifest_file.write_bytes(json_bytes(fitted.to_json()))
    return fitted


def _evenly(items: Sequence[ReadLabelMap], count: int) -> list[ReadLabelMap]:
    return [items[number * len(items) // count] for number in range(count)]


def _kept_by_half(mask: NDArray[np.bool_]) -> float:
    """Dice of a mask and of its every second voxel, made twice as large; NaN of none."""
    half = mask[::2, ::2, ::2]
    for axis, size in enumerate(mask.shape):
        half = np.repeat(half, 2, axis).take(range(size), axis)
    total = int(mask.sum()) + int(half.sum())
    return 2 * int((mask & half).sum()) / total if total else math.nan
