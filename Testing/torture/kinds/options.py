"""Options of all values, outputs of all names, and what lies there already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torture.judge import Geometry, check_volume, look_at
from torture.stage import Stage
from torture.things import AFFINE, SIZE

Play = Callable[[Stage], object]
SOURCE = "in/a.nii.gz"
_NUMBERS = (
    "0", "-1", "1", "2", "1e3", "nan", "inf", "-inf", "", " 2", "2 ", "0x10", "1_0", "\u0662",
    "1.5",
    "2147483648", "99999999999999999999", "9" * 310, "9" * 5000, "1e999", "true", "None",
    "\x1b[31m",
)  # fmt: skip
_LABELS = (
    "", "=", "1=", "=anterior", "1", "1=anterior=x", "-1=anterior", "1=nothing", "99=anterior",
    "0=anterior", "1=background", "\u0661=anterior", "1_0=anterior", "9" * 400 + "=anterior",
    "1=\x1b[31m", "1=a\nb", "1.0=anterior", " 1=anterior", "1=ANTERIOR", "4294967297=anterior",
)  # fmt: skip
_OUTPUTS = (
    "", ".", "..", "/", "out", "nowhere/v.nii.gz", "in/a.nii.gz/v.nii.gz", "out/v.jpg", "out/v",
    "out/.nii.gz", "out/v.MHA", "out/v.NII.GZ", "out/v.Nrrd", "out/v.seg.nrrd", "out/v.mhd",
    "out/v.nii.gz.nii.gz", "out/v.json", "/dev/null", "/dev/full", "/proc/v.nii.gz", "/sys/v.nii",
    "out/" + "v" * 245 + ".nii.gz", "out/" + "v" * 248 + ".nii.gz", "out/" + "v" * 300 + ".nii.gz",
    "out/" + "\u00e9" * 124 + ".nii", "out/v.w" + "x" * 230 + ".nii.gz", "out/a\nb.nii.gz",
    "out/\x1b[31m.nii.gz", "out/\udcff.nii.gz", "out/\udcff.nrrd", "out/\udcff.mha",
    "out/ .nii.gz", "out/-.nii.gz", "out/\u202e.nii.gz", "-", "out/e\u0301.mha", "out/%s.nrrd",
    "x/" * 2100 + "v.nii", "out/./../out/v.nii",
)  # fmt: skip
_PREVIEWS = (
    "", "p.jpg", "p", "out", "nowhere/p.png", "in/a.nii.gz", "out/v.json", "out/v.nii.gz",
    "p.PNG", "/dev/null", "/dev/full", "/proc/p.png", "out/" + "p" * 300 + ".png", "out/\udcff.png",
    "out/a\nb.png", ".png", "out/.png",
)  # fmt: skip


def play(stage: Stage) -> None:
    """One of the catalogue."""
    stage.things.label_map(stage.path(SOURCE))
    stage.path("out/x")
    stage.pick(CATALOGUE)(stage)


def _option(option: str, value: str) -> Play:
    """A value of an option: taken and right, or refused."""

    def try_it(stage: Stage) -> None:
        model = stage.things.model
        samples = 2 if option == "--samples" else 1
        names = [f"out/v_sample-{n + 1}" for n in range(samples)] if samples > 1 else ["out/v"]
        both = {f"{name}{suffix}" for name in (*names, "out/v") for suffix in (".nii.gz", ".json")}
        if option == "--samples":
            both |= {
                f"out/v_sample-{n + 1}{suffix}"
                for n in range(10)
                for suffix in (".nii.gz", ".json")
            }
        ended = stage.run(
            "synthesize", SOURCE, "-o", "out/v.nii.gz", "--model", model, "--steps", "1",
            f"{option}={value}", allowed=lambda name: name in both,
        )  # fmt: skip
        made = [path for path in (stage.folder / "out").iterdir() if path.name.endswith(".gz")]
        stage.hold(bool(made) == (ended.code == 0), f"exit code {ended.code}, {len(made)} volumes")
        for path in made:
            check_volume(path, Geometry(SIZE, AFFINE))

    return try_it


def _output(name: str, *more: str) -> Play:
    """An output of some name: a volume and its record of that name, or nothing."""

    def try_it(stage: Stage) -> None:
        # Also the record, whatever its name is by the rules.
        given = Path(os.path.normpath(name))

        def ours(path: str) -> bool:
            first = given.name.split(".")[0][:100]
            same_folder = Path(path).parent == given.parent
            return same_folder and bool(first) and Path(path).name.startswith(first)

        ended = stage.run(
            "synthesize", SOURCE, "-o", name, "--model", stage.things.model, "--steps", "1", *more,
            allowed=ours,
        )  # fmt: skip
        new = look_at(stage.folder).keys() - {"in", SOURCE, "out"}
        if ended.code == 0:
            stage.hold(len(new) == 2, f"exit code 0 with {sorted(new)}")
            check_volume(stage.folder / name, Geometry(SIZE, AFFINE))
        else:
            stage.hold(not new, f"left after a refusal: {sorted(new)}")

    return try_it


def _preview(name: str) -> Play:
    def try_it(stage: Stage) -> None:
        before = look_at(stage.folder).keys()
        ended = stage.run(
            "synthesize", SOURCE, "-o", "out/v.nii.gz", "--model", stage.things.model,
            "--steps", "1", "--preview", name, allowed=lambda path: True,
        )  # fmt: skip
        new = look_at(stage.folder).keys() - before
        stage.hold(len(new) == (3 if ended.code == 0 else 0), f"code {ended.code}, {sorted(new)}")
        if ended.code == 0:
            check_volume(stage.folder / "out/v.nii.gz", Geometry(SIZE, AFFINE))

    return try_it


def _taken(name: str, make: str, *more: str) -> Play:
    """Something lies where something is to be written."""

    def try_it(stage: Stage) -> None:
        path = stage.path(name)
        if make == "folder":
            path.mkdir()
            (path / "inside.txt").write_text("mine")
        elif make == "file":
            path.write_text("mine")
        elif make == "link to source":
            path.symlink_to(stage.folder / SOURCE)
        elif make == "hard link to source":
            os.link(stage.folder / SOURCE, path)
        elif make == "link to file":
            stage.path("keep.txt").write_text("mine")
            path.symlink_to(stage.folder / "keep.txt")
        elif make == "link to nothing":
            path.symlink_to("nowhere")
        elif make == "fifo":
            os.mkfifo(path)
        wanted = ["out/v.nii.gz", "out/v.json", "out/p.png"]
        may_go = name if "--overwrite" in more and make in ("file", "link to nothing") else None
        files = [*wanted, *(f"out/v_sample-{n}{s}" for n in (1, 2) for s in (".nii.gz", ".json"))]
        files += ["out/p_sample-1.png", "out/p_sample-2.png"]
        replaced = [name] if "--overwrite" in more and make != "folder" else []
        before = look_at(stage.folder)
        ended = stage.run(
            "synthesize", SOURCE, "-o", "out/v.nii.gz", "--model", stage.things.model,
            "--steps", "1", "--preview", "out/p.png", *more,
            replaced=replaced, allowed=lambda path: path in files,
            made=True if may_go else None,
        )  # fmt: skip
        if ended.code:
            stage.hold(look_at(stage.folder) == before, "something changed after a refusal")
        else:
            for path in (stage.folder / "out").glob("v*.nii.gz"):
                check_volume(path, Geometry(SIZE, AFFINE))

    return try_it


def _own_sample(stage: Stage) -> None:
    """The label map has the name of a sample to be written."""
    stage.things.label_map(stage.path("in/v_sample-1.nii.gz"))
    stage.run(
        "synthesize", "in/v_sample-1.nii.gz", "-o", "in/v.nii.gz", "--samples", "2", "--overwrite",
        "--model", stage.things.model, "--steps", "1", made=False,
    )  # fmt: skip


def _own_record(stage: Stage) -> None:
    """The record would be written over what the label map's data lie in."""
    stage.things.label_map(stage.path("in/v.mhd"))
    (stage.folder / "in/v.raw").rename(stage.folder / "in/v.json")
    header = (stage.folder / "in/v.mhd").read_text().replace("v.raw", "v.json")
    (stage.folder / "in/v.mhd").write_text(header)
    stage.run(
        "synthesize", "in/v.mhd", "-o", "in/v.nii.gz", "--overwrite", "--model",
        stage.things.model, "--steps", "1",
        allowed=lambda name: name in ("in/v.nii.gz",),
    )  # fmt: skip


def _own_preview(stage: Stage) -> None:
    """The preview would be written over a label map that is named like a picture."""
    os.link(stage.folder / SOURCE, stage.folder / "in/p.png")
    stage.run(
        "synthesize", SOURCE, "-o", "out/v.nii.gz", "--preview", "in/p.png", "--overwrite",
        "--model", stage.things.model, "--steps", "1", made=False,
    )  # fmt: skip


def _refused(*arguments: str, code: int | None = None) -> Play:
    def try_it(stage: Stage) -> None:
        ended = stage.run(*[a.format(model=stage.things.model) for a in arguments], made=False)
        stage.hold(code in (None, ended.code), f"exit code {ended.code}")

    return try_it


CATALOGUE: list[Play] = [
    *(_option(option, value)
      for option in ("--samples", "--seed", "--steps", "--guidance") for value in _NUMBERS),
    *(_option("--label", value) for value in _LABELS),
    *(_option("--sampler", value) for value in ("", "ddim", "nothing", "DDIM", "\x1b[31m", "a\nb")),
    *(_option("--device", value) for value in ("cuda", "mps", "cuda:99", "", "cpu:1")),
    *(_output(name) for name in _OUTPUTS),
    *(_preview(name) for name in _PREVIEWS),
    *(
        _taken(name, make, *more)
        for name in ("out/v.nii.gz", "out/v.json", "out/p.png")
        for make in ("folder", "file", "link to source", "hard link to source", "link to file",
                     "link to nothing", "fifo")
        for more in ((), ("--overwrite",))
    ),
    _taken("out/v_sample-2.nii.gz", "link to source", "--overwrite", "--samples", "2"),
    _taken("out/v_sample-2.json", "hard link to source", "--overwrite", "--samples", "2"),
    _taken("out/p_sample-1.png", "link to source", "--overwrite", "--samples", "2"),
    _own_sample, _own_sample, _own_record, _own_preview,
    # What is refused leaves no folder behind.
    _refused("synthesize", "in", "-o", "res", "--model", "nothing", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "in", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "{model}", "--steps", "0", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "{model}", "--seed", "-1", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "{model}", "--guidance", "nan", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "{model}", "--preview", "nowhere/p"),
    _refused("synthesize", "in", "-o", "res", "--model", "{model}", "--sampler", "x", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "a\x1b[31mb", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "/dev/null", code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "m" * 300, code=1),
    _refused("synthesize", "in", "-o", "res", "--model", "m" * 5000, code=1),
    _refused("synthesize", "nowhere", "-o", "res", code=1),
    _refused("synthesize", "", "-o", "res"),
    _refused("synthesize", "n" * 5000, "-o", "v.nii", code=1),
    _refused("synthesize", "a\x1b[31m.nii", "-o", "v.nii", code=1),
    _refused("synthesize", code=2), _refused(code=2), _refused("nothing", code=2),
    _refused("--nothing", code=2), _refused("\x1b[31m", code=2), _refused("a\nb", code=2),
    _refused("synthesize", SOURCE, "-o", "out/v.nii", "--\x1b[31m", code=2),
    _refused("info", code=2), _refused("info", "nothing", code=1), _refused("info", "\udcff"),
    _refused("info", "\x1b[31m", code=1), _refused("info", ".", code=1), _refused("info", "/"),
    _refused("labelmap", "--random", "-o", "out/m.jpg", "--model", "{model}", code=1),
    _refused("labelmap", "--random", "-o", "out", "--model", "{model}", code=1),
    _refused("labelmap", "--random", "-o", SOURCE, "--model", "{model}", code=1),
    _refused("labelmap", "--random", "-o", "out/m.nii", "--model", "{model}", "--seed", "-1"),
    _refused("labelmap", "--random", "-o", "out/m.nii", "--model", "{model}", "--seed", "9" * 400),
    _refused("labelmap", "--random", "-o", "nowhere/m.nii", "--model", "{model}", code=1),
    _refused("labelmap", "-o", "out/m.nii", code=2),
    _refused("train", code=2), _refused("train", "--output", "res", code=1),
]  # fmt: skip
"""The first of these are many, so a run takes them in an order of its own."""
