"""Reading images and label maps from the formats of the field, with every check before any work.

NIfTI-1/2, NRRD, .seg.nrrd, MHA/MHD, GIPL and DICOM series by SimpleITK, MGH/MGZ by nibabel.
All functions raise UserError with one sentence for input that cannot be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .errors import UserError
from .resampling import affine_of
from .volume import Kind, Segment, Volume

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz",
            ".mgz", ".mgh")  # fmt: skip
MAX_VOXELS = 2**29
"""Larger volumes are refused: their float32 output alone would fill 2 GiB."""
MAX_LABEL_VALUES = 256
_MGH_SUFFIXES = (".mgz", ".mgh")

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_image(path: Path) -> Volume:
    """An intensity volume, float32; a folder is read as one DICOM series."""
    array, affine, _ = _read(path)
    if not np.isfinite(array).all():
        raise UserError(f"{path} has NaN or infinite values: replace them before using it.")
    return Volume(array.astype(np.float32), affine, Kind.INTENSITY)


def read_label_map(path: Path) -> Volume:
    """A label map, int32, with its segments where the file names them.

    Layers of a .seg.nrrd are merged, a later segment over an earlier one; a label value that two
    layers share is renumbered for the later segment.
    """
    array, affine, metadata = _read(path)
    segments = _segments(metadata, path)
    if array.ndim == 4:
        array, segments = _merge_layers(array, metadata, segments)
    _check_labels(array, path)
    found = {int(v) for v in np.unique(array)}
    named = tuple(s for s in segments.values() if s.value in found)
    return Volume(array.astype(np.int32), affine, Kind.LABEL, named)


def has_image_suffix(path: Path) -> bool:
    """Whether the file name ends like a format that this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The file name without its image suffix: ``case 1.seg.nrrd`` -> ``case 1``."""
    endings = sorted((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(endings[-1])] if endings else path.stem


def _read(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, str]]:
    """Array ``[i, j, k]`` (``[i, j, k, layer]`` for layered files), RAS affine, metadata."""
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path.")
    if path.name.lower().endswith(_MGH_SUFFIXES):
        return _read_mgh(path)
    try:
        reader: Any = _series_reader(path) if path.is_dir() else _file_reader(path)
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    _check_shape(image.GetSize(), path)
    affine = affine_of(image)
    _check_affine(affine, path)
    array = sitk.GetArrayFromImage(image)
    layered = image.GetNumberOfComponentsPerPixel() > 1
    axes = (2, 1, 0, 3) if layered else (2, 1, 0)
    metadata = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    if layered and not any(key.startswith("Segment0_") for key in metadata):
        raise UserError(f"{path} has several values per voxel: give one scalar volume per file.")
    return array.transpose(axes), affine, metadata


def _file_reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    _check_shape(reader.GetSize(), path)
    return reader


def _series_reader(folder: Path) -> sitk.ImageSeriesReader:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise UserError(f"{folder} is a folder without a DICOM series: give an image file.")
    if len(series) > 1:
        raise UserError(
            f"{folder} holds {len(series)} DICOM series: put the one to use into a folder of its own."
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    return reader


def _read_mgh(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, str]]:
    try:
        import nibabel
    except ImportError as error:
        raise UserError(
            f"{path} needs nibabel to be read: run 'pip install nibabel', or convert it to NIfTI."
        ) from error
    try:
        image = nibabel.load(path)
        _check_shape(image.shape, path)
        array = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise _unreadable(path, error) from error
    _check_affine(image.affine, path)
    return array.reshape(array.shape[:3]), image.affine, {}


def _unreadable(path: Path, error: Exception) -> UserError:
    text = str(error)
    geometry = ("direction", "orthonormal", "spacing", "pixdim", "determinant")
    if any(word in text.lower() for word in geometry):
        return UserError(
            f"{path} has an unusable geometry (its axes or spacing in the header are zero, negative "
            "or not at right angles): correct the header or resample the image."
        )
    return UserError(
        f"{path} cannot be read as an image: it is damaged, cut off or of an unknown format; "
        f"use {', '.join(SUFFIXES)} or a DICOM folder."
    )


def _check_shape(size: tuple[int, ...], path: Path) -> None:
    shape = " x ".join(str(n) for n in size)
    if len(size) > 3 and any(n != 1 for n in size[3:]):
        raise UserError(f"{path} is {len(size)}D ({shape}): give one 3D volume per file.")
    if len(size) < 3:
        raise UserError(f"{path} is {len(size)}D ({shape}): a 3D volume is needed.")
    if min(size[:3]) < 2:
        raise UserError(
            f"{path} is one voxel thin ({shape}): a volume of at least 2 voxels along each axis is "
            "needed."
        )
    if int(np.prod([int(n) for n in size], dtype=object)) > MAX_VOXELS:
        raise UserError(
            f"{path} is too large ({shape}, more than {MAX_VOXELS:,} voxels): crop it to the region "
            "of interest or resample it."
        )


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any():
        raise UserError(f"{path} has a zero or undefined voxel spacing: correct its header.")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise UserError(f"{path} has a singular direction matrix: correct its header.")


def _check_labels(array: NDArray, path: Path) -> None:
    if not np.isfinite(array).all():
        raise UserError(f"{path} has NaN or infinite values: a label map holds whole numbers.")
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise UserError(
            f"{path} has fractional values, so it looks like an intensity image: give a label map "
            "of whole numbers."
        )
    values = np.unique(array)
    if values.size > MAX_LABEL_VALUES:
        raise UserError(
            f"{path} has {values.size:,} different values, so it looks like an intensity image: "
            f"give a label map of at most {MAX_LABEL_VALUES} labels."
        )
    if values[0] < 0:
        raise UserError(f"{path} has negative values ({values[0]:g}): labels are 0 and above.")
    if not values.any():
        raise UserError(f"{path} is empty: label at least one voxel.")


def _segments(metadata: dict[str, str], path: Path) -> dict[int, Segment]:
    """The segments of a .seg.nrrd by their position in the file."""
    segments: dict[int, Segment] = {}
    while (prefix := f"Segment{len(segments)}_") + "ID" in metadata:
        try:
            value = int(metadata.get(prefix + "LabelValue", str(len(segments) + 1)))
        except ValueError as error:
            raise UserError(f"{path} has a segment whose label value is not a number.") from error
        name = metadata.get(prefix + "Name", metadata[prefix + "ID"])
        segments[len(segments)] = Segment(value, name, _terminology(metadata, prefix))
    return segments


def _terminology(metadata: dict[str, str], prefix: str) -> str:
    """``SCT:12738006`` from a segment's terminology tag: context~category~type~..., each a ^ triple."""
    for entry in metadata.get(prefix + "Tags", "").split("|"):
        key, _, value = entry.partition(":")
        parts = value.split("~")
        if key == "TerminologyEntry" and len(parts) > 2:
            scheme, code, *_ = [*parts[2].split("^"), "", ""]
            return f"{scheme}:{code}" if code else ""
    return ""


def _merge_layers(
    array: NDArray, metadata: dict[str, str], segments: dict[int, Segment]
) -> tuple[NDArray, dict[int, Segment]]:
    merged = np.zeros(array.shape[:3], np.int32)
    taken: set[int] = set()
    result: dict[int, Segment] = {}
    for position, segment in segments.items():
        layer = int(metadata.get(f"Segment{position}_Layer", "0"))
        value = segment.value
        if value in taken:
            value = max(taken | {s.value for s in segments.values()}) + 1
        taken.add(value)
        merged[array[..., layer] == segment.value] = value
        result[position] = Segment(value, segment.name, segment.code)
    return merged, result
