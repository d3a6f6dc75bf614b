"""Writing volumes as NIfTI, NRRD or MetaImage: whole or not at all, geometry exact."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..compute.errors import UserError
from ..compute.files import atomic
from .resampling import to_sitk
from .segments import segment_fields
from .volume import Kind, Volume


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume in the format that the file name ends with (``WRITABLE_SUFFIXES``).

    Intensities are stored as float32, labels as the smallest unsigned integer that holds them; a
    .seg.nrrd also names its segments. A file of that name is replaced.

    Raises UserError for another suffix, intensities in a .seg.nrrd, a folder that does not exist
    or may not be written, and a full disk; ValueError for labels below 0.
    """
    suffix = next((s for s in WRITABLE_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise UserError(
            "has no format that can be written", f"use {', '.join(WRITABLE_SUFFIXES)}", path=path
        )
    if suffix == ".seg.nrrd" and volume.kind is not Kind.LABEL:
        raise UserError("is named like a segmentation", "name an image .nrrd", path=path)
    stored = _stored(volume)
    with _sentences(path), atomic(path) as temporary:
        _WRITERS[suffix](temporary, stored)


def check_writable(path: Path) -> None:
    """Raise UserError unless a file of this name could be made: the folder exists and lets us."""
    with _sentences(path):
        if path.is_dir():
            raise UserError("is a folder", "give a file name", path=path)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"The folder {path.parent} does not exist", "make it first") from error
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})",
            "choose a place where you may write and there is room",
            path=path,
        ) from error


def _write_nifti(path: Path, volume: Volume) -> None:
    try:
        import nibabel
    except ImportError as error:
        raise UserError(
            "Writing NIfTI needs the Python package nibabel", "install it, or choose .nrrd"
        ) from error
    image = nibabel.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    # Scanner coordinates in both forms, so that every program finds them.
    image.set_sform(volume.affine, "scanner")
    image.set_qform(volume.affine, "scanner")
    image.to_filename(path)


def _write_itk(path: Path, volume: Volume) -> None:
    image = to_sitk(volume)
    if path.name.endswith(".seg.nrrd"):
        for key, value in segment_fields(volume).items():
            image.SetMetaData(key, value)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    # SimpleITK reports success on a full disk.
    if not np.array_equal(written, sitk.GetArrayFromImage(image)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_WRITERS: dict[str, Callable[[Path, Volume], None]] = {
    ".nii.gz": _write_nifti,
    ".nii": _write_nifti,
    ".seg.nrrd": _write_itk,
    ".nrrd": _write_itk,
    ".mha": _write_itk,
}
WRITABLE_SUFFIXES = tuple(_WRITERS)


def _stored(volume: Volume) -> Volume:
    """The volume with its numbers in the type in which they are stored."""
    if volume.kind is Kind.INTENSITY:
        return Volume(volume.array.astype(np.float32), volume.affine, volume.kind)
    statistics = volume.label_statistics
    low, high = min(statistics.counts), max(statistics.counts)
    if low < 0:
        raise ValueError(f"{low} is no label")
    array = volume.array.astype(np.min_scalar_type(high))
    stored = Volume(array, volume.affine, volume.kind, volume.segments)
    stored.remember(statistics)
    return stored
