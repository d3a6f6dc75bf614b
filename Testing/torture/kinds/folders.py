"""Folders of label maps, with odd things in them, or with results that were made before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torture.judge import look_at
from torture.stage import Stage
from torture.things import label_array

from .options import SOURCE, Play


def play(stage: Stage) -> None:
    """One of the catalogue."""
    stage.things.label_map(stage.path(SOURCE))
    stage.pick(CATALOGUE)(stage)


def _folder(prepare: Callable[[Stage], object], *more: str, made: bool | None = None,
            output: str = "res") -> Play:  # fmt: skip
    """A folder of label maps with something odd about it."""

    def try_it(stage: Stage) -> None:
        prepare(stage)
        before = look_at(stage.folder)
        ended = stage.run(
            "synthesize", "in", "-o", output, "--model", stage.things.model, "--steps", "1", *more,
            allowed=lambda name: name.split("/")[0] == output.split("/")[0] or name.startswith("p"),
            made=made, most_errors=9, summary=True,
        )  # fmt: skip
        new = look_at(stage.folder).keys() - before.keys()
        volumes = {name[:-7] for name in new if name.endswith(".nii.gz")}
        records = {name[:-5] for name in new if name.endswith(".json")}
        stage.hold(volumes == records, f"volumes {sorted(volumes)}, records {sorted(records)}")
        hidden = [name for name in new if Path(name).name.startswith(".")]
        stage.hold(not hidden, f"taken for a label map: {hidden}")
        if ended.code == 0:
            stage.hold(bool(volumes), "exit code 0 and nothing made")

    return try_it


def _nothing(stage: Stage) -> None:
    pass


def _with(name: str, content: bytes = b"x") -> Callable[[Stage], object]:
    return lambda stage: stage.path(name).write_bytes(content)


def _another(name: str) -> Callable[[Stage], object]:
    return lambda stage: shutil.copy(stage.folder / SOURCE, stage.path(name))


def _emptied(stage: Stage) -> None:
    (stage.folder / SOURCE).unlink()


def _fifo(stage: Stage) -> None:
    os.mkfifo(stage.folder / "in/b.nii.gz")


def _zero(stage: Stage) -> None:
    (stage.folder / "in/b.nii.gz").symlink_to("/dev/zero")


def _loop(stage: Stage) -> None:
    (stage.folder / "in/b").symlink_to(".")
    (stage.folder / "in/c.nii.gz").symlink_to("c.nii.gz")


def _stale(change: str) -> Play:
    """A finished folder run again after something changed: never "was there already"."""

    def try_it(stage: Stage) -> None:
        run = ("synthesize", "in", "-o", "res", "--model", stage.things.strict, "--steps", "1")
        pair = ["res/a.nii.gz", "res/a.json"]
        more: tuple[str, ...] = ()
        if change == "assignment":
            more = ("--label", "1=posterior", "--label", "2=anterior")
        stage.run(*run, wanted=pair, allowed=lambda name: name == "res", made=True)
        first = look_at(stage.folder)
        if change == "label map":
            stage.things.label_map(stage.folder / SOURCE, label_array()[:, ::-1].copy())
        elif change == "empty result":
            (stage.folder / "res/a.nii.gz").write_bytes(b"")
        elif change == "cut result":
            whole = (stage.folder / "res/a.nii.gz").read_bytes()
            (stage.folder / "res/a.nii.gz").write_bytes(whole[:-30])
        elif change == "no record":
            (stage.folder / "res/a.json").unlink()
        elif change == "no volume":
            (stage.folder / "res/a.nii.gz").unlink()
        elif change == "record of rubbish":
            (stage.folder / "res/a.json").write_text("[" * 3000)
        ended = stage.run(*run, *more, replaced=pair, wanted=pair, summary=True)
        if change == "nothing":
            stage.hold(ended.code == 0 and "already" in ended.out, "not found to be there already")
            stage.hold(look_at(stage.folder) == first, "a finished result was changed")
        else:
            stage.hold("already" not in ended.out, f"a stale result ({change}) was there already")

    return try_it


CATALOGUE: list[Play] = [
    _folder(_nothing, made=True),
    _folder(_nothing, output="in"),
    _folder(_nothing, output="in/sub", made=True),
    _folder(_nothing, output="nowhere/res", made=False),
    _folder(_nothing, output=SOURCE, made=False),
    _folder(_nothing, "--samples", "2", "--preview", "pictures", made=True),
    _folder(_with("in/._a.nii.gz"), made=True),
    _folder(_with("in/.meddiffusion-0123456789abcdef.nii.gz"), made=True),
    _folder(_with("in/.hidden.nrrd"), made=True),
    _folder(_with("in/notes.txt"), made=True),
    _folder(_with("in/b.nii.gz"), made=False),
    _folder(_with("in/b\x1b[31m.nii.gz"), made=False),
    _folder(_with("in/b\nc.nii.gz"), made=False),
    _folder(_with("in/b\udcff.nii.gz"), made=False),
    _folder(_another("in/b\udcff.nii.gz"), made=None),
    _folder(_another("in/b\nc.nii.gz"), made=None),
    _folder(_another("in/-o.nii.gz"), made=True),
    _folder(_another("in/" + "n" * 240 + ".nii.gz"), made=None),
    _folder(_another("in/a.nii"), made=None),
    _folder(_emptied, made=False),
    _folder(_fifo), _folder(_zero), _folder(_loop),
    _folder(_with("res", b"a file"), made=False),
    _folder(_with("res/a.nii.gz", b"mine"), made=False),
    _folder(_with("res/a.json", b"mine"), made=False),
    *(_stale(change) for change in (
        "nothing", "assignment", "label map", "empty result", "cut result", "no record",
        "no volume", "record of rubbish",
    )),
]  # fmt: skip
