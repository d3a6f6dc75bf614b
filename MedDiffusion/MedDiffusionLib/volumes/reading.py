"""Reading images and label maps, with every check before any work.

Input that cannot be used raises UserError with one sentence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from .formats import image_suffix, read_file
from .label_statistics import LabelStatistics, find_label_statistics
from .segments import merge_layers
from .volume import Kind, Volume

MAX_LABEL_VALUES = 256
_MAX_LABEL = 2**31 - 1


def read_image(path: Path) -> Volume:
    """An intensity volume ``[i, j, k]``, float32; a folder is read as one DICOM series.

    Raises UserError for a file that cannot be read whole or is no single 3D volume of finite
    numbers on a regular grid.
    """
    array, affine, segments = read_file(path)
    if array.ndim == 4 or segments:
        raise UserError("is a segmentation", "give an image", path=path)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            "has NaN, infinite or huge values", "replace them before using it", path=path
        )
    return Volume(array, affine, Kind.INTENSITY)


def read_label_map(path: Path) -> Volume:
    """A label map ``[i, j, k]``, int32, 0 is background; with its segments where the file has them.

    Layers of a .seg.nrrd are merged, a later segment over an earlier one; a label value that two
    layers share is renumbered for the later segment. Raises UserError as :func:`read_image` does,
    and for an empty map or values that are no labels.
    """
    array, affine, segments = read_file(path)
    if array.ndim == 4:
        array, merged = merge_layers(array, segments)
    else:
        merged = [segment for _, segment in segments]
    _check_label_range(array, path)
    array = array.astype(np.int32)
    statistics = find_label_statistics(array)
    _check_labels(statistics, path)
    named = tuple(segment for segment in merged if segment.value in statistics.counts)
    labels = Volume(array, affine, Kind.LABEL, named)
    labels.remember(statistics)
    return labels


def has_image_suffix(path: Path) -> bool:
    """Whether the file name ends like a format that this module reads."""
    return bool(image_suffix(path))


def stem(path: Path) -> str:
    """The file name without its image suffix: ``case 1.seg.nrrd`` -> ``case 1``."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def _check_label_range(array: NDArray, path: Path) -> None:
    """Raise UserError for numbers that are no labels."""
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise UserError("has NaN or infinite values", "a label map holds whole numbers", path=path)
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise UserError(
            "has fractional values, so it looks like an intensity image",
            "give a label map of whole numbers",
            path=path,
        )
    if low < 0:
        raise UserError(f"has negative values ({low:g})", "labels are 0 and above", path=path)
    if high > _MAX_LABEL:
        raise UserError(f"has values up to {high:g}", f"labels are at most {_MAX_LABEL}", path=path)


def _check_labels(statistics: LabelStatistics, path: Path) -> None:
    """Raise UserError for more labels than a label map has, or none."""
    if len(statistics.counts) > MAX_LABEL_VALUES:
        raise UserError(
            f"has {len(statistics.counts):,} different values, so it looks like an intensity image",
            f"give a label map of at most {MAX_LABEL_VALUES} labels",
            path=path,
        )
    if not statistics.values:
        raise UserError("is empty", "label at least one voxel", path=path)
