"""Files that someone would have to craft, and things in the place of files."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from bad_files import BAD, NO_LABELS
from data_factory import write_nifti
from torture.judge import Broken
from torture.stage import Stage
from torture.things import AFFINE, SIZE, label_array

from .fuzz import write

Make = Callable[[Path], Path]
_VOXELS = label_array().tobytes("F")
_MHA = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
    "ElementSpacing = 1 1 1\nDimSize = 12 14 13\nElementType = MET_UCHAR\n"
    "ElementDataFile = LOCAL\n"
)
_NRRD = (
    "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
    "sizes: 12 14 13\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    "kinds: domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n"
)
_HUGE_NUMBERS = ("1" * 30, "9223372036854775807", "-1", "1e999", "nan", "0x7", "")


def play(stage: Stage) -> None:
    """One of the catalogue; in a folder or as a case it stops nobody else, which fuzz tries."""
    name, refused, make = stage.pick(CATALOGUE)
    folder = stage.path("in/a").parent
    try:
        source = make(folder)
    except OSError as error:
        raise Broken(f"{name} cannot be made here: {error}") from error
    try:
        stage.synthesize(
            source.relative_to(stage.folder), "--steps", 1, made=False if refused else None
        )
    except Broken as broken:
        raise Broken(f"{name}: {broken}") from broken


def _file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _mha(change: tuple[str, str] = ("", ""), voxels: bytes = _VOXELS, name: str = "a.mha") -> Make:
    """A MetaImage with one line replaced, by its key."""
    return _file(name, _with(_MHA, *change).encode("utf-8", "surrogateescape") + voxels)


def _nrrd(
    change: tuple[str, str] = ("", ""), voxels: bytes = _VOXELS, name: str = "a.nrrd"
) -> Make:
    header = _with(_NRRD, *change).encode("utf-8", "surrogateescape")
    return _file(name, header + b"\n" + voxels)


def _with(header: str, key: str, line: str) -> str:
    """The header with the line that begins with ``key`` replaced; added at the top without one."""
    lines = header.splitlines()
    found = [n for n, text in enumerate(lines) if key and text.startswith(key)]
    if found:
        lines[found[0]] = line
    elif line:
        lines.insert(1, line)
    return "\n".join([text for text in lines if text]) + "\n"


def _nifti(name: str = "a.nii", *patches: tuple[int, str, tuple[float, ...]]) -> Make:
    """A NIfTI file with numbers of its header replaced: offset, layout, values."""

    def make(folder: Path) -> Path:
        path = write_nifti(folder / "whole.nii", label_array(), AFFINE)
        content = bytearray(path.read_bytes())
        path.unlink()
        for offset, layout, values in patches:
            struct.pack_into(layout, content, offset, *values)
        packed = gzip.compress(content) if name.endswith(".gz") else bytes(content)
        (folder / name).write_bytes(packed)
        return folder / name

    return make


def _mgh(name: str, offset: int, layout: str, *values: float) -> Make:
    def make(folder: Path) -> Path:
        nibabel.save(nibabel.MGHImage(label_array(), AFFINE.astype(np.float32)), folder / "w.mgh")
        content = bytearray((folder / "w.mgh").read_bytes())
        (folder / "w.mgh").unlink()
        struct.pack_into(layout, content, offset, *values)
        packed = gzip.compress(content) if name.endswith("z") else bytes(content)
        (folder / name).write_bytes(packed)
        return folder / name

    return make


def _segments(count: int, value: str = "1", layer: str = "0") -> Make:
    lines = [
        f"Segment{n}_ID:=s{n}\nSegment{n}_Name:=n{n}\nSegment{n}_LabelValue:={value}\n"
        f"Segment{n}_Layer:={layer}\n"
        for n in range(count)
    ]
    return _file("a.seg.nrrd", (_NRRD + "".join(lines)).encode() + b"\n" + _VOXELS)


def _layers(value: str) -> Make:
    header = _NRRD.replace("dimension: 3", "dimension: 4").replace("12 14 13", "2 12 14 13")
    header = header.replace("kinds: domain", "kinds: list domain")
    header = header.replace("directions: (1", "directions: none (1")
    lines = "".join(
        f"Segment{n}_ID:=s{n}\nSegment{n}_LabelValue:={v}\nSegment{n}_Layer:={n}\n"
        for n, v in enumerate(("1", value))
    )
    both = np.stack([label_array() == 1, label_array() == 2]).astype(np.uint8).tobytes("F")
    return _file("a.seg.nrrd", (header + lines).encode() + b"\n" + both)


def _cifti(folder: Path) -> Path:
    content = bytearray(_nifti()(folder).read_bytes())
    content[344:348] = b"n+1\0"
    image = nibabel.Nifti2Image(label_array(), AFFINE)
    xml = b'<CIFTI Version="2"><Matrix/></CIFTI>'
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(32, xml))
    image.header.set_intent(3006, name="ConnDenseScalar")
    nibabel.save(image, folder / "a.dscalar.nii")
    return folder / "a.dscalar.nii"


def _extension(size: int) -> Make:
    def make(folder: Path) -> Path:
        content = bytearray(_nifti("w.nii")(folder).read_bytes())
        (folder / "w.nii").unlink()
        content[348] = 1
        content[352:352] = struct.pack("<2i", size, 4) + b"x" * 24
        struct.pack_into("<f", content, 108, 384)
        (folder / "a.nii").write_bytes(content)
        return folder / "a.nii"

    return make


def _fifo(name: str) -> Make:
    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def _link(name: str, target: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return make


def _socket(folder: Path) -> Path:
    path = folder / "a.nii"
    with socket.socket(socket.AF_UNIX) as made:
        # A socket's address may not be long.
        short = Path("/tmp") / f"torture-{os.getpid()}-{id(folder):x}"
        made.bind(str(short))
        short.rename(path)
    return path


def _folder_as_file(name: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return make


def _renamed(name: str, suffix: str) -> Make:
    """A sound file under another name."""

    def make(folder: Path) -> Path:
        from torture.things import Things

        sound = folder / f"whole{suffix}"
        write(Things(folder, {}), sound)
        return sound.rename(folder / name)

    return make


def _data_file(value: str, make_data: Make | None = None) -> Make:
    """An .mhd whose data file is told."""

    def make(folder: Path) -> Path:
        if make_data is not None:
            make_data(folder)
        return _mha(("ElementDataFile", f"ElementDataFile = {value}"), b"", "a.mhd")(folder)

    return make


def _outside(text: str, name: str) -> Make:
    """A header beside whose folder, not in it, its voxels lie."""

    def make(folder: Path) -> Path:
        (folder.parent / "secret.raw").write_bytes(_VOXELS)
        key = text.split(" =")[0].split(":")[0]
        made = _mha if name.endswith("mhd") else _nrrd
        given = text.format(folder=folder.parent)
        return made((key, given), b"", name)(folder)

    return make


def _text_over(content: bytes, suffix: str, name: str = "a") -> Make:
    return _file(f"{name}{suffix}", content)


_NAMES = (
    "a\xa0b\u202e", "a\nb", "a\x1b[31mred", "a\tb", "-a", "--overwrite", "a b", "a'b\"c", "\u00e9",
    "e\u0301", "\U0001f9e0", "a\udcff\udcfe", "a%s%d", "a$(x)", "a" * 200, "a.b.c.d", "nul",
    "[a]", "a*?", "~", "@a", "a;b", "\u0634", "a=b", "#a", "a:b",
)  # fmt: skip
_NAMED = [
    (f"file name {name!r}{suffix}", False, _renamed(name + suffix, suffix))
    for name in _NAMES
    for suffix in (".nii.gz", ".nrrd", ".mha", ".mgz", ".gipl")
    if suffix == ".nii.gz" or "\udcff" in name or "\x1b" in name or name[0] in "\U0001f9e0\n"
]
_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz",
             ".gipl", ".gipl.gz")  # fmt: skip

CATALOGUE: list[tuple[str, bool, Make]] = [
    *((name, True, make) for name, (_, make) in {**BAD, **NO_LABELS}.items()),
    *_NAMED,
    # Sound files of another format than their name says.
    *(
        (f"{inside} named {outside}", False, _renamed(f"a{outside}", inside))
        for inside in (".nii", ".nrrd", ".mha")
        for outside in _SUFFIXES
        if inside != outside
    ),
    *((f"noise named {s}", True, _text_over(bytes(range(256)) * 64, s)) for s in _SUFFIXES),
    *((f"NULs named {s}", True, _text_over(bytes(4096), s)) for s in _SUFFIXES),
    *((f"a FIFO named {s}", True, _fifo(f"a{s}")) for s in _SUFFIXES),
    *((f"a link to /dev/zero named {s}", True, _link(f"a{s}", "/dev/zero")) for s in _SUFFIXES),
    *((f"a folder named {s}", True, _folder_as_file(f"a{s}")) for s in _SUFFIXES[:4]),
    ("a socket", True, _socket),
    ("a link to itself", True, _link("a.nii", "a.nii")),
    ("a link to nothing", True, _link("a.nii", "nowhere.nii")),
    ("a link to /dev/null", True, _link("a.nii.gz", "/dev/null")),
    ("a link to /dev/full", True, _link("a.mha", "/dev/full")),
    ("a link to /proc/self/mem", True, _link("a.nrrd", "/proc/self/mem")),
    # NRRD.
    ("NRRD of text whose voxels are binary", True, _nrrd(("encoding", "encoding: ascii"))),
    ("NRRD of hexadecimal text that is binary", True, _nrrd(("encoding", "encoding: hex"))),
    ("NRRD of unknown encoding", True, _nrrd(("encoding", "encoding: zstd"))),
    ("NRRD gzip of what is none", True, _nrrd(("encoding", "encoding: gzip"))),
    ("NRRD bzip2 of what is none", True, _nrrd(("encoding", "encoding: bzip2"))),
    *((f"NRRD of dimension {d}", True, _nrrd(("dimension", f"dimension: {d}")))
      for d in ("0", "-1", "1", "16", "17", "99999999999", "nan", "")),
    *((f"NRRD of sizes {d}", True, _nrrd(("sizes", f"sizes: {d}")))
      for d in ("0 0 0", "-12 14 13", "12 14", "12 14 13 1", "4294967295 4294967295 4294967295",
                "12 14 1e3", "99999999999999999999 1 1")),
    *((f"NRRD with {line!r}", False, _nrrd((line.split(":")[0], line))) for line in (
        'space units: "cm" "cm" "cm"', "spacings: 1 1 1", "byte skip: -1", "byte skip: 1000000000",
        "line skip: 100000", "data file: LIST", "data file: a%d.raw 0 99999999 1",
        "data file: /etc/passwd", "space: scanner-xyz-time", "space dimension: 900", "old min: nan",
        "centers: cell node ???", "endian: middle", "type: block", "block size: 99999999999",
        "measurement frame: (nan,0,0) (0,1,0) (0,0,1)", "space origin: (1e308,0,0)",
        "space origin: (nan,0,0)", "space origin: none", "kinds: list domain domain",
        "content: \x1b[31mred", "k\udcff:=v", "key:=\udcff\udcfe", "a:=\x00",
    )),
    ("NRRD of 200,000 keys", False,
     _nrrd(("", "\n".join(f"key{n}:=value" for n in range(200_000))))),
    ("NRRD of one endless line", True, _file("a.nrrd", b"NRRD0004\n" + b"x" * 2**24)),
    ("NRRD with a comment of 4 MB", False, _nrrd(("", "# " + "c" * 2**22))),
    *((f"segment value {v!r}", False, _segments(1, v)) for v in _HUGE_NUMBERS),
    *((f"segment layer {v!r}", False, _segments(1, "1", v)) for v in _HUGE_NUMBERS),
    *((f"layered segment value {v!r}", False, _layers(v)) for v in _HUGE_NUMBERS),
    ("30,000 segments", False, _segments(30_000)),
    # MetaImage.
    *((f"MetaImage with {line!r}", False, _mha((line.split(" =")[0], line))) for line in (
        "NDims = -1", "NDims = 0", "NDims = 2", "NDims = 100", "NDims = 3e9", "NDims = ",
        "DimSize = -12 14 13", "DimSize = 12 14", "DimSize = 0 0 0", "DimSize = 1e9 1e9 1e9",
        "DimSize = 4294967308 14 13", "Offset = nan 0 0", "Offset = inf 0 0", "Offset = nan",
        "Offset = 1e308 0 0", "ElementSpacing = 1e-300 1 1", "ElementSpacing = 1e300 1 1",
        "ElementSpacing = nan 1 1", "ElementSize = 0 0 0", "HeaderSize = -1", "HeaderSize = -2",
        "HeaderSize = 99999999999", "ElementNumberOfChannels = 0", "ElementNumberOfChannels = -1",
        "ElementNumberOfChannels = 1000000000", "ElementType = MET_NONE",
        "ElementType = MET_STRING",
        "ElementType = MET_LONG_LONG", "ElementType = MET_OTHER", "TransformMatrix = 1 0 0",
        "TransformMatrix = nan 0 0 0 1 0 0 0 1", "CompressedData = True",
        "CompressedDataSize = 99999999999", "Comment = \x1b]0;title\x07", "Name = \udcff",
        "\udcff = 1", "ObjectType = Tube", "ObjectType = Scene", "BinaryData = False",
        "ElementByteOrderMSB = True", "AnatomicalOrientation = ???", "CenterOfRotation = nan 0 0",
        "Color = a b c d", "ID = 99999999999999", "ParentID = x", "Modality = MET_MOD_X",
        "ElementMin = nan", "ElementDataFile = ", "ElementDataFile = LIST",
        "ElementDataFile = LIST 2", "ElementDataFile = a%d.raw 1 99999999 1",
        "ElementDataFile = a.mha",
    )),
    ("MetaImage whose data file is a FIFO", True, _data_file("a.raw", _fifo("a.raw"))),
    ("MetaImage whose data file is /dev/zero", True, _data_file("/dev/zero")),
    ("MetaImage whose data file links to /dev/zero", True,
     _data_file("a.raw", _link("a.raw", "/dev/zero"))),
    ("MetaImage whose data file is itself", True, _data_file("a.mhd")),
    ("MetaImage whose data file is a folder", True, _data_file("a.raw", _folder_as_file("a.raw"))),
    ("MetaImage whose data lie outside", True,
     _outside("ElementDataFile = ../secret.raw", "a.mhd")),
    ("MetaImage whose data lie elsewhere", True,
     _outside("ElementDataFile = {folder}/secret.raw", "a.mhd")),
    ("NRRD whose data lie outside", True, _outside("data file: ../secret.raw", "a.nhdr")),
    ("NRRD whose data lie elsewhere", True, _outside("data file: {folder}/secret.raw", "a.nhdr")),
    ("MetaImage of zlib that ends early", True,
     _mha(("CompressedData", "CompressedData = True"), zlib.compress(_VOXELS)[:40])),
    # NIfTI and MGH.
    *((f"NIfTI vox_offset {v}", True, _nifti(n, (108, "<f", (v,))))
      for v in (float("inf"), 1e30, float("nan"), -1.0, 1e6) for n in ("a.nii", "a.nii.gz")),
    *((f"NIfTI sform {v}", v == float("inf"), _nifti("a.nii", (280, "<4f", (v, 0, 0, 0))))
      for v in (1e38, 1e6, 1e-38, float("inf"))),
    *((f"NIfTI pixdim {v}", False, _nifti("a.nii", (76, "<4f", (v,) * 4), (252, "<2h", (1, 0))))
      for v in (1e38, 1e6, 1e-38, -1.0, float("nan"))),
    *((f"NIfTI scl_slope {v}", False, _nifti("a.nii", (112, "<2f", (v, 0))))
      for v in (1e38, float("nan"), float("inf"), -1.0, 0.5)),
    *((f"NIfTI dim[0] {v}", False, _nifti("a.nii", (40, "<h", (v,)))) for v in (0, 8, -1, 7, 4)),
    *((f"NIfTI dims {v}", True, _nifti("a.nii", (42, "<3h", v)))
      for v in ((0, 0, 0), (-1, 14, 13), (32767, 32767, 32767), (1, 1, 1))),
    *((f"NIfTI datatype {v}", True, _nifti("a.nii", (70, "<h", (v,))))
      for v in (0, 1, 128, 1536, 1792, 2048, -4)),
    *((f"NIfTI extension of {n} bytes", False, _extension(n)) for n in (-16, 0, 7, 2**31 - 16)),
    ("NIfTI magic", True, _nifti("a.nii", (344, "<4s", (b"ni1\0",)))),  # type: ignore[arg-type]
    ("CIFTI", False, _cifti),
    *((f"MGH frames {v}", True, _mgh(n, 16, ">i", v))
      for v in (0, -1, 2**31 - 1) for n in ("a.mgh", "a.mgz")),
    *((f"MGH type {v}", True, _mgh("a.mgh", 20, ">i", v)) for v in (-1, 2, 99)),
    *((f"MGH sizes {v}", True, _mgh("a.mgh", 4, ">i", v)) for v in (0, -12, 2**31 - 1)),
    *((f"MGH spacing {v}", v != 1e6, _mgh("a.mgh", 30, ">f", v))
      for v in (0.0, float("nan"), float("inf"), 1e38, 1e6)),
    ("MGH of no orientation", False, _mgh("a.mgh", 28, ">h", 0)),
]  # fmt: skip
"""Name, whether it must be refused, and what makes it in a folder."""
assert SIZE == (12, 14, 13)
