"""Small volumes and files for tests: made by numpy, nibabel, SimpleITK or byte by byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from MedDiffusionLib.volumes.volume import Grid, Kind, Segment, Volume

SHAPE = (5, 6, 7)


def rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    """3 x 3 rotation by x, then y, then z degrees about the axes of those names."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad([x, y, z])):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def affine(
    axes: NDArray | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """4 x 4 of unit axes (columns, RAS; none is identity), spacing and origin in mm."""
    result = np.eye(4)
    result[:3, :3] = (np.eye(3) if axes is None else axes) * np.array(spacing)
    result[:3, 3] = origin
    return result


_ORIGIN = (-31.25, 17.5, 101.123)
_SPACING = (0.7, 1.25, 3.0)
AFFINES = {
    "identity": np.eye(4),
    "anisotropic": affine(spacing=_SPACING, origin=_ORIGIN),
    "LPS": affine(np.diag([-1.0, -1, 1]), _SPACING, _ORIGIN),
    "left-handed": affine(np.diag([-1.0, 1, 1]), _SPACING, _ORIGIN),
    "permuted": affine(np.eye(3)[[1, 2, 0]], _SPACING, _ORIGIN),
    "oblique": affine(rotation(20, -10, 35), _SPACING, _ORIGIN),
    "oblique LPS": affine(rotation(20, -10, 5) @ np.diag([-1.0, -1, 1]), _SPACING, _ORIGIN),
    "oblique left-handed": affine(rotation(20, -10, 35)[:, [0, 2, 1]], _SPACING, _ORIGIN),
}
"""Affines of every character, by name."""


def image(
    shape: tuple[int, int, int] = SHAPE, affine: NDArray[np.float64] = AFFINES["identity"]
) -> Volume:
    """An intensity volume of noise, float32."""
    noise = np.random.default_rng(0).normal(100, 30, shape)
    return Volume(noise.astype(np.float32), affine, Kind.INTENSITY)


def label_map(
    shape: tuple[int, int, int] = SHAPE,
    affine: NDArray[np.float64] = AFFINES["identity"],
    values: tuple[int, ...] = (0, 1, 2, 5),
    segments: tuple[Segment, ...] = (),
) -> Volume:
    """A label map of random voxels of these values, int32."""
    picks = np.random.default_rng(1).choice(values, shape)
    return Volume(picks.astype(np.int32), affine, Kind.LABEL, segments)


def box_map(
    shape: tuple[int, int, int],
    low: tuple[int, int, int],
    high: tuple[int, int, int],
    affine: NDArray[np.float64] = AFFINES["identity"],
) -> Volume:
    """A label map with label 1 in the voxels from ``low`` to ``high``, both included."""
    array = np.zeros(shape, np.int32)
    array[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
    return Volume(array, affine, Kind.LABEL)


def two_boxes(
    shape: tuple[int, int, int] = (20, 22, 24),
    affine: NDArray[np.float64] = AFFINES["identity"],
) -> Volume:
    """A label map with label 1 in a box in the middle and label 2 in another behind it."""
    array = np.zeros(shape, np.int32)
    i, j, k = (n // 2 for n in shape)
    array[i - 3 : i + 3, j - 4 : j, k - 2 : k + 2] = 1
    array[i - 3 : i + 3, j : j + 3, k - 2 : k + 2] = 2
    return Volume(array, affine, Kind.LABEL)


def surrounding(grid: Grid, axes: NDArray[np.float64], spacing: tuple[float, float, float]) -> Grid:
    """The grid of these axes and this spacing that covers all of another, off its lattice."""
    faces = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size])).reshape(3, -1).T
    along = grid.positions(faces) @ axes
    first = along.min(0) - np.array([0.31, 0.17, 0.23]) * spacing
    x, y, z = (int(n) for n in np.ceil((along.max(0) - first) / spacing) + 1)
    return Grid((x, y, z), affine(axes, spacing, tuple(axes @ first)))


def write_nifti(
    path: Path,
    array: NDArray,
    affine: NDArray[np.float64] = AFFINES["anisotropic"],
    edit: Callable[[nibabel.Nifti1Image], object] = lambda image: None,
    image_class: type = nibabel.Nifti1Image,
) -> Path:
    """Write a file with nibabel; ``edit`` may change the image before."""
    content = image_class(array, affine, dtype=array.dtype)
    edit(content)
    nibabel.save(content, path)
    return path


def by_nibabel(path: Path) -> Any:
    """A file as nibabel sees it; its ``affine``, ``header`` and ``get_fdata()``."""
    return nibabel.load(path)


def write_nrrd(path: Path, array: NDArray, fields: str = "", data: bytes | None = None) -> Path:
    """Write a raw little-endian NRRD by hand; ``fields`` are header lines that come on top.

    A field given there replaces the usual one; ``data`` replaces the voxels.
    """
    usual = {
        "type": array.dtype.name.replace("float32", "float"),
        "dimension": str(array.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(str(n) for n in array.shape),
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        "kinds": " ".join(["domain"] * array.ndim),
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    }
    given = [line for line in fields.splitlines() if line]
    replaced = {line.split(":")[0] for line in given}
    lines = [f"{key}: {value}" for key, value in usual.items() if key not in replaced]
    header = "\n".join(["NRRD0005", *lines, *given, "", ""])
    path.write_bytes(header.encode() + (array.tobytes("F") if data is None else data))
    return path


def write_mha(path: Path, array: NDArray, fields: str = "", data: bytes | None = None) -> Path:
    """Write an uncompressed MetaImage of int16 by hand; as :func:`write_nrrd`."""
    usual = {
        "ObjectType": "Image",
        "NDims": str(array.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 1",
        "DimSize": " ".join(str(n) for n in array.shape),
        "ElementType": "MET_SHORT",
    }
    given = [line for line in fields.splitlines() if line]
    replaced = {line.split(" =")[0] for line in given}
    lines = [f"{key} = {value}" for key, value in usual.items() if key not in replaced]
    if "ElementDataFile" not in replaced:
        given.append("ElementDataFile = LOCAL")
    header = "\n".join(["", *lines, *given, ""]).lstrip("\n")
    path.write_bytes(header.encode() + (array.tobytes("F") if data is None else data))
    return path


def write_dicom(
    folder: Path,
    array: NDArray,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    tilt: float = 0.0,
    skip: tuple[int, ...] = (),
    series: str = "1",
) -> Path:
    """Write an int16 array as a DICOM series of axial slices, LPS, one file a slice.

    ``tilt`` shifts each slice by so many mm along y, as a tilted gantry does; slices in ``skip``
    are left out.
    """
    folder.mkdir(exist_ok=True)
    root = "1.2.826.0.1.3680043.2.1125.5"
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in sorted(set(range(array.shape[2])) - set(skip)):
        slice_ = sitk.GetImageFromArray(array[:, :, k].T.astype(np.int16))
        slice_.SetSpacing(spacing[:2])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{root}.{series}.{k + 1}",
            "0008|0060": "CT",
            "0018|0050": f"{spacing[2]:g}",
            "0020|000d": root,
            "0020|000e": f"{root}.{series}",
            "0020|0013": str(k),
            "0020|0032": f"0\\{tilt * k:g}\\{spacing[2] * k:g}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for key, value in tags.items():
            slice_.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}-{k:03}.dcm"))
        writer.Execute(slice_)
    return folder


def shared_file(relative: str) -> Path:
    """A real file of the shared data, named from its data folder; skips the test without it."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MEDDIFFUSION_DATA", beside))
    for path in (folder / relative, folder / "data" / relative):
        if path.exists():
            return path
    pytest.skip(f"the shared data are not here: set MEDDIFFUSION_DATA to the folder of {relative}")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Drop the rights of root, whom no permission stops."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions work otherwise here")
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
