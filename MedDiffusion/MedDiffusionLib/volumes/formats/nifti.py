"""NIfTI and MGH, by nibabel."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...compute.errors import UserError
from .content import Content, check_affine, check_shape, unusable_spacing

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> Content:
    """A NIfTI or MGH file. Raises UserError, or what nibabel raises for a damaged file."""
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
                _check_header(nibabel, image, path)
                affine[:3] *= _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
            shape = image.shape
            while len(shape) > 3 and shape[-1] == 1:
                shape = shape[:-1]
            check_shape(shape, path)
            check_affine(affine, path)
            array = np.asanyarray(image.dataobj).reshape(shape)
        except (ImageFileError, HeaderDataError) as e:
            raise ValueError(str(e)) from e
    if array.dtype.names or array.dtype.kind == "c":
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    return array, affine, []


def _check_header(nibabel: ModuleType, image: Any, path: Path) -> None:
    """Refuse what nibabel mends while loading: a spacing that is not positive, no orientation.

    With an sform the spacing is the sform's, whatever else the header says.
    """
    with nibabel.openers.ImageOpener(path) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    if not header["sform_code"] and not (header["pixdim"][1:4] > 0).all():
        raise unusable_spacing(path)
    if not header["qform_code"] and not header["sform_code"]:
        raise UserError(
            "does not say how it lies in the body (its qform and sform codes are 0)",
            "open it in 3D Slicer, check left and right, and save it again",
            path=path,
        )
