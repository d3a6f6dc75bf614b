"""Models as zip files, from people who mean well or ill: imported whole and safely, or refused."""

from __future__ import annotations

import io
import os
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from torture.judge import look_at
from torture.stage import Stage

from .bundles import damage_json

# Names that come twice are wanted.
warnings.filterwarnings("ignore", "Duplicate name")

Entries = list[tuple[str | zipfile.ZipInfo, bytes]]
Change = Callable[[Entries, Random], None]
_FILES = ("model.json", "weights.safetensors", "shape.safetensors")


def play(stage: Stage) -> None:
    """One zip file, or folder: nothing but the model's files in the user's folder, or no change."""
    name, make = stage.pick(CATALOGUE)
    home = stage.path("user/models/mine/notes.txt").parents[2]
    stage.path("user/models/mine/notes.txt").write_text("mine")
    source = make(stage)
    environment: dict[str, str | None] = {"MEDDIFFUSION_HOME": str(home)}
    before = look_at(stage.folder)
    ended = stage.run(
        "import", source, environment=environment,
        allowed=lambda path: path.startswith("user/models/"),
    )  # fmt: skip
    new = sorted(look_at(stage.folder).keys() - before.keys())
    if ended.code:
        stage.hold(not new, f"{name}: left after a refusal: {new}")
        return
    folders = {path for path in new if path.count("/") == 2}
    stage.hold(len(folders) == 1, f"{name}: new in the models' folder: {sorted(folders)}")
    files = {Path(path).name for path in new} - {Path(path).name for path in folders}
    known = {*_FILES, "README.md", "LICENSE", "LICENSE.txt", "README.txt"}
    stage.hold(files <= known, f"{name}: no files of a model: {sorted(files - known)}")
    stage.run("info", Path(folders.pop()).name, environment=environment, made=True)


def _sound(stage: Stage) -> Entries:
    return [(f"tiny/{name}", (stage.things.model / name).read_bytes()) for name in _FILES]


def _zip(
    change: Change = lambda entries, random: None, method: int = zipfile.ZIP_STORED
) -> Callable[[Stage], str]:
    """A model's zip, its entries changed."""

    def make(stage: Stage) -> str:
        entries = _sound(stage)
        change(entries, stage.random)
        with zipfile.ZipFile(stage.path("m.zip"), "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return "m.zip"

    return make


def _with(name: str, content: bytes = b"x") -> Change:
    return lambda entries, random: entries.append((name, content))


def _under(folder: str) -> Change:
    """All entries in another folder."""

    def change(entries: Entries, random: Random) -> None:
        entries[:] = [(folder + str(name).removeprefix("tiny/"), data) for name, data in entries]

    return change


def _without(number: int) -> Change:
    return lambda entries, random: entries.__delitem__(number)


def _linked(target: str, name: str = "tiny/weights.safetensors") -> Change:
    """An entry that is a symbolic link."""

    def change(entries: Entries, random: Random) -> None:
        entries[:] = [(n, d) for n, d in entries if n != name]
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        entries.append((info, target.encode()))

    return change


def _twice(entries: Entries, random: Random) -> None:
    entries.append((entries[0][0], b"{}"))


def _many(entries: Entries, random: Random) -> None:
    entries += [(f"tiny/{n}", b"") for n in range(70_000)]


def _bomb(entries: Entries, random: Random) -> None:
    entries[1] = (entries[1][0], bytes(2**30))


def _json_bomb(entries: Entries, random: Random) -> None:
    entries[0] = (entries[0][0], b"[" * 2**28)


def _bytes(change: Callable[[bytearray, Random], None]) -> Callable[[Stage], str]:
    """The bytes of a sound zip changed."""

    def make(stage: Stage) -> str:
        _zip()(stage)
        path = stage.folder / "m.zip"
        content = bytearray(path.read_bytes())
        change(content, stage.random)
        path.write_bytes(content)
        return "m.zip"

    return make


def _cut(content: bytearray, random: Random) -> None:
    del content[random.randrange(len(content)) :]


def _flip(content: bytearray, random: Random) -> None:
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _flip_directory(content: bytearray, random: Random) -> None:
    start = content.rindex(b"PK\x01\x02") - 120
    for _ in range(random.choice((1, 4))):
        content[random.randrange(start, len(content))] = random.randrange(256)


def _encrypt(content: bytearray, random: Random) -> None:
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)


def _nested(stage: Stage) -> str:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name, content in _sound(stage):
            archive.writestr(str(name), content)
    with zipfile.ZipFile(stage.path("m.zip"), "w") as archive:
        archive.writestr("m.zip", inner.getvalue())
    return "m.zip"


def _text(name: str, content: bytes) -> Callable[[Stage], str]:
    def make(stage: Stage) -> str:
        stage.path(name).write_bytes(content)
        return name

    return make


def _fifo(stage: Stage) -> str:
    os.mkfifo(stage.path("m.zip"))
    return "m.zip"


def _link_to_zero(stage: Stage) -> str:
    stage.path("m.zip").symlink_to("/dev/zero")
    return "m.zip"


def _sparse(stage: Stage) -> str:
    stage.path("m.zip").touch()
    os.truncate(stage.folder / "m.zip", 2**35)
    return "m.zip"


def _damaged(stage: Stage) -> str:
    """A manifest that is not as it was, in an otherwise sound zip."""
    model = stage.copy(stage.things.model, "tiny")
    damage_json(model / "model.json", stage.random, stage.number)
    manifest = model / "model.json"
    if not manifest.is_file() or manifest.stat().st_size > 2**28:
        return "tiny"
    with zipfile.ZipFile(stage.path("m.zip"), "w") as archive:
        for name in _FILES:
            archive.writestr(f"tiny/{name}", (model / name).read_bytes())
    return "m.zip"


def _folder(change: Callable[[Path], object]) -> Callable[[Stage], str]:
    """A model's folder with something odd in it."""

    def make(stage: Stage) -> str:
        model = stage.copy(stage.things.model, "theirs")
        change(model)
        return "theirs"

    return make


def _linked_weights(model: Path) -> None:
    (model / "weights.safetensors").rename(model.parent / "real")
    (model / "weights.safetensors").symlink_to("../real")


def _fifo_weights(model: Path) -> None:
    (model / "weights.safetensors").unlink()
    os.mkfifo(model / "weights.safetensors")


def _pictures(model: Path) -> None:
    """What a training leaves: pictures of patients are no part of a model."""
    (model / "montage.png").write_bytes(b"patients")
    (model / "checkpoint.safetensors").write_bytes(b"names of patients")


CATALOGUE: list[tuple[str, Callable[[Stage], str]]] = [
    ("sound", _zip()), ("deflated", _zip(method=zipfile.ZIP_DEFLATED)),
    ("bzip2", _zip(method=zipfile.ZIP_BZIP2)), ("lzma", _zip(method=zipfile.ZIP_LZMA)),
    *((f"also {name!r}", _zip(_with(name))) for name in (
        "../evil", "../../../../tmp/evil", "/tmp/evil", "tiny/../../evil", "..\\evil", "C:\\evil",
        "C:/evil", "tiny/montage.png", "tiny/checkpoint.safetensors", "__MACOSX/._model.json",
        "tiny/._model.json", "tiny/sub/model.json", "other/model.json", "tiny/a\nb", "\x1b[31m",
        "tiny/MODEL.JSON", "tiny/README.md", "tiny/LICENSE", "tiny/" + "n" * 300, "tiny/x.py",
        "tiny/weights.safetensors/x", "tiny/con", "tiny/\u202egpj.json", "evil/",
    )),
    *((f"under {folder!r}", _zip(_under(folder))) for folder in (
        "", "/", "../", "a/b/", "./", "\x1b[31m/", "/tmp/", "tiny//", "t\\iny\\", "..",
    )),
    *((f"without entry {n}", _zip(_without(n))) for n in range(3)),
    *((f"a link to {target!r}", _zip(_linked(target))) for target in ("/etc/passwd", "../x",
    "/dev/zero")),
    ("a manifest that is a link", _zip(_linked("/etc/passwd", "tiny/model.json"))),
    ("an entry twice", _zip(_twice)), ("70,000 entries", _zip(_many)),
    ("a bomb", _zip(_bomb, zipfile.ZIP_DEFLATED)), ("a JSON bomb", _zip(_json_bomb,
    zipfile.ZIP_DEFLATED)),
    *(("cut", _bytes(_cut)) for _ in range(3)), *(("a bit flipped",
    _bytes(_flip)) for _ in range(3)),
    *(("a directory of lies", _bytes(_flip_directory)) for _ in range(8)),
    ("encrypted", _bytes(_encrypt)), ("a zip in a zip", _nested), ("a FIFO", _fifo),
    ("a link to /dev/zero", _link_to_zero), ("sparse", _sparse),
    *((f"text named {n}", _text(n, b"hello" * 99)) for n in ("m.zip", "m.tar", "m",
    "m\x1b[31m.zip")),
    ("empty", _text("m.zip", b"")), ("no entries", _text("m.zip", b"PK\x05\x06" + bytes(18))),
    *(("a damaged manifest", _damaged) for _ in range(8)),
    ("a folder", _folder(lambda model: None)), ("a folder with pictures", _folder(_pictures)),
    ("a folder with linked weights", _folder(_linked_weights)),
    ("a folder with a FIFO", _folder(_fifo_weights)),
]  # fmt: skip
