"""A DICOM series, by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...compute.errors import UserError
from .content import Content, check_shape
from .itk import itk_affine

_MAX_SLICE_GAP_DEVIATION = 0.25
"""Relative to the usual gap between DICOM slices; rounded positions stay below it."""


def read_dicom(folder: Path) -> Content:
    """The one DICOM series of a folder. Raises UserError; RuntimeError for damaged files."""
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
    check_shape(image.GetSize(), folder)
    if len(names) > 1:
        _check_slices(reader, len(names), folder)
    affine = itk_affine(image, folder)
    return sitk.GetArrayFromImage(image).transpose(), affine, []


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
