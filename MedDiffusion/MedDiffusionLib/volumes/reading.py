"""Reading images and label maps, with every check before any work.

Input that cannot be used raises UserError with one sentence.
"""

from __future__ import annotations

import itertools
from collections.abc import Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from .formats import image_suffix, read_file
from .formats.dicom import is_dicom
from .label_statistics import LabelStatistics, find_label_statistics, slices_in_memory
from .segments import MAX_LABEL, merge_layers
from .volume import Kind, Volume

MAX_LABEL_VALUES = 256
_LOOKED_AT = 100
"""Files of a folder that are asked whether they are DICOM."""


def read_image(path: Path) -> Volume:
    """An intensity volume ``[i, j, k]``, float32; a folder is read as one DICOM series.

    Raises UserError for a file that cannot be read whole or is no single 3D volume of finite
    numbers on a regular grid.
    """
    array, affine, segments = read_file(path)
    if array.ndim == 4 or segments:
        raise UserError("is a segmentation", "give an image", path=path)
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32, copy=False)
        limits = array.min(), array.max()
    if not np.isfinite(limits).all():
        raise UserError(
            "has NaN, infinite or huge values", "replace them before using it", path=path
        )
    return Volume(array, affine, Kind.INTENSITY)


def read_label_map(path: Path, left_out: Container[int] = ()) -> Volume:
    """A label map ``[i, j, k]``, 0 is background, in the smallest unsigned type that holds its
    labels; with its segments where the file has them.

    Layers of a .seg.nrrd are merged, a later segment over an earlier one; a label value that two
    layers share is renumbered for the later segment. These are the values that the label map has
    from there on: what names a label, names it by them. What is ``left_out``, by its value, is
    dropped before segments are painted over each other, so that it covers nothing; of its segment
    no voxel remains.

    Raises UserError as :func:`read_image` does, and for an empty map or values that are no labels.
    """
    array, affine, segments = read_file(path)
    merged = [segment for _, segment in segments]
    if array.ndim == 4:
        array, merged = merge_layers(array, segments, left_out)
    array = _as_labels(array, path)
    statistics = find_label_statistics(array)
    if not statistics.values and any(segment.value in left_out for segment in merged):
        raise UserError("has nothing labelled but what is left out", "leave less out", path=path)
    _check_labels(statistics, path)
    named = tuple(s for s in merged if s.value in statistics.counts or s.value in left_out)
    labels = Volume(array, affine, Kind.LABEL, named)
    labels.remember(statistics)
    return labels


def image_files(folder: Path) -> list[Path]:
    """The files of a folder that may be images or label maps, by their names, sorted.

    Hidden ones are none: macOS keeps ``._NAME.nii.gz`` beside a file, and this program has its
    temporary files beside what it writes. Raises UserError where the folder cannot be read.
    """
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if has_image_suffix(path) and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise UserError(
            "cannot be opened", "check its permissions", path=folder, detail=error.strerror or ""
        ) from error


def is_series(path: Path) -> bool:
    """Whether it is a folder with DICOM files and no other images: one volume, not several.

    Raises UserError where the folder cannot be read, OSError where a file in it cannot.
    """
    if not path.is_dir() or image_files(path):
        return False
    files = (file for file in sorted(path.iterdir()) if file.is_file())
    return any(map(is_dicom, itertools.islice(files, _LOOKED_AT)))


def has_image_suffix(path: Path) -> bool:
    """Whether the file name ends like a format that this module reads."""
    return bool(image_suffix(path))


def stem(path: Path) -> str:
    """The file name without its image suffix: ``case 1.seg.nrrd`` -> ``case 1``."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def _as_labels(array: NDArray, path: Path) -> NDArray:
    """The array in the smallest unsigned type; itself where it is of that type.

    Raises UserError for numbers that are no labels.
    """
    with np.errstate(invalid="ignore"):
        low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise UserError("has NaN or infinite values", "a label map holds whole numbers", path=path)
    if array.dtype.kind == "f" and not all(map(_is_whole, slices_in_memory(array))):
        raise UserError(
            "has fractional values, so it looks like an intensity image",
            "give a label map of whole numbers",
            path=path,
        )
    if low < 0:
        raise UserError(f"has negative values ({low:g})", "labels are 0 and above", path=path)
    if high > MAX_LABEL:
        raise UserError(f"has values up to {high:g}", f"labels are at most {MAX_LABEL}", path=path)
    return array.astype(np.min_scalar_type(int(high)), copy=False)


def _is_whole(array: NDArray) -> bool:
    return bool((array == np.rint(array)).all())


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
