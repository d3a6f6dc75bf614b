"""The file formats of the field: arrays, affines and segments out of files.

NIfTI and MGH by nibabel, which keeps what SimpleITK's reader mends in silence (cut files, NaN,
zero spacing); all else by SimpleITK.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..compute.errors import UserError
from .segments import parse_segments
from .volume import LPS_TO_RAS, Segment

MAX_VOXELS = 2**29
"""Larger volumes are refused: their float32 output alone would fill 2 GiB."""
_MAX_COSINE = 1e-3
"""Of the angle between two axes; further from a right angle, a grid counts as sheared."""
_MAX_SLICE_GAP_DEVIATION = 0.25
"""Relative to the usual gap between DICOM slices; rounded positions stay below it."""
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_GIPL_HEADER_BYTES, _GIPL_SPACING_OFFSET = 256, 10
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_OR_GZIP = 47
"""Window bits that let zlib take either kind of stream."""

# Warnings would reach standard error, which 3D Slicer shows as errors of the module.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


Content = tuple[NDArray, NDArray[np.float64], list[tuple[int, Segment]]]
"""Array ``[i, j, k]`` (``[i, j, k, layer]`` for layers), RAS affine, segments with their layers."""


def read_file(path: Path) -> Content:
    """What is in a file, or in a folder that is one DICOM series.

    Raises UserError for what cannot be read whole or is no single 3D volume on a regular grid.
    """
    try:
        is_folder = path.is_dir()
        if is_folder:
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except FileNotFoundError as error:
        raise UserError("does not exist", "check the path", path=path) from error
    except OSError as error:
        raise UserError(
            f"cannot be opened ({error.strerror})", "check its permissions", path=path
        ) from error
    read = _read_dicom if is_folder else _READERS.get(image_suffix(path))
    if read is None:
        raise UserError(
            "has no known image format", f"use {', '.join(SUFFIXES)} or a DICOM folder", path=path
        )
    try:
        return read(path)
    except (ValueError, KeyError, EOFError, OSError, zlib.error, RuntimeError) as error:
        if "spacing" in str(error).replace(str(path), ""):
            raise UserError(
                "has an unusable voxel spacing", "correct its header", path=path
            ) from error
        raise UserError(
            "cannot be read",
            "it is damaged, incomplete or not what its name says; copy or save it again",
            path=path,
        ) from error


def _read_nibabel(path: Path) -> Content:
    try:
        import nibabel
        from nibabel import imageglobals
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
    except ImportError as error:
        raise UserError(
            "needs the Python package nibabel", "install it, or save the file as .nrrd", path=path
        ) from error
    with imageglobals.LoggingOutputSuppressor():
        try:
            image = nibabel.load(path)
            affine = np.array(image.affine, float)
            if isinstance(image, nibabel.Nifti1Image):
                _check_nifti_header(nibabel, image, path)
                affine[:3] *= _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
            shape = image.shape
            while len(shape) > 3 and shape[-1] == 1:
                shape = shape[:-1]
            _check_shape(shape, path)
            _check_affine(affine, path)
            array = np.asanyarray(image.dataobj).reshape(shape)
        except (ImageFileError, HeaderDataError) as e:
            raise ValueError(str(e)) from e
    if array.dtype.names or array.dtype.kind == "c":
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    return array, affine, []


def _check_nifti_header(nibabel: ModuleType, image: Any, path: Path) -> None:
    """Refuse what nibabel mends while loading: a spacing that is not positive, no orientation.

    With an sform the spacing is the sform's, whatever else the header says.
    """
    with nibabel.openers.ImageOpener(path) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    if not header["sform_code"] and not (header["pixdim"][1:4] > 0).all():
        raise UserError(
            "has a zero, negative or undefined voxel spacing", "correct its header", path=path
        )
    if not header["qform_code"] and not header["sform_code"]:
        raise UserError(
            "does not say how it lies in the body (its qform and sform codes are 0)",
            "open it in 3D Slicer, check left and right, and save it again",
            path=path,
        )


def _read_itk(path: Path) -> Content:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    is_metaimage = image_suffix(path) in (".mha", ".mhd")
    fields, data = _metaimage_parts(path) if is_metaimage else ({}, b"")
    if image_suffix(path).endswith(("nrrd", ".nhdr")):
        _check_nrrd_spacings(path)
    reader.ReadImageInformation()
    layers = reader.GetNumberOfComponents()
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    segments = parse_segments(metadata, layers)
    if layers > 1 and not segments:
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    _check_shape(reader.GetSize(), path, layers)
    affine = _itk_affine(reader, path)
    voxel = sitk.GetArrayFromImage(
        sitk.Image([1, 1], reader.GetPixelID(), layers if layers > 1 else 0)
    )
    voxel_bytes = math.prod(reader.GetSize()) * voxel.nbytes
    if is_metaimage:
        _check_metaimage(fields, data, voxel_bytes, path)
    elif image_suffix(path) in (".gipl", ".gipl.gz"):
        _check_gipl(path, voxel_bytes)
    array = sitk.GetArrayFromImage(reader.Execute())
    kji = array.shape[-4:-1] if layers > 1 else array.shape[-3:]
    axes = (2, 1, 0, 3) if layers > 1 else (2, 1, 0)
    return array.reshape(kji + (layers,) * (layers > 1)).transpose(axes), affine, segments


def _check_nrrd_spacings(path: Path) -> None:
    """Raise ValueError for spacings that are not positive, whose sign SimpleITK drops."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                break
            if line.startswith(b"spacings:") and min(map(float, line.split()[1:])) <= 0:
                raise ValueError("spacing")


def _check_gipl(path: Path, voxel_bytes: int) -> None:
    """Raise for what SimpleITK takes in silence: a cut file, a spacing that is not positive."""
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        content = gzip.decompress(content)
    if len(content) < _GIPL_HEADER_BYTES + voxel_bytes:
        raise EOFError("voxels are missing")
    if not (np.frombuffer(content, ">f4", 3, _GIPL_SPACING_OFFSET) > 0).all():
        raise ValueError("spacing")


def _metaimage_parts(path: Path) -> tuple[dict[str, list[str]], bytes]:
    """The header's fields, each split into words, and the voxels as they are stored."""
    text, separator, rest = path.read_bytes().partition(b"ElementDataFile")
    where, _, data = rest.partition(b"\n")
    if not separator:
        raise ValueError("no MetaImage header")
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    fields = {key.strip(): value.split() for key, _, value in lines}
    if not fields.get("DimSize"):
        raise ValueError("no sizes")
    name = where.decode("utf-8").strip(" =\r")
    return fields, data if name == "LOCAL" else (path.parent / name).read_bytes()


def _check_metaimage(
    fields: dict[str, list[str]], data: bytes, voxel_bytes: int, path: Path
) -> None:
    """Raise for what SimpleITK mends in silence: a cut file, a spacing with a wrong sign."""
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize") or ["1"]
    if min(map(float, spacing)) <= 0:
        raise UserError(
            "has a zero, negative or undefined voxel spacing", "correct its header", path=path
        )
    if fields.get("BinaryData", ["True"])[0].lower() not in ("true", "1"):
        raise ValueError("voxels as text")
    if fields.get("CompressedData", [""])[0].lower() in ("true", "1"):
        inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
        data = inflater.decompress(data)
        if not inflater.eof:
            raise EOFError("the compressed voxels are cut off")
    if len(data) < voxel_bytes:
        raise EOFError("voxels are missing")


def _read_dicom(folder: Path) -> Content:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise UserError("is a folder without a DICOM series", "give an image file", path=folder)
    if len(series) > 1:
        raise UserError(
            f"holds {len(series)} DICOM series",
            "put the one to use into a folder of its own",
            path=folder,
        )
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    # Else a tilted gantry's slices would be stacked upright.
    reader.ForceOrthogonalDirectionOff()
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError("is a series of colour pictures", "give one of grey values", path=folder)
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
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = origin
    _check_affine(affine, path)
    return affine


def _check_slices(reader: sitk.ImageSeriesReader, count: int, folder: Path) -> None:
    """Slices must be evenly spaced: SimpleITK takes their mean distance whatever is missing."""
    try:
        places = [reader.GetMetaData(n, "0020|0032").split("\\") for n in range(count)]
    except RuntimeError as error:
        raise UserError(
            "has slices without a position", "it is no DICOM series of a volume", path=folder
        ) from error
    gaps = np.linalg.norm(np.diff(np.array(places, float), axis=0), axis=1)
    usual = np.median(gaps)
    if usual == 0 or np.abs(gaps - usual).max() > _MAX_SLICE_GAP_DEVIATION * usual:
        raise UserError(
            "has missing, doubled or unevenly spaced slices",
            "complete the series, or resample it and save it as one file",
            path=folder,
        )


def _check_shape(shape: tuple[int, ...], path: Path, layers: int = 1) -> None:
    shown = " x ".join(str(n) for n in shape)
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        raise UserError(f"is {len(shape)}D ({shown})", "give one 3D volume per file", path=path)
    if len(shape) < 3:
        raise UserError(f"is {len(shape)}D ({shown})", "give a 3D volume", path=path)
    if min(shape[:3]) < 2:
        raise UserError(
            f"is less than 2 voxels thick ({shown})",
            "give a volume of at least 2 voxels along each axis",
            path=path,
        )
    if math.prod(int(n) for n in shape) * layers > MAX_VOXELS:
        raise UserError(
            f"is too large ({shown}, more than {MAX_VOXELS:,} voxels)",
            "crop it to the region of interest or resample it",
            path=path,
        )


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any():
        raise UserError("has a zero or undefined voxel spacing", "correct its header", path=path)
    axes = affine[:3, :3] / spacing
    cosines = axes.T @ axes - np.eye(3)
    if np.abs(cosines).max() > _MAX_COSINE:
        raise UserError(
            "has voxel axes that are not at right angles to each other",
            "correct its header or resample it, with 3D Slicer for example",
            path=path,
        )


def image_suffix(path: Path) -> str:
    """The longest image suffix that the file name ends with, or nothing."""
    return max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default="")


_READERS: dict[str, Callable[[Path], Content]] = {
    ".seg.nrrd": _read_itk,
    ".nrrd": _read_itk,
    ".nhdr": _read_itk,
    ".nii.gz": _read_nibabel,
    ".nii": _read_nibabel,
    ".mha": _read_itk,
    ".mhd": _read_itk,
    ".mgz": _read_nibabel,
    ".mgh": _read_nibabel,
    ".gipl.gz": _read_itk,
    ".gipl": _read_itk,
}
SUFFIXES = tuple(_READERS)
