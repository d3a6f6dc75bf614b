"""Files of every format with some bytes, numbers or lines of their headers changed."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path
from random import Random

import nibabel
import numpy as np

from torture.stage import Stage
from torture.things import AFFINE, Things, label_array

SUFFIXES = (
    ".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".gipl",
    ".gipl.gz",
)  # fmt: skip
_TEXT = {".nrrd", ".seg.nrrd", ".nhdr", ".mha", ".mhd"}
_HEADER_BYTES = {".nii": 352, ".mgh": 284, ".gipl": 256}
_NUMBERS = (
    "0", "-1", "nan", "inf", "-inf", "1e308", "1e-320", "1e999", "9" * 310, "2147483648", "65536",
    "18446744073709551616", "0x10", "1,5", "", "-0.0", "1e5", "0.5", "\u0663", "3 3",
)  # fmt: skip
_WORDS = (b"\0", b"\xff\xfe", b"\x1b[31m", b"\r", b"%s%n", b"../../etc/passwd", b"A" * 5000, b"\n")
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e38, 1e30, 1e-40, -1e38, 65536.0)
_INTEGERS = (0, -1, 1, 2, 7, 255, 32767, -32768, 4096)


def play(stage: Stage) -> None:
    """One such file as a label map, among others in a folder, or as a case to train on."""
    random = stage.random
    way = random.random()
    if way < 0.7:
        source = make(stage.things, stage.path("in/a").parent, "a", random)
        stage.synthesize(source.relative_to(stage.folder), "--steps", 1)
    elif way < 0.85:
        _in_a_folder(stage)
    else:
        _as_a_case(stage)


def _in_a_folder(stage: Stage) -> None:
    """The good label map beside it is done in any case."""
    make(stage.things, stage.path("in/a").parent, "a", stage.random)
    stage.things.label_map(stage.path("in/b.nii.gz"))
    good = {"out/b.nii.gz", "out/b.json"}
    bad = {"out", "out/a.nii.gz", "out/a.json"}
    ended = stage.run(
        "synthesize", "in", "-o", "out", "--model", stage.things.model, "--steps", 1,
        wanted=good, allowed=lambda name: name in good | bad, summary=True,
    )  # fmt: skip
    stage.hold((stage.folder / "out/b.nii.gz").exists(), "the good label map was not done")
    whole = {(stage.folder / "out" / name).exists() for name in ("a.nii.gz", "a.json")}
    stage.hold(whole == {ended.code == 0}, "a result without its record, or without its volume")


def _as_a_case(stage: Stage) -> None:
    part = stage.random.choice(("images", "labels"))
    for name in ("images", "labels"):
        stage.copy(stage.things.data / name, f"data/{name}")
    for path in (stage.folder / "data" / part).glob("case 1.*"):
        path.unlink()
    make(stage.things, stage.folder / "data" / part, "case 1", stage.random)
    stage.run(
        "train", "--check", "--data", "data", "--output", "model", "--device", "cpu",
        "--preset", stage.things.data / "plan.json",
        allowed=lambda name: name.split("/")[0] == "model", report=True,
    )  # fmt: skip


def make(things: Things, folder: Path, name: str, random: Random) -> Path:
    """A sound file of a random format with one to four faults in its header."""
    suffix = random.choice(SUFFIXES)
    path = folder / f"{name}{suffix}"
    write(things, path)
    if suffix in (".nii.gz", ".mgz", ".gipl.gz"):
        inner = {".nii.gz": ".nii", ".mgz": ".mgh", ".gipl.gz": ".gipl"}[suffix]
        content = gzip.decompress(path.read_bytes())
        content = _faults(content, inner, random)
        packed = bytearray(gzip.compress(content))
        if random.random() < 0.15:
            packed = packed[: random.randrange(len(packed))]
        path.write_bytes(packed)
    else:
        path.write_bytes(_faults(path.read_bytes(), suffix, random))
    return path


def write(things: Things, path: Path) -> None:
    """The usual label map, sound, in the format of the file name."""
    name = path.name
    if name.endswith((".mgh", ".mgz")):
        nibabel.save(nibabel.MGHImage(label_array(), AFFINE.astype(np.float32)), path)
    elif name.endswith(".seg.nrrd"):
        things.label_map(path)
        segments = "".join(
            f"Segment{n}_ID:=s{n}\nSegment{n}_Name:={label}\nSegment{n}_LabelValue:={n + 1}\n"
            f"Segment{n}_Layer:=0\nSegment{n}_Extent:=0 11 0 13 0 12\n"
            for n, label in enumerate(("anterior", "posterior"))
        )
        header, voxels = path.read_bytes().split(b"\n\n", 1)
        path.write_bytes(header + b"\n" + segments.encode() + b"\n" + voxels)
    else:
        things.label_map(path)


def _faults(content: bytes, suffix: str, random: Random) -> bytes:
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if suffix in _TEXT:
            content = _text_fault(content, suffix, random)
        else:
            content = _binary_fault(content, _HEADER_BYTES[suffix], suffix, random)
    return content


def _text_fault(content: bytes, suffix: str, random: Random) -> bytes:
    end = content.find(b"\n\n") if "nrrd" in suffix else content.find(b"ElementDataFile")
    end = len(content) if end < 0 else end
    if suffix in (".mha", ".mhd"):
        end = min(len(content), content.find(b"\n", end) + 1 or len(content))
    header, rest = content[:end], content[end:]
    lines = header.split(b"\n")
    which = random.randrange(len(lines))
    way = random.randrange(8)
    if way <= 2:
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?", header))
        if numbers:
            found = random.choice(numbers)
            value = random.choice(_NUMBERS).encode()
            return header[: found.start()] + value + header[found.end() :] + rest
    if way == 3:
        del lines[which]
    elif way == 4:
        lines.insert(which, random.choice(lines))
    elif way == 5:
        word, position = random.choice(_WORDS), random.randrange(len(lines[which]) + 1)
        lines[which] = lines[which][:position] + word + lines[which][position:]
    elif way == 6:
        return content[: random.randrange(len(content))]
    else:
        changed = bytearray(header)
        changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed) + rest
    return b"\n".join(lines) + rest


def _binary_fault(content: bytes, header: int, suffix: str, random: Random) -> bytes:
    changed = bytearray(content)
    order = "<" if suffix == ".nii" else ">"
    position = random.randrange(max(1, min(header, len(changed)) - 4))
    way = random.randrange(5)
    if len(changed) < 8:
        return bytes(changed)
    if way == 0:
        changed[position] ^= 1 << random.randrange(8)
    elif way == 1:
        changed[position] = random.randrange(256)
    elif way == 2:
        struct.pack_into(f"{order}f", changed, position & ~3, random.choice(_FLOATS))
    elif way == 3:
        struct.pack_into(f"{order}h", changed, position & ~1, random.choice(_INTEGERS))
    else:
        return bytes(changed[: random.randrange(len(changed))])
    return bytes(changed)
