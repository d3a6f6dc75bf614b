"""A catalogue of files that cannot be used, each with words that its refusal must contain."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from data_factory import AFFINES, SHAPE, write_dicom, write_mha, write_nifti, write_nrrd

COUNT = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
LABELS = (COUNT % 4).astype(np.int16)
_NOISE = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
_DEFLATED = zlib.compress(_NOISE.tobytes("F"))
_PAIR = np.stack([LABELS] * 2, -1)
_SHEAR = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_SINGULAR = _SHEAR[:, [0, 0, 2, 3]]
_OLD_NRRD = "NRRD0005\ntype: short\ndimension: 3\nsizes: 5 6 7\nendian: little\nencoding: raw\n"
_HUGE = (2000, 2000, 2000)

Make = Callable[[Path], Path]
"""Makes a file in a folder."""


def _bytes(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _nifti(
    array: NDArray,
    affine: NDArray[np.float64] = AFFINES["anisotropic"],
    codes: tuple[int, int] = (1, 1),
    name: str = "a.nii",
) -> Make:
    """``codes`` are those of qform and sform; a form of code 0 is left out."""

    def set_forms(image: nibabel.Nifti1Image) -> None:
        image.set_qform(affine if codes[0] else None, codes[0], strip_shears=True)
        image.set_sform(affine if codes[1] else None, codes[1])

    return lambda folder: write_nifti(folder / name, array, affine, set_forms)


def _nrrd(
    fields: str = "", array: NDArray = LABELS, name: str = "a.nrrd", data: bytes | None = None
) -> Make:
    return lambda folder: write_nrrd(folder / name, array, fields, data)


def _mha(fields: str = "", array: NDArray = LABELS, data: bytes | None = None) -> Make:
    return lambda folder: write_mha(folder / "a.mha", array, fields, data)


def _by_itk(name: str, array: NDArray = _NOISE, compress: bool = False) -> Make:
    def make(folder: Path) -> Path:
        image = sitk.GetImageFromArray(array.transpose(), isVector=False)
        sitk.WriteImage(image, str(folder / name), useCompression=compress)
        return folder / name

    return make


def _mgh(name: str = "a.mgh", array: NDArray = _NOISE) -> Make:
    def make(folder: Path) -> Path:
        nibabel.save(nibabel.MGHImage(array, np.eye(4)), folder / name)
        return folder / name

    return make


def _cut(make: Make, end: int | None = None) -> Make:
    """Only the first ``end`` bytes of a file; negative counts from its end, none is half."""

    def cut(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2 if end is None else end])
        return path

    return cut


def _changed(make: Make, position: int) -> Make:
    def change(folder: Path) -> Path:
        path = make(folder)
        content = bytearray(path.read_bytes())
        content[position] ^= 0xFF
        path.write_bytes(content)
        return path

    return change


def _patched(make: Make, offset: int, layout: str, *values: float) -> Make:
    def patch(folder: Path) -> Path:
        path = make(folder)
        content = bytearray(path.read_bytes())
        struct.pack_into(layout, content, offset, *values)
        path.write_bytes(content)
        return path

    return patch


def _cut_before_compression(folder: Path) -> Path:
    content = _cut(_nifti(_NOISE))(folder).read_bytes()
    return _bytes("b.nii.gz", gzip.compress(content))(folder)


def _deflated(data: bytes) -> Make:
    return _mha(f"CompressedData = True\nCompressedDataSize = {len(data)}", _NOISE, data)


def _mhd_with_cut_data(folder: Path) -> Path:
    path = _by_itk("a.mhd")(folder)
    _cut(lambda folder: folder / "a.raw")(folder)
    return path


def _mhd_without_data(folder: Path) -> Path:
    path = _by_itk("a.mhd")(folder)
    (folder / "a.raw").unlink()
    return path


def _folder_without_dicom(folder: Path) -> Path:
    (folder / "a").mkdir()
    (folder / "a" / "notes.txt").write_text("no image")
    return folder / "a"


def _two_series(folder: Path) -> Path:
    write_dicom(folder / "a", LABELS, series="1")
    return write_dicom(folder / "a", LABELS, series="2")


def _series_with_a_cut_slice(folder: Path) -> Path:
    path = write_dicom(folder / "a", LABELS)
    _cut(lambda folder: folder / "1-003.dcm", 300)(path)
    return path


def _pictures(folder: Path, array: NDArray) -> Path:
    """A DICOM series of three secondary captures of an array ``[row, column, ...]``."""
    (folder / "a").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n in range(3):
        picture = sitk.GetImageFromArray(array, isVector=array.ndim == 3)
        for key in ("0020|000d", "0020|000e"):
            picture.SetMetaData(key, "1.2.3")
        writer.SetFileName(str(folder / "a" / f"{n}.dcm"))
        writer.Execute(picture)
    return folder / "a"


def _segments(count: int, value: str = "1", layers: int = 1) -> str:
    """The metadata of so many segments; the last one has a label value of its own."""
    values = ["1"] * (count - 1) + [value]
    return "\n".join(
        f"Segment{n}_ID:=s{n}\nSegment{n}_LabelValue:={v}\nSegment{n}_Layer:={n % layers}"
        for n, v in enumerate(values)
    )


def _layered(value: str) -> Make:
    """Two layers, with a segment each; the second one's label value is given."""
    axes = "kinds: list domain domain domain\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n"
    fields = axes + _segments(2, value, layers=2)
    return _nrrd(fields, np.stack([LABELS, LABELS]), "a.seg.nrrd")


def _sparse(make: Make, size: int = 20 * 2**30) -> Make:
    """A file that ends in nothing, up to a size that no disk is asked for."""

    def extend(folder: Path) -> Path:
        path = make(folder)
        os.truncate(path, size)
        return path

    return extend


def _packed(make: Make, name: str, end: int | None = None) -> Make:
    """The first ``end`` bytes of a file, packed whole by gzip."""

    def pack(folder: Path) -> Path:
        return _bytes(name, gzip.compress(make(folder).read_bytes()[:end]))(folder)

    return pack


def _fifo(name: str) -> Make:
    def make(folder: Path) -> Path:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no FIFOs here")
        os.mkfifo(folder / name)
        return folder / name

    return make


def _endless(name: str) -> Make:
    """A link to a device that has no end."""

    def make(folder: Path) -> Path:
        if not Path("/dev/zero").exists():
            pytest.skip("no such device here")
        (folder / name).symlink_to("/dev/zero")
        return folder / name

    return make


def _with(make_data: Make, make: Make) -> Make:
    """A file beside which another is made first."""

    def both(folder: Path) -> Path:
        make_data(folder)
        return make(folder)

    return both


def _outside(folder: Path) -> Path:
    """Voxels that would do, in a folder beside, and a link to them."""
    outside = folder.with_name(f"{folder.name}-outside")
    outside.mkdir()
    (outside / "b.raw").write_bytes(LABELS.tobytes("F"))
    (folder / "link.raw").symlink_to(outside / "b.raw")
    return outside / "b.raw"


def _naming(header: str, name: str) -> Make:
    """A header of either kind that names the file of its voxels; OUTSIDE is a folder beside its
    own, in which such a file is."""

    def make(folder: Path) -> Path:
        text = name.replace("OUTSIDE", str(_outside(folder).parent))
        if header == "nhdr":
            return write_nrrd(folder / "a.nhdr", LABELS, f"data file: {text}", b"")
        path = write_mha(folder / "a.mha", LABELS, f"ElementDataFile = {text}", b"")
        return path.rename(folder / "a.mhd")

    return make


def _cifti(folder: Path) -> Path:
    axes = (
        nibabel.cifti2.ScalarAxis(["a"]),
        nibabel.cifti2.BrainModelAxis.from_mask(np.ones((2, 2, 2)), affine=np.eye(4)),
    )
    nibabel.save(nibabel.Cifti2Image(np.zeros((1, 8), np.float32), axes), folder / "a.dscalar.nii")
    return folder / "a.dscalar.nii"


def _series_with(make: Make) -> Make:
    def add(folder: Path) -> Path:
        series = write_dicom(folder / "a", LABELS)
        make(series)
        return series

    return add


def _flooding(size: int, voxels: int) -> bytes:
    """A zlib stream of so many zeros, of which so few would do."""
    return zlib.compress(bytes(max(size, voxels)))


_DAMAGED: dict[str, Make] = {
    **{
        f"text named a.{suffix}": _bytes(f"a.{suffix}", b"hello\n" * 99)
        for suffix in ("nii.gz", "nii", "nrrd", "nhdr", "mha", "mhd", "mgz", "mgh", "gipl")
    },
    **{
        f"empty a.{suffix}": _bytes(f"a.{suffix}", b"")
        for suffix in ("nii.gz", "nii", "nrrd", "nhdr", "mha", "mhd", "mgz", "mgh", "gipl")
    },
    "nothing compressed": _bytes("a.nii.gz", gzip.compress(b"")),
    "cut .nii.gz": _cut(_nifti(_NOISE, name="a.nii.gz")),
    ".nii.gz cut before compression": _cut_before_compression,
    "cut .nii": _cut(_nifti(_NOISE)),
    "cut header of .nii": _cut(_nifti(_NOISE), 200),
    ".nii short of a byte": _cut(_nifti(_NOISE), -1),
    "NIfTI of unknown numbers": _patched(_nifti(LABELS), 70, "<h", 1536),
    "cut .nrrd": _cut(_nrrd(array=_NOISE)),
    "cut gzip .nrrd": _cut(_by_itk("a.nrrd", compress=True)),
    ".nhdr without its data": _nrrd("data file: b.raw", name="a.nhdr"),
    "cut .mha": _cut(_mha(array=_NOISE)),
    "cut deflated .mha": _cut(_by_itk("a.mha", compress=True)),
    "deflated .mha cut with its size noted": _deflated(_DEFLATED[:9000]),
    "cut checksum of deflated .mha": _deflated(_DEFLATED[:-2]),
    ".mha cut before deflation": _deflated(zlib.compress(_NOISE.tobytes()[:9000])),
    "corrupt deflated .mha": _changed(_deflated(_DEFLATED), -3000),
    ".mha without sizes": _mha("DimSize = "),
    "cut .mhd": _mhd_with_cut_data,
    ".mhd without its data": _mhd_without_data,
    "cut .mgh": _cut(_mgh()),
    "cut .mgz": _cut(_mgh("a.mgz")),
    "cut .gipl": _cut(_by_itk("a.gipl")),
    "cut .gipl.gz": _cut(_by_itk("a.gipl.gz")),
    "NRRD of text that is none": _nrrd("encoding: ascii", _NOISE),
    "gzip NRRD that is not packed": _nrrd("encoding: gzip"),
    "NRRD of an encoding that is none": _nrrd("encoding: zip"),
    "NRRD of a size of 310 digits": _nrrd(f"sizes: 5 6 {'9' * 310}"),
    "NRRD of a dimension of 310 digits": _nrrd(f"dimension: {'9' * 310}"),
    "NRRD that skips to before its start": _nrrd("byte skip: -9"),
    "NRRD whose header never ends": _sparse(_bytes("a.nrrd", b"NRRD0005\ntype: short")),
    "NRRD of 100,000 fields": _nrrd("\n".join(f"a{n}:=b" for n in range(100_000))),
    "MetaImage of -1 dimensions": _mha("NDims = -1"),
    "MetaImage of a size of 310 digits": _mha(f"DimSize = 5 6 {'9' * 310}"),
    "MetaImage whose header never ends": _sparse(_bytes("a.mha", b"NDims = 3\nDimSize = ")),
    "sparse .mha of 20 GB": _sparse(_mha()),
    "sparse .nrrd of 20 GB": _sparse(_nrrd()),
    "sparse .gipl of 20 GB": _sparse(_by_itk("a.gipl")),
    ".mha that unpacks to more": _deflated(_flooding(2**24, 8000)),
    ".mha that unpacks to less": _mha(
        "CompressedData = True\nDimSize = 700 700 700", data=_flooding(2**24, 0)
    ),
    "gzip .nrrd of 700^3 voxels in few bytes": _nrrd(
        "encoding: gzip\nsizes: 700 700 700", data=gzip.compress(bytes(2**20))
    ),
    ".nii.gz of 700^3 voxels in few bytes": _packed(
        _patched(_nifti(LABELS), 42, "<3h", 700, 700, 700), "b.nii.gz"
    ),
    ".gipl.gz of 700^3 voxels in few bytes": _packed(
        _patched(_by_itk("a.gipl"), 0, ">3H", 700, 700, 700), "b.gipl.gz"
    ),
    **{
        f"NIfTI of vox_offset {offset}": _patched(_nifti(LABELS), 108, "<f", offset)
        for offset in (1e30, float("inf"), float("nan"), -352.0, 2.0**30)
    },
    ".mgz cut in its header": _packed(_mgh(), "b.mgz", 50),
    ".mgh cut in its header": _cut(_mgh(), 50),
    "MGH of no frames": _patched(_mgh(), 16, ">i", 0),
    "MGH of -1 frames": _patched(_mgh(), 16, ">i", -1),
    **{
        f".{header} whose voxels are at {name}": _naming(header, name)
        for header in ("mhd", "nhdr")
        for name in ("OUTSIDE/b.raw", "inner/../../x", "link.raw", "LIST", ".", "")
    },
    ".mhd of a FIFO": _with(_fifo("b.raw"), _naming("mhd", "b.raw")),
    ".nhdr of a FIFO": _with(_fifo("b.raw"), _naming("nhdr", "b.raw")),
    ".mhd of a link to /dev/zero": _with(_endless("b.raw"), _naming("mhd", "b.raw")),
    ".nhdr of /dev/zero": _naming("nhdr", "/dev/zero"),
    "layered label value of 30 digits": _layered("9" * 30),
    "layered label value of 2^63 - 1": _layered(str(2**63 - 1)),
    "negative layered label value": _layered("-1"),
    "segment of no layer": _nrrd("Segment0_ID:=a\nSegment0_Layer:=3", name="a.seg.nrrd"),
    "segment of no number": _nrrd("Segment0_ID:=a\nSegment0_LabelValue:=x", name="a.seg.nrrd"),
}

BAD: dict[str, tuple[str, Make]] = {
    "missing file": ("does not exist", lambda folder: folder / "nowhere.nii.gz"),
    "missing folder": ("does not exist", lambda folder: folder / "nowhere" / "a.nii.gz"),
    "unknown suffix": ("no known image format", _bytes("a.txt", b"hello")),
    **{name: ("damaged, incomplete", make) for name, make in _DAMAGED.items()},
    "FIFO": ("neither a file nor a folder", _fifo("a.nii.gz")),
    "link to /dev/zero": ("neither a file nor a folder", _endless("a.nrrd")),
    "name of 300 letters": ("cannot be opened", lambda folder: folder / f"{'a' * 300}.nii"),
    "name with NUL": ("cannot be opened", lambda folder: folder / "a\0b.nii"),
    "CIFTI": ("is 6D (1 x 1 x 1 x 1 x 1 x 8)", _cifti),
    "30,000 segments": ("30,000 segments", _nrrd(_segments(30_000), name="a.seg.nrrd")),
    "DICOM series with a FIFO": ("which is no file", _series_with(_fifo("b"))),
    "DICOM series with /dev/zero": ("which is no file", _series_with(_endless("b"))),
    "folder without DICOM": ("folder without a DICOM series", _folder_without_dicom),
    "two DICOM series": ("2 DICOM series", _two_series),
    "DICOM series with a cut slice": ("missing, doubled", _series_with_a_cut_slice),
    "DICOM series with a gap": (
        "missing, doubled",
        lambda folder: write_dicom(folder / "a", LABELS, skip=(3,)),
    ),
    "DICOM series of a tilted gantry": (
        "right angles",
        lambda folder: write_dicom(folder / "a", LABELS, tilt=0.4),
    ),
    "DICOM series of colours": (
        "colour",
        lambda folder: _pictures(folder, np.zeros((5, 6, 3), np.uint8)),
    ),
    # Depending on what it did before, SimpleITK writes no positions or the same for all.
    "DICOM series without positions": (
        "slices",
        lambda folder: _pictures(folder, LABELS[..., 0]),
    ),
    "2D NIfTI": ("is 2D (5 x 6)", _nifti(LABELS[..., 0])),
    "2D NRRD": ("is 2D (5 x 6)", _by_itk("a.nrrd", LABELS[..., 0])),
    "2D MetaImage": ("is 2D (5 x 6)", _by_itk("a.mha", LABELS[..., 0])),
    "4D NIfTI": ("is 4D (5 x 6 x 7 x 2)", _nifti(_PAIR)),
    "4D MetaImage": ("is 4D (5 x 6 x 7 x 2)", _by_itk("a.mha", _PAIR)),
    "4D MGH": ("is 4D (5 x 6 x 7 x 2)", _mgh(array=_PAIR)),
    "complex NIfTI": ("several values per voxel", _nifti(LABELS.astype(np.complex64))),
    "vector NRRD": (
        "several values per voxel",
        _nrrd(
            "kinds: vector domain domain domain\nspace directions: none (1,0,0) (0,1,0) (0,0,1)",
            np.stack([LABELS] * 3),
        ),
    ),
    "vector MetaImage": ("several values per voxel", _mha("ElementNumberOfChannels = 3")),
    "MetaImage in several files": ("damaged, incomplete", _mha("ElementDataFile = LIST")),
    "MetaImage as text": ("damaged, incomplete", _mha("BinaryData = False")),
    "thin NIfTI": ("less than 2 voxels thick (5 x 6 x 1)", _nifti(LABELS[..., :1])),
    "thin NRRD": ("less than 2 voxels thick (1 x 6 x 7)", _nrrd(array=LABELS[:1])),
    "huge NIfTI": ("too large (2000 x 2000 x 2000", _patched(_nifti(LABELS), 42, "<3h", *_HUGE)),
    "huge NRRD": ("too large (2000 x 2000 x 2000", _nrrd("sizes: 2000 2000 2000")),
    "huge MetaImage": ("too large (2000 x 2000 x 2000", _mha("DimSize = 2000 2000 2000")),
    "huge MGH": ("too large", _patched(_mgh(), 4, ">3i", *_HUGE)),
    "huge GIPL": ("too large (2000 x 2000 x 2000", _patched(_by_itk("a.gipl"), 0, ">3H", *_HUGE)),
    "NIfTI qform of zero spacing": (
        "spacing",
        _patched(_nifti(LABELS, codes=(1, 0)), 80, "<f", 0.0),
    ),
    "NIfTI qform of negative spacing": (
        "spacing",
        _patched(_nifti(LABELS, codes=(1, 0)), 84, "<f", -1.0),
    ),
    "NIfTI sform of zeros": ("spacing", _patched(_nifti(LABELS), 280, "<12f", *[0.0] * 12)),
    "NIfTI sform of NaN": ("spacing", _patched(_nifti(LABELS), 280, "<f", float("nan"))),
    "NRRD of zero spacing": ("spacing", _nrrd("space directions: (0,0,0) (0,1,0) (0,0,1)")),
    "NRRD of zero spacings": (
        "spacing",
        _bytes("a.nrrd", f"{_OLD_NRRD}spacings: 0 1 1\n\n".encode() + LABELS.tobytes()),
    ),
    "NRRD of negative spacings": (
        "spacing",
        _bytes("a.nrrd", f"{_OLD_NRRD}spacings: 1 -1 1\n\n".encode() + LABELS.tobytes()),
    ),
    **{
        f"NRRD of spacings {spacings}": (
            "spacing",
            _bytes("a.nrrd", f"{_OLD_NRRD}spacings: {spacings}\n\n".encode() + LABELS.tobytes()),
        )
        for spacings in ("nan 1 1", "1 inf 1")
    },
    **{
        f"NRRD of space directions {vectors}": (
            "spacing",
            _nrrd(f"space directions: {vectors}"),
        )
        for vectors in ("(nan,0,0) (0,1,0) (0,0,1)", "(1,0,0) (nan,nan,nan) (0,0,1)")
    },
    "NIfTI sform of 1e38": ("spacing", _patched(_nifti(LABELS), 280, "<f", 1e38)),
    "NIfTI voxels of 1 km": ("spacing", _nifti(LABELS, np.diag([1e6, 1e6, 1e6, 1]))),
    "NIfTI far away": ("where in space", _patched(_nifti(LABELS), 292, "<f", 1e38)),
    "NRRD in cm": ("spacing in cm", _nrrd('space units: "cm" "cm" "cm"')),
    "NRRD of an undefined origin": ("where in space", _nrrd("space origin: (0,nan,0)")),
    "MetaImage of an undefined origin": ("where in space", _mha("Offset = 0 nan 0")),
    "MetaImage of an origin of 310 digits": ("where in space", _mha(f"Offset = 0 0 {'9' * 310}")),
    "GIPL of an undefined origin": (
        "where in space",
        _patched(_by_itk("a.gipl"), 204, ">d", float("nan")),
    ),
    "MGH of a negative spacing": ("spacing", _patched(_mgh(), 30, ">f", -1.0)),
    "MGH without orientation": ("how it lies in the body", _patched(_mgh(), 28, ">h", 0)),
    "MetaImage of zero spacing": ("spacing", _mha("ElementSpacing = 1 0 1")),
    "MetaImage of negative spacing": ("spacing", _mha("ElementSpacing = 1 1 -1")),
    "MGH of zero spacing": ("spacing", _patched(_mgh(), 30, ">f", 0.0)),
    "GIPL of negative spacing": ("spacing", _patched(_by_itk("a.gipl"), 10, ">f", -1.0)),
    "sheared NIfTI": ("right angles", _nifti(LABELS, _SHEAR, (1, 1))),
    "sheared NIfTI without a qform": ("right angles", _nifti(LABELS, _SHEAR, (0, 1))),
    "singular NIfTI": ("right angles", _nifti(LABELS, _SINGULAR, (0, 1))),
    "sheared NRRD": ("right angles", _nrrd("space directions: (1,0,0) (.3,1,0) (0,0,1)")),
    "singular NRRD": ("right angles", _nrrd("space directions: (1,0,0) (1,0,0) (0,0,1)")),
    "sheared MetaImage": ("right angles", _mha("TransformMatrix = 1 0 0 .3 1 0 0 0 1")),
    "singular MetaImage": ("right angles", _mha("TransformMatrix = 1 0 0 1 0 0 0 0 1")),
    "NIfTI without orientation": ("how it lies in the body", _nifti(LABELS, codes=(0, 0))),
}
"""Files that are neither images nor label maps."""

NO_LABELS: dict[str, tuple[str, Make]] = {
    "empty map": ("is empty", _nifti(LABELS * 0)),
    "fractions": ("fractional values", _nifti(LABELS.astype(np.float32) + 0.5)),
    "many values": ("different values, so it looks like an intensity image", _nifti(_NOISE)),
    "negative values": ("negative values (-1)", _nifti(LABELS - 1)),
    "giant values": ("labels are at most", _nifti(LABELS.astype(np.int64) * 2**40)),
    "NaN": ("NaN or infinite", _nifti(np.where(LABELS == 1, np.nan, LABELS))),
    "infinity": ("NaN or infinite", _nrrd("type: double", np.where(LABELS == 1, np.inf, LABELS))),
}
"""Sound images that are no label maps."""
