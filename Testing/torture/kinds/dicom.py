"""DICOM series with slices lost, doubled, damaged, or with tags that say something else."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from random import Random

from data_factory import write_dicom
from torture.stage import Stage
from torture.things import label_array

_TAGS = {
    "rows": b"\x28\x00\x10\x00US\x02\x00",
    "columns": b"\x28\x00\x11\x00US\x02\x00",
    "bits": b"\x28\x00\x00\x01US\x02\x00",
    "samples": b"\x28\x00\x02\x00US\x02\x00",
    "sign": b"\x28\x00\x03\x01US\x02\x00",
}
_SHORTS = (0, 1, 2, 7, 255, 4096, 32768, 65535)
_TEXTS = {
    "position": rb"\x20\x00\x32\x00DS(..)",
    "orientation": rb"\x20\x00\x37\x00DS(..)",
    "spacing": rb"\x28\x00\x30\x00DS(..)",
    "thickness": rb"\x18\x00\x50\x00DS(..)",
    "number": rb"\x20\x00\x13\x00IS(..)",
    "series": rb"\x20\x00\x0e\x00UI(..)",
    "syntax": rb"\x02\x00\x10\x00UI(..)",
}
_WORDS = (b"nan", b"inf", b"-1", b"0", b"1e308", b"1\\2", b"", b"\x1b[31m", b"\xff", b"9" * 40,
          b"0\\0\\0", b"1\\0\\0\\1\\0\\0", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.2",
          b"1.2.840.10008.1.2.1.99", b"../../x")  # fmt: skip


def play(stage: Stage) -> None:
    """A series of the usual label map, with one to three faults, or a single file of it."""
    random = stage.random
    series = write_dicom(stage.path("in/series"), label_array(), (1.0, 1.0, 1.25))
    for _ in range(random.choice((1, 1, 2, 3))):
        _fault(series, random)
    source = Path("in/series")
    if random.random() < 0.15:
        files = [path for path in sorted(series.iterdir()) if path.suffix == ".dcm"]
        source = source / random.choice(files).name if files else source
    stage.synthesize(source, "--steps", 1)


def _fault(series: Path, random: Random) -> None:
    slices = [
        path
        for path in sorted(series.iterdir())
        if path.is_file() and path.suffix == ".dcm" and path.stat().st_size
    ]
    if not slices:
        return
    one = random.choice(slices)
    way = random.randrange(13)
    if way == 0:
        one.unlink()
    elif way == 1:
        shutil.copy(one, one.with_name(f"copy of {one.name}"))
    elif way == 2:
        whole = one.read_bytes()
        one.write_bytes(whole[: random.randrange(len(whole))])
    elif way == 3:
        one.write_bytes(random.choice((b"", b"hello", bytes(128) + b"DICM", bytes(300))))
    elif way == 4:
        (series / "notes.txt").write_text("no image")
    elif way == 5:
        os.mkfifo(series / f"fifo{random.randrange(999)}.dcm")
    elif way == 6:
        (series / f"link{random.randrange(999)}.dcm").symlink_to(
            random.choice(("/dev/zero", "nowhere", ".", one.name))
        )
    elif way == 7:
        inner = series / f"inner{random.randrange(999)}"
        inner.mkdir()
        shutil.copy(one, inner)
    elif way == 8:
        for path in slices if random.random() < 0.5 else [one]:
            _set_short(path, random.choice(list(_TAGS.values())), random.choice(_SHORTS))
    elif way <= 10:
        tag, word = random.choice(list(_TEXTS.values())), random.choice(_WORDS)
        for path in slices if random.random() < 0.5 else [one]:
            _set_text(path, tag, word)
    elif way == 11:
        one.rename(one.with_name(random.choice(("a\nb.dcm", "\udcff.dcm", "\x1b[31m", "e\u0301"))))
    else:
        content = bytearray(one.read_bytes())
        for _ in range(random.choice((1, 4, 40))):
            content[random.randrange(132, min(700, len(content)))] = random.randrange(256)
        one.write_bytes(content)


def _set_short(path: Path, tag: bytes, value: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.find(tag)
    if at >= 0:
        content[at + len(tag) : at + len(tag) + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)


def _set_text(path: Path, tag: bytes, word: bytes) -> None:
    """Replace a value of text, its length with it."""
    content = path.read_bytes()
    found = re.search(tag, content, re.DOTALL)
    if found:
        end = found.end(1) + int.from_bytes(found.group(1), "little")
        word += b" " * (len(word) % 2)
        length = len(word).to_bytes(2, "little")
        path.write_bytes(content[: found.start(1)] + length + word + content[end:])
