"""Reading images and label maps from the formats of the field, with every check before any work.

NIfTI-1 and -2, MetaImage, MGH/MGZ and GIPL by the parsers of this package; NRRD, .seg.nrrd and
DICOM series by SimpleITK. Input that cannot be used raises UserError with one sentence.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .errors import UserError
from .headers import (
    Header,
    affine_from,
    gipl_header,
    metaimage_header,
    mgh_header,
    opened,
    read_voxels,
)
from .nifti import nifti_header
from .segments import merge_layers, parse_segments
from .volume import LPS_TO_RAS, Kind, Segment, Volume

_HEADERS: dict[str, Callable[[BinaryIO, Path], Header]] = {
    ".nii.gz": nifti_header,
    ".nii": nifti_header,
    ".mha": metaimage_header,
    ".mhd": metaimage_header,
    ".mgz": mgh_header,
    ".mgh": mgh_header,
    ".gipl.gz": gipl_header,
    ".gipl": gipl_header,
}
_NRRD_SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr")
SUFFIXES = (*_NRRD_SUFFIXES, *_HEADERS)
MAX_VOXELS = 2**29
"""Larger volumes are refused: their float32 output alone would fill 2 GiB."""
MAX_LABEL_VALUES = 256
_MAX_LABEL = 2**31 - 1
_MAX_COSINE = 1e-3
"""Of the angle between two axes; further from a right angle, a grid counts as sheared."""
_MAX_SLICE_GAP_DEVIATION = 0.25
"""Relative to the usual gap between DICOM slices; rounded positions stay below it."""

# Warnings would reach standard error, which 3D Slicer shows as errors of the module.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_image(path: Path) -> Volume:
    """An intensity volume ``[i, j, k]``, float32; a folder is read as one DICOM series.

    Raises UserError for a file that cannot be read whole or is no single 3D volume of finite
    numbers on a regular grid.
    """
    array, affine, segments = _read(path)
    if array.ndim == 4 or segments:
        raise UserError(f"{path} is a segmentation: give an image.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path} has NaN, infinite or huge values: replace them before using it.")
    return Volume(array, affine, Kind.INTENSITY)


def read_label_map(path: Path) -> Volume:
    """A label map ``[i, j, k]``, int32, 0 is background; with its segments where the file has them.

    Layers of a .seg.nrrd are merged, a later segment over an earlier one; a label value that two
    layers share is renumbered for the later segment. Raises UserError as :func:`read_image` does,
    and for an empty map or values that are no labels.
    """
    array, affine, segments = _read(path)
    if array.ndim == 4:
        array, merged = merge_layers(array, segments)
    else:
        merged = [segment for _, segment in segments]
    values = _label_values(array, path)
    named = tuple(segment for segment in merged if segment.value in values)
    return Volume(array.astype(np.int32), affine, Kind.LABEL, named)


def has_image_suffix(path: Path) -> bool:
    """Whether the file name ends like a format that this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The file name without its image suffix: ``case 1.seg.nrrd`` -> ``case 1``."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


_Content = tuple[NDArray, NDArray[np.float64], list[tuple[int, Segment]]]
"""Array ``[i, j, k]`` (``[i, j, k, layer]`` for layers), RAS affine, segments with their layers."""


def _read(path: Path) -> _Content:
    try:
        is_folder = path.is_dir()
        if is_folder:
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}): check its permissions."
        ) from error
    try:
        if is_folder:
            return _read_dicom(path)
        suffix = _suffix(path)
        if suffix in _HEADERS:
            return _read_raw(path, _HEADERS[suffix])
        if suffix in _NRRD_SUFFIXES:
            return _read_nrrd(path)
    except (
        ValueError,
        KeyError,
        EOFError,
        OSError,
        zlib.error,
        RuntimeError,
        MemoryError,
    ) as error:
        raise UserError(f"{path} {_complaint(error, path)}") from error
    raise UserError(
        f"{path} has no known image format: use {', '.join(SUFFIXES)} or a DICOM folder."
    )


def _complaint(error: Exception, path: Path) -> str:
    """What a reader's exception means to the user; SimpleITK has but one type for all."""
    text = str(error).replace(str(path), "")
    if isinstance(error, MemoryError) or "allocate" in text:
        return "does not fit into memory: crop it to the region of interest or resample it."
    if "spacing" in text:
        return "has an unusable voxel spacing: correct its header."
    return (
        "cannot be read: it is damaged, incomplete or not what its name says; copy or save it "
        "again."
    )


def _read_raw(path: Path, parse: Callable[[BinaryIO, Path], Header]) -> _Content:
    with opened(path) as stream:
        header = parse(stream, path)
        _check_shape(header.shape, path)
        _check_affine(header.affine, path)
        return read_voxels(stream, header), header.affine, []


def _read_nrrd(path: Path) -> _Content:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    layers = reader.GetNumberOfComponents()
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    segments = parse_segments(metadata, layers)
    if layers > 1 and not segments:
        raise UserError(f"{path} has several values per voxel: give one scalar volume per file.")
    _check_shape(reader.GetSize(), path, layers)
    affine = _itk_affine(reader, path)
    array = sitk.GetArrayFromImage(reader.Execute())
    i, j, k = reader.GetSize()[:3]
    if layers > 1:
        return array.reshape(k, j, i, layers).transpose(2, 1, 0, 3), affine, segments
    return array.reshape(k, j, i).transpose(), affine, segments


def _read_dicom(folder: Path) -> _Content:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise UserError(f"{folder} is a folder without a DICOM series: give an image file.")
    if len(series) > 1:
        raise UserError(
            f"{folder} holds {len(series)} DICOM series: put the one to use into a folder of its "
            "own."
        )
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    # Else a tilted gantry's slices would be stacked upright.
    reader.ForceOrthogonalDirectionOff()
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{folder} is a series of colour pictures: give one of grey values.")
    _check_shape(image.GetSize(), folder)
    if len(names) > 1:
        _check_slices(reader, len(names), folder)
    affine = _itk_affine(image, folder)
    return sitk.GetArrayFromImage(image).transpose(), affine, []


def _itk_affine(image: sitk.Image | sitk.ImageFileReader, path: Path) -> NDArray[np.float64]:
    """The checked affine of a SimpleITK image, or of a file whose information has been read."""
    size = len(image.GetSize())
    direction = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    origin = LPS_TO_RAS @ np.array(image.GetOrigin()[:3])
    affine = affine_from(LPS_TO_RAS @ direction, image.GetSpacing()[:3], origin, path)
    _check_affine(affine, path)
    return affine


def _check_slices(reader: sitk.ImageSeriesReader, count: int, folder: Path) -> None:
    """Slices must be evenly spaced: SimpleITK takes their mean distance whatever is missing."""
    try:
        places = [reader.GetMetaData(n, "0020|0032").split("\\") for n in range(count)]
    except RuntimeError as error:
        raise UserError(
            f"{folder} has slices without a position: it is no DICOM series of a volume."
        ) from error
    gaps = np.linalg.norm(np.diff(np.array(places, float), axis=0), axis=1)
    usual = np.median(gaps)
    if usual == 0 or np.abs(gaps - usual).max() > _MAX_SLICE_GAP_DEVIATION * usual:
        raise UserError(
            f"{folder} has missing, doubled or unevenly spaced slices: complete the series, or "
            "resample it and save it as one file."
        )


def _check_shape(shape: tuple[int, ...], path: Path, layers: int = 1) -> None:
    shown = " x ".join(str(n) for n in shape)
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        raise UserError(f"{path} is {len(shape)}D ({shown}): give one 3D volume per file.")
    if len(shape) < 3:
        raise UserError(f"{path} is {len(shape)}D ({shown}): give a 3D volume.")
    if min(shape[:3]) < 2:
        raise UserError(
            f"{path} is less than 2 voxels thick ({shown}): give a volume of at least 2 voxels "
            "along each axis."
        )
    if math.prod(shape) * layers > MAX_VOXELS:
        raise UserError(
            f"{path} is too large ({shown}, more than {MAX_VOXELS:,} voxels): crop it to the "
            "region of interest or resample it."
        )


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any():
        raise UserError(f"{path} has a zero or undefined voxel spacing: correct its header.")
    axes = affine[:3, :3] / spacing
    cosines = axes.T @ axes - np.eye(3)
    if np.abs(cosines).max() > _MAX_COSINE:
        raise UserError(
            f"{path} has voxel axes that are not at right angles to each other: correct its header "
            "or resample it, with 3D Slicer for example."
        )


def _label_values(array: NDArray, path: Path) -> set[int]:
    """The values of a label map's array, 0 included where it occurs; UserError if no labels."""
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise UserError(f"{path} has NaN or infinite values: a label map holds whole numbers.")
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise UserError(
            f"{path} has fractional values, so it looks like an intensity image: give a label map "
            "of whole numbers."
        )
    if low < 0:
        raise UserError(f"{path} has negative values ({low:g}): labels are 0 and above.")
    if high > _MAX_LABEL:
        raise UserError(f"{path} has values up to {high:g}: labels are at most {_MAX_LABEL}.")
    values = np.unique(array.ravel("K"))
    if values.size > MAX_LABEL_VALUES:
        raise UserError(
            f"{path} has {values.size:,} different values, so it looks like an intensity image: "
            f"give a label map of at most {MAX_LABEL_VALUES} labels."
        )
    if high == 0:
        raise UserError(f"{path} is empty: label at least one voxel.")
    return {int(value) for value in values}


def _suffix(path: Path) -> str:
    """The longest image suffix that the file name ends with, or nothing."""
    return max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default="")
