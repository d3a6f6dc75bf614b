"""Small files that are huge inside, huge files that are small on disk, and huge regions."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np

from data_factory import affine, write_nifti
from torture.judge import Broken, Geometry
from torture.stage import Stage
from torture.things import AFFINE, label_array

from .bundles import replace_at

Play = Callable[[Stage], object]
_MB = 2**20
_WORK = 120.0
"""Seconds for what is much work, not a trap; what would take longer is to be refused, or asked."""


def play(stage: Stage) -> None:
    """One of the catalogue: right, or refused, within memory and time."""
    name, try_it = stage.pick(CATALOGUE)
    try:
        try_it(stage)
    except Broken as broken:
        raise Broken(f"{name}: {broken}") from broken


def _zeros(size: int, compressor: object) -> bytes:
    """So many zero bytes, compressed, made piece by piece."""
    pieces = []
    for _ in range(size // (8 * _MB)):
        pieces.append(compressor.compress(bytes(8 * _MB)))  # type: ignore[attr-defined]
    pieces.append(compressor.flush())  # type: ignore[attr-defined]
    return b"".join(pieces)


def _gzip_bomb(name: str, header: bytes, size: int) -> Play:
    def try_it(stage: Stage) -> None:
        compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = compressor.compress(header) + _zeros(size, compressor)
        stage.path(f"in/{name}").write_bytes(packed)
        stage.synthesize(f"in/{name}", "--steps", 1, made=False)

    return try_it


def _mha_bomb(stage: Stage) -> None:
    data = _zeros(5000 * _MB, zlib.compressobj(9))
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
        f"CompressedDataSize = {len(data)}\nElementSpacing = 1 1 1\nDimSize = 12 14 13\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    stage.path("in/a.mha").write_bytes(header.encode() + data)
    stage.synthesize("in/a.mha", "--steps", 1, made=False)


def _nrrd_bomb(stage: Stage) -> None:
    header = (
        b"NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        b"sizes: 12 14 13\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: gzip\n"
        b"space origin: (0,0,0)\n\n"
    )
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    stage.path("in/a.nrrd").write_bytes(header + _zeros(5000 * _MB, compressor))
    stage.synthesize("in/a.nrrd", "--steps", 1)


def _sparse(name: str, header: bytes, size: int) -> Play:
    def try_it(stage: Stage) -> None:
        path = stage.path(f"in/{name}")
        path.write_bytes(header)
        os.truncate(path, size)
        stage.synthesize(f"in/{name}", "--steps", 1, made=False)

    return try_it


def _mha_header(sizes: str) -> bytes:
    return (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nElementSpacing = 1 1 1\n"
        f"DimSize = {sizes}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    ).encode()


def _nifti_header(*sizes: int) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *sizes, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 1, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _extension_bomb(stage: Stage) -> None:
    """A NIfTI file whose extension unpacks to gigabytes."""
    header = bytearray(_nifti_header(12, 14, 13))
    header[348] = 1
    size = 2**31 - 16
    struct.pack_into("<f", header, 108, float(352 + size))
    header += struct.pack("<2i", size, 4)
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = compressor.compress(bytes(header)) + _zeros(2048 * _MB, compressor)
    stage.path("in/a.nii.gz").write_bytes(packed)
    stage.synthesize("in/a.nii.gz", "--steps", 1, made=False)


def _sparse_weights(stage: Stage) -> None:
    stage.copy(stage.things.model, "model")
    os.truncate(stage.folder / "model/weights.safetensors", 12 * 2**30)
    stage.things.label_map(stage.path("in/a.nii.gz"))
    stage.synthesize("in/a.nii.gz", "--model", "model", made=False)


def _wide_network(stage: Stage) -> None:
    path = stage.copy(stage.things.model, "model") / "model.json"
    content = json.loads(path.read_text())
    replace_at(content, ("architecture", "network", "channels"), [4096] * 8)
    path.write_text(json.dumps(content))
    stage.things.label_map(stage.path("in/a.nii.gz"))
    stage.synthesize("in/a.nii.gz", "--model", "model", made=False)


def _coarse_region(stage: Stage) -> None:
    """50^3 voxels of 20 mm: a region of a metre."""
    array = np.zeros((50, 50, 50), np.uint8)
    array[2:48, 2:25, 2:48], array[2:48, 25:48, 2:48] = 1, 2
    write_nifti(stage.path("in/a.nii.gz"), array, affine(np.eye(3), (20, 20, 20), (0, 0, 0)))
    stage.synthesize("in/a.nii.gz", most_seconds=_WORK)


def _large_region(stage: Stage) -> None:
    """512^3 voxels, a region of 200^3 of them, with the bundled model: hours, unless one asks."""
    array = np.zeros((512, 512, 512), np.uint8)
    array[150:350, 150:250, 150:350], array[150:350, 250:350, 150:350] = 1, 2
    write_nifti(stage.path("in/a.nii"), array, AFFINE)
    steps = ("--steps", 100)
    stage.synthesize(
        "in/a.nii", "--model", stage.things.bundled, *steps, made=False, most_seconds=_WORK
    )


def _large_map(suffix: str, size: int = 800) -> Play:
    """A whole-body map of which little is labelled, in a file of that kind."""

    def try_it(stage: Stage) -> None:
        array = np.zeros((size, size, size), np.uint8)
        middle = tuple(
            slice(n // 2, n // 2 + m) for n, m in zip(array.shape, (12, 14, 13), strict=True)
        )
        array[middle] = label_array()
        if suffix == ".nii":
            write_nifti(stage.path("in/a.nii"), array, AFFINE)
        else:
            header = _mha_header(f"{size} {size} {size}")
            stage.path("in/a.mha").write_bytes(header + array.tobytes("F"))
        geometry = Geometry((size,) * 3, AFFINE) if suffix == ".nii" else None
        del array
        stage.synthesize(f"in/a{suffix}", "--steps", 1, geometry=geometry, most_seconds=_WORK)

    return try_it


def _many_samples(stage: Stage) -> None:
    """The limit of the options, which are then interrupted by nobody: refused or quick."""
    stage.things.label_map(stage.path("in/a.nii.gz"))
    stage.synthesize("in/a.nii.gz", "--samples", 1001, made=False)


def _grid(size: int) -> Play:
    """A model whose grid is large, of so many voxels along each axis."""

    def try_it(stage: Stage) -> None:
        path = stage.copy(stage.things.model, "model") / "model.json"
        content = json.loads(path.read_text())
        replace_at(content, ("grid", "size"), [size] * 3)
        path.write_text(json.dumps(content))
        stage.things.label_map(stage.path("in/a.nii.gz"))
        stage.synthesize("in/a.nii.gz", "--model", "model", "--steps", 1)

    return try_it


def _sparse_case(stage: Stage) -> None:
    """A scan of a training that is 20 GB of nothing."""
    for name in ("images", "labels"):
        stage.copy(stage.things.data / name, f"data/{name}")
    (stage.folder / "data/images/case 1.nii.gz").unlink()
    path = stage.folder / "data/images/case 1.mha"
    path.write_bytes(_mha_header("18 20 14"))
    os.truncate(path, 20 * 2**30)
    stage.run(
        "train", "--check", "--data", "data", "--output", "model", "--device", "cpu",
        "--preset", stage.things.data / "plan.json",
        allowed=lambda name: name.split("/")[0] == "model", report=True,
    )  # fmt: skip


_GIPL = struct.pack(">4H", 12, 14, 13, 1) + struct.pack(">H", 8) + struct.pack(">4f", 1, 1, 1, 1)
_GIPL = _GIPL + bytes(252 - len(_GIPL)) + struct.pack(">I", 719555000)

CATALOGUE: list[tuple[str, Play]] = [
    ("a gipl.gz bomb", _gzip_bomb("a.gipl.gz", _GIPL, 5000 * _MB)),
    ("a nii.gz bomb", _gzip_bomb("a.nii.gz", _nifti_header(2000, 2000, 1300), 5000 * _MB)),
    ("a nii.gz that goes on", _gzip_bomb("a.nii.gz", _nifti_header(12, 14, 13), 5000 * _MB)),
    ("an mha bomb", _mha_bomb),
    ("an NRRD bomb", _nrrd_bomb),
    ("a NIfTI extension bomb", _extension_bomb),
    ("a sparse NRRD of one line", _sparse("a.nrrd", b"NRRD0004\n", 20 * 2**30)),
    ("a sparse mha of 20 GB", _sparse("a.mha", _mha_header("12 14 13"), 20 * 2**30)),
    ("a sparse mha of its size", _sparse("a.mha", _mha_header("3000 3000 2000"), 18 * 10**9)),
    ("a sparse gipl of 20 GB", _sparse("a.gipl", _GIPL, 20 * 2**30)),
    ("a sparse nii of its size", _sparse("a.nii", _nifti_header(1500, 1500, 1500), 352 + 1500**3)),
    ("sparse weights of 12 GB", _sparse_weights),
    ("a network of 4096 channels", _wide_network),
    ("a grid of 160^3", _grid(160)),
    ("a sparse scan of 20 GB", _sparse_case),
    ("a region of a metre", _coarse_region),
    ("a region of 200^3 voxels", _large_region),
    ("800^3 voxels, NIfTI", _large_map(".nii")),
    ("800^3 voxels, MetaImage", _large_map(".mha")),
    ("1001 samples", _many_samples),
]
