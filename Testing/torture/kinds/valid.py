"""Odd inputs that are right: each gives the volume of the plain label map, where it belongs."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from data_factory import affine, rotation, write_dicom, write_nifti, write_nrrd
from torture.judge import Broken, Geometry, read_result
from torture.stage import Stage
from torture.things import AFFINE, SIZE, Things, label_array

from . import fuzz

Make = Callable[[Things, Path], Path]
_PLAIN = Geometry(SIZE, AFFINE)


def play(stage: Stage) -> None:
    """One of the catalogue: the right geometry and, where nothing else differs, the same voxels."""
    name, make, geometry, same, more = stage.pick(CATALOGUE)
    (stage.folder / "in").mkdir()
    source = make(stage.things, stage.folder / "in")
    try:
        stage.synthesize(
            source.relative_to(stage.folder), "--steps", 1, *more, made=True, geometry=geometry
        )
        if same:
            stage.things.label_map(stage.path("plain/a.nii.gz"))
            stage.synthesize("plain/a.nii.gz", "--steps", 1, output="plain/v.nii.gz", made=True)
            found, _ = read_result(stage.folder / "out/v.nii.gz")
            wanted, _ = read_result(stage.folder / "plain/v.nii.gz")
            stage.hold(np.array_equal(found, wanted), "not the voxels of the plain label map")
    except Broken as broken:
        raise Broken(f"{name}: {broken}") from broken


def determinism(stage: Stage) -> None:
    """The same command, twice, with and without a user folder: the same bytes."""
    stage.things.label_map(stage.path("in/a.nii.gz"))
    homes: list[dict[str, str | None]] = [
        {},
        {},
        {"HOME": None, "MEDDIFFUSION_HOME": "/nonexistent"},
    ]
    for n, environment in enumerate(homes):
        stage.synthesize(
            "in/a.nii.gz", "--steps", 2, output=f"out{n}/v.nii.gz", made=True, geometry=_PLAIN,
            environment=environment, real=True,
        )  # fmt: skip
    for name in ("v.nii.gz", "v.json"):
        made = {(stage.folder / f"out{n}" / name).read_bytes() for n in range(3)}
        stage.hold(len(made) == 1, f"{len(made)} different {name} of one command")


def _named(name: str) -> Make:
    def make(things: Things, folder: Path) -> Path:
        suffix = next(s for s in reversed(fuzz.SUFFIXES) if name.lower().endswith(s))
        fuzz.write(things, folder / f"whole{suffix}")
        return (folder / f"whole{suffix}").rename(folder / name)

    return make


def _typed(dtype: str, name: str = "a.nii") -> Make:
    def make(things: Things, folder: Path) -> Path:
        return write_nifti(folder / name, label_array().astype(dtype), AFFINE)

    return make


def _big_endian(things: Things, folder: Path) -> Path:
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(label_array().astype(">i2"), AFFINE, header)
    nibabel.save(image, folder / "a.nii")
    return folder / "a.nii"


def _itk(dtype: str, suffix: str, compress: bool) -> Make:
    def make(things: Things, folder: Path) -> Path:
        plain = sitk.ReadImage(str(things.label_map(folder / "plain.mha")))
        (folder / "plain.mha").unlink()
        image = sitk.GetImageFromArray(sitk.GetArrayFromImage(plain).astype(dtype))
        image.CopyInformation(plain)
        sitk.WriteImage(image, str(folder / f"a{suffix}"), useCompression=compress)
        return folder / f"a{suffix}"

    return make


def _scaled(things: Things, folder: Path) -> Path:
    image = nibabel.Nifti1Image((label_array() * 2).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 0)
    nibabel.save(image, folder / "a.nii")
    return folder / "a.nii"


def _nifti2(things: Things, folder: Path) -> Path:
    nibabel.save(nibabel.Nifti2Image(label_array(), AFFINE), folder / "a.nii")
    return folder / "a.nii"


def _one_more_axis(things: Things, folder: Path) -> Path:
    return write_nifti(folder / "a.nii", label_array()[..., None], AFFINE)


def _two_members(things: Things, folder: Path) -> Path:
    """A gzip file of two parts, as parallel compressors write."""
    content = write_nifti(folder / "w.nii", label_array(), AFFINE).read_bytes()
    (folder / "w.nii").unlink()
    half = len(content) // 2
    (folder / "a.nii.gz").write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    return folder / "a.nii.gz"


def _linked(things: Things, folder: Path) -> Path:
    things.label_map(folder / "real.nii.gz")
    (folder / "a.nii.gz").symlink_to("real.nii.gz")
    return folder / "a.nii.gz"


def _read_only(things: Things, folder: Path) -> Path:
    path = things.label_map(folder / "a.nii.gz")
    path.chmod(0o444)
    return path


def _dicom(things: Things, folder: Path) -> Path:
    return write_dicom(folder / "series", label_array(), (1.0, 1.0, 1.25))


def _nrrd_text(encoding: str) -> Make:
    def make(things: Things, folder: Path) -> Path:
        voxels = label_array()
        text = " ".join(map(str, voxels.ravel("F"))).encode()
        data = text if encoding == "ascii" else voxels.tobytes("F").hex().encode()
        fields = (
            f"encoding: {encoding}\ntype: unsigned char\nspace: right-anterior-superior\n"
            "space directions: (-1,0,0) (0,-1,0) (0,0,1.25)\nspace origin: (-31.25,17.5,10)"
        )
        return write_nrrd(folder / "a.nrrd", voxels, fields, data)

    return make


def _placed(matrix: NDArray[np.float64], array: NDArray | None = None) -> tuple[Make, Geometry]:
    """The label map somewhere else, and where that is."""
    voxels = label_array() if array is None else array
    x, y, z = voxels.shape

    def make(things: Things, folder: Path) -> Path:
        return write_nifti(folder / "a.nii.gz", voxels, matrix)

    return make, Geometry((x, y, z), matrix)


def _extra_labels(things: Things, folder: Path) -> Path:
    array = label_array().astype(np.int32)
    array[0, 0, 0] = 2_000_000
    return write_nifti(folder / "a.nii.gz", array, AFFINE)


def _swapped(things: Things, folder: Path) -> Path:
    array = label_array()
    return write_nifti(folder / "a.nii.gz", np.where(array, 3 - array, 0).astype(np.uint8), AFFINE)


def _wide(things: Things, folder: Path) -> Path:
    return write_nifti(folder / "a.nii.gz", _wide_array(), AFFINE)


def _wide_array() -> NDArray[np.uint8]:
    array = np.zeros((60, 20, 20), np.uint8)
    array[5:55, 6:10, 8:12], array[5:55, 10:14, 8:12] = 1, 2
    return array


_PLACES: dict[str, NDArray[np.float64]] = {
    "RAS": affine(np.eye(3), (1, 1, 1), (0, 0, 0)),
    "left-handed": affine(np.diag([-1.0, 1, 1]), (0.7, 1.25, 3.0), (1, 2, 3)),
    "permuted": affine(np.eye(3)[[1, 2, 0]], (0.7, 1.25, 3.0), (1, 2, 3)),
    "oblique": affine(rotation(20, -10, 35), (0.7, 1.25, 3.0), (1, 2, 3)),
    "oblique left-handed": affine(rotation(20, -10, 35)[:, [0, 2, 1]], (0.9, 1, 2), (1, 2, 3)),
    "far away": affine(np.eye(3), (1, 1, 1), (1e5, -1e5, 1e5)),
    "fine": affine(np.eye(3), (0.05, 0.05, 0.05), (0, 0, 0)),
    "coarse": affine(np.eye(3), (4, 4, 4), (0, 0, 0)),
    "thick slices": affine(np.eye(3), (0.4, 0.4, 9), (0, 0, 0)),
}
_LABELS_SWAPPED = ("--label", "1=posterior", "--label", "2=anterior")
_ONE = label_array() * (label_array() == 1)

CATALOGUE: list[tuple[str, Make, Geometry, bool, tuple[str, ...]]] = [
    *((f"voxels of {dtype}", _typed(dtype), _PLAIN, True, ())
      for dtype in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
                    "float32", "float64")),
    *((f"{dtype} {suffix}", _itk(dtype, suffix, compress), _PLAIN, True, ())
      for dtype, suffix, compress in (
          ("uint8", ".nrrd", True), ("int16", ".nrrd", False), ("float32", ".mha", True),
          ("float64", ".mhd", False), ("uint16", ".mhd", True), ("int32", ".nhdr", False),
          ("uint8", ".nhdr", True), ("int64", ".nrrd", True), ("int16", ".gipl", False))),
    *((f"named {name!r}", _named(name), _PLAIN, True, ()) for name in (
        "a.NII.GZ", "A.Nrrd", "a b.mha", "\u00e9.nii.gz", "e\u0301.nrrd", "\U0001f9e0.mha",
        "a.b.c.nii",
        "a.mgz", "a.mgh", "a.gipl.gz", "a.seg.nrrd", "-a.nii.gz", "a=b;c.nii", "%s.nrrd",
    )),
    ("big-endian", _big_endian, _PLAIN, True, ()), ("scaled", _scaled, _PLAIN, True, ()),
    ("NIfTI-2", _nifti2, _PLAIN, True, ()), ("four axes, the last of 1", _one_more_axis, _PLAIN,
    True, ()),
    ("two gzip members", _two_members, _PLAIN, True, ()), ("a link", _linked, _PLAIN, True, ()),
    ("a read-only file", _read_only, _PLAIN, True, ()),
    ("NRRD as text", _nrrd_text("ascii"), _PLAIN, True, ()),
    ("NRRD as hexadecimal", _nrrd_text("hex"), _PLAIN, True, ()),
    ("a DICOM series", _dicom, Geometry(SIZE, affine(np.diag([-1.0, -1, 1]), (1, 1, 1.25))), False,
    ()),
    ("labels told", _swapped, _PLAIN, True, _LABELS_SWAPPED),
    ("a label left out", _extra_labels, _PLAIN, False, ("--label", "2000000=background")),
    ("several windows", _wide, Geometry((60, 20, 20), AFFINE), False, ()),
    *((f"lies {name}", *_placed(matrix), False, ()) for name, matrix in _PLACES.items()),
    ("one label alone", *_placed(AFFINE, _ONE), False, ()),
    ("one voxel", *_placed(AFFINE, _ONE * (np.arange(12) == 5)[:, None, None]
                           * (np.arange(14) == 4)[:, None] * (np.arange(13) == 6)), False, ()),
    ("labels at the edge", *_placed(AFFINE, np.ones(SIZE, np.uint8)), False, ()),
    ("two voxels thin", *_placed(AFFINE, label_array()[:, :, 5:7]), False, ()),
]  # fmt: skip
"""Name, what makes it, where it lies, whether its voxels are those of the plain map, options."""
