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
from ..compute.parsing import shortened
from .resampling import to_sitk
from .segments import segment_fields
from .volume import Kind, Volume

_LONGEST_NAME = 255
"""Bytes of a file name where the file system does not tell."""


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume in the format that the file name ends with (``WRITABLE_SUFFIXES``).

    Intensities are stored as float32, labels as the smallest unsigned integer that holds them; a
    .seg.nrrd also names its segments. A file of that name is replaced.

    Raises UserError for another suffix, intensities in a .seg.nrrd, a folder that does not exist
    or may not be written, and a full disk; ValueError for labels below 0.
    """
    check_format(path, volume.kind)
    with writing(path), atomic(path) as temporary:
        put_volume(temporary, volume)


def put_volume(path: Path, volume: Volume) -> None:
    """As :func:`write_volume`, but straight away, not only once it is whole; raises OSError."""
    _WRITERS[_suffix(path)](path, _stored(volume))


def check_format(path: Path, kind: Kind) -> None:
    """Raise UserError unless a volume of this kind can be written under the file name."""
    suffix = _suffix(path)
    if not suffix:
        raise UserError(
            "has no format that can be written", f"use {', '.join(WRITABLE_SUFFIXES)}", path=path
        )
    if path.name.lower() == suffix:
        raise UserError("is only the end of a file name", "put a name before it", path=path)
    if suffix == ".seg.nrrd" and kind is not Kind.LABEL:
        raise UserError("is named like a segmentation", "name an image .nrrd", path=path)


def check_writable(path: Path) -> None:
    """Raise UserError unless a file of this name could be made: the folder exists and lets us."""
    with writing(path):
        if path.is_dir():
            raise UserError("is a folder", "give a file name", path=path)
        check_name(path)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def check_name(path: Path) -> None:
    """Raise UserError for a file name that the folder's file system would not take."""
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = _LONGEST_NAME
    if len(os.fsencode(path.name)) > longest:
        raise UserError(
            f"The file name {shortened(path.name)} is longer than {longest} bytes",
            "give the input or the output a shorter name",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that says why ``path`` cannot be written."""
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


def _suffix(path: Path) -> str:
    """What a file name that can be written ends with; empty for another."""
    return next((s for s in WRITABLE_SUFFIXES if path.name.lower().endswith(s)), "")


def _write_itk(path: Path, volume: Volume) -> None:
    image = to_sitk(volume)
    if path.name.endswith(".seg.nrrd"):
        for key, value in segment_fields(volume).items():
            image.SetMetaData(key, value)
    put_image(path, image)


def put_image(path: Path, image: sitk.Image) -> None:
    """Write an image by SimpleITK; raises OSError unless it can be read back the same."""
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        written = sitk.ReadImage(str(path))
        # SimpleITK reports success on a full disk.
        views = [sitk.GetArrayViewFromImage(one) for one in (written, image)]
        whole = np.array_equal(*views)
    except RuntimeError as error:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    if not whole:
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
        return Volume(volume.array.astype(np.float32, copy=False), volume.affine, volume.kind)
    statistics = volume.label_statistics
    low, high = min(statistics.counts), max(statistics.counts)
    if low < 0:
        raise ValueError(f"{low} is no label")
    array = volume.array.astype(np.min_scalar_type(high))
    stored = Volume(array, volume.affine, volume.kind, volume.segments)
    stored.remember(statistics)
    return stored
