"""Any format that SimpleITK reads, with what all of them need checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...compute.errors import UserError
from ..segments import parse_segments
from ..volume import LPS_TO_RAS
from .content import Content, check_affine, check_shape

# Warnings would reach standard error, which 3D Slicer shows as errors of the module.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_itk(path: Path, check: Callable[[int], None] = lambda voxel_bytes: None) -> Content:
    """A file of any format of ITK's.

    ``check`` gets the number of bytes that all voxels take, before they are read, and may raise.
    Raises UserError; ValueError or RuntimeError for a damaged file.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    layers = reader.GetNumberOfComponents()
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    segments = parse_segments(metadata, layers)
    if layers > 1 and not segments:
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    check_shape(reader.GetSize(), path, layers)
    affine = itk_affine(reader, path)
    voxel = sitk.GetArrayFromImage(
        sitk.Image([1, 1], reader.GetPixelID(), layers if layers > 1 else 0)
    )
    check(math.prod(reader.GetSize()) * voxel.nbytes)
    array = sitk.GetArrayFromImage(reader.Execute())
    kji = array.shape[-4:-1] if layers > 1 else array.shape[-3:]
    axes = (2, 1, 0, 3) if layers > 1 else (2, 1, 0)
    return array.reshape(kji + (layers,) * (layers > 1)).transpose(axes), affine, segments


def itk_affine(image: sitk.Image | sitk.ImageFileReader, path: Path) -> NDArray[np.float64]:
    """The checked affine of a SimpleITK image, or of a file whose information has been read."""
    size = len(image.GetSize())
    direction = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    origin = LPS_TO_RAS @ np.array(image.GetOrigin()[:3])
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = origin
    check_affine(affine, path)
    return affine
