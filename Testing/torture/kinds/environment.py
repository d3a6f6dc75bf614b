"""Surroundings of a process: streams, home, user, locale, folders that nobody may write to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.judge import Geometry, check_volume
from torture.stage import Stage
from torture.things import AFFINE, SIZE

Play = Callable[[Stage], object]
_NOBODY = 65534
_UNKNOWN = 987_654
_GEOMETRY = Geometry(SIZE, AFFINE)


def play(stage: Stage) -> None:
    """One of the catalogue."""
    stage.things.label_map(stage.path("in/a.nii.gz"))
    stage.path("out/x")
    stage.pick(CATALOGUE)(stage)


def _synthesis(made: bool | None = True, source: str = "in/a.nii.gz", **how: Any) -> Play:
    """A synthesis that works, or is refused, in these surroundings."""

    def try_it(stage: Stage) -> None:
        if source != "in/a.nii.gz":
            stage.things.label_map(stage.path(source))
        user = how.get("user")
        if user is not None:
            (stage.folder / "out").chmod(0o777)
        stage.synthesize(source, "--steps", 1, made=made, geometry=_GEOMETRY, **how)

    return try_it


def _stream(stdout: str | None = "kept", stderr: str | None = "kept", *more: str) -> Play:
    """A synthesis whose words get lost: the files are right all the same."""

    def try_it(stage: Stage) -> None:
        stage.synthesize(
            "in/a.nii.gz", "--steps", 1, *more, stdout=stdout, stderr=stderr, words=False,
            allowed=lambda name: name in ("out/v.nii.gz", "out/v.json"),
        )  # fmt: skip
        ended = stage.ended[-1]
        # A full disk behind stdout may be an error, but one after the work, or before it.
        stage.hold(stdout == "/dev/full" or ended.code == 0, f"exit code {ended.code}")
        whole = {(stage.folder / name).exists() for name in ("out/v.nii.gz", "out/v.json")}
        stage.hold(len(whole) == 1, "a volume without its record, or the other way round")
        if True in whole:
            check_volume(stage.folder / "out/v.nii.gz", _GEOMETRY)

    return try_it


def _lost_words(*arguments: str, stdout: str | None = "kept", stderr: str | None = "kept") -> Play:
    """A refusal or a card whose words get lost."""
    return lambda stage: stage.run(*arguments, stdout=stdout, stderr=stderr, words=False)


def _broken_pipe(*arguments: str) -> Play:
    """Whoever read the standard output is gone."""

    def try_it(stage: Stage) -> None:
        pipe = stage.log_folder / "pipe"
        pipe.parent.mkdir(exist_ok=True)
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        running = stage.start(*arguments, stdout=str(pipe))
        # Opened for writing by now, or soon: only then may the reader go.
        stage.launcher.wait(running, until=lambda: _is_open(running.pid, str(pipe)))
        os.close(reader)
        ended = stage.finish(running)
        stage.hold("Traceback" not in ended.err, f"traceback: {ended.err[-200:]}")
        stage.hold(ended.code >= 0, f"death by signal {-ended.code}")
        stage.hold(not ended.stopped, ended.stopped)
        stage.hold("Exception ignored" not in ended.err, f"on stderr: {ended.err[-200:]}")

    return try_it


def _is_open(pid: int, path: str) -> bool:
    try:
        return str(Path(f"/proc/{pid}/fd/1").readlink()) == path
    except OSError:
        return False


def _home(kind: str, *arguments: str, made: bool | None = True, user: int | None = None) -> Play:
    """A user folder that is no folder, or cannot be written."""

    def try_it(stage: Stage) -> None:
        home = stage.path("home")
        if kind == "file":
            home.write_text("mine")
        elif kind in ("closed", "read-only"):
            home.mkdir()
            home.chmod(0o000 if kind == "closed" else 0o555)
        elif kind == "models is a file":
            home.mkdir()
            (home / "models").write_text("mine")
        elif kind == "link to itself":
            home.symlink_to("home")
        elif kind in ("execution.json is rubbish", "execution.json is deep"):
            home.mkdir()
            deep = kind.endswith("deep")
            (home / "execution.json").write_text("[" * 5000 if deep else '{"x": NaN')
        elif kind == "execution.json is a folder":
            (home / "execution.json").mkdir(parents=True)
        elif kind == "execution.json is a FIFO":
            home.mkdir()
            os.mkfifo(home / "execution.json")
        value = {"nothing": "/nonexistent/x", "null": "/dev/null", "empty": "",
                 "long": "h" * 5000}.get(kind, str(home))  # fmt: skip
        words = arguments or (
            "synthesize", "in/a.nii.gz", "-o", "out/v.nii.gz", "--model", str(stage.things.model),
            "--steps", "1", "--device", "cpu",
        )  # fmt: skip
        (stage.folder / "out").chmod(0o777)
        stage.run(
            *words, wanted=() if arguments else ("out/v.nii.gz", "out/v.json"), made=made,
            environment={"MEDDIFFUSION_HOME": value, "HOME": str(stage.folder)}, user=user,
            replaced=["home/execution.json"], geometry=_GEOMETRY,
            allowed=lambda name: name.startswith((".meddiffusion", "home")),
        )  # fmt: skip

    return try_it


def _read_only(what: str, mode: int, user: int | None = _NOBODY) -> Play:
    """Something that this user may not read or write."""

    def try_it(stage: Stage) -> None:
        (stage.folder / "out").chmod(0o777)
        stage.path("closed/x")
        (stage.folder / what).chmod(mode)
        stage.synthesize("in/a.nii.gz", "--steps", 1, user=user, made=False)

    return try_it


def _closed_model(name: str) -> Play:
    def try_it(stage: Stage) -> None:
        model = stage.copy(stage.things.model, "model")
        (stage.folder / "out").chmod(0o777)
        (model / name).chmod(0o000)
        stage.synthesize("in/a.nii.gz", "--steps", 1, "--model", "model", user=_NOBODY, made=False)

    return try_it


def _read_only_all(stage: Stage) -> None:
    """Nothing at all may be written: a card and a refusal all the same."""
    environment = {"HOME": None, "MEDDIFFUSION_HOME": None, "TMPDIR": "/nonexistent"}
    stage.run("info", stage.things.model, user=_NOBODY, environment=environment, made=True)
    stage.run("models", user=_NOBODY, environment=environment, made=True)
    stage.synthesize("in/a.nii.gz", "--steps", 1, user=_NOBODY, environment=environment, made=False)


_NO_HOME: dict[str, str | None] = {"HOME": None, "MEDDIFFUSION_HOME": None}
_ASCII: dict[str, str | None] = {"LC_ALL": "C", "PYTHONIOENCODING": None}
_PLAIN_ASCII: dict[str, str | None] = {
    "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
}  # fmt: skip

CATALOGUE: list[Play] = [
    _stream(stdout=None), _stream(stderr=None), _stream(None, None),
    _stream(stdout="/dev/full"), _stream(stderr="/dev/full"), _stream("/dev/full", "/dev/full"),
    _lost_words("info", "hippocampus-mr", stdout=None),
    _lost_words("info", "hippocampus-mr", stdout="/dev/full"),
    _lost_words("models", stdout="/dev/full"), _lost_words("models", stdout=None),
    _lost_words("--version", stdout="/dev/full"), _lost_words("--help", stdout=None),
    _lost_words("--nothing", stderr="/dev/full"), _lost_words("--nothing", stderr=None),
    _lost_words("synthesize", "nowhere", "-o", "out/v.nii", stderr="/dev/full"),
    _lost_words("synthesize", "nowhere", "-o", "out/v.nii", stderr=None),
    _broken_pipe("info", "hippocampus-mr"), _broken_pipe("models"), _broken_pipe("--help"),
    _synthesis(environment=_NO_HOME),
    _synthesis(environment=_NO_HOME, user=_NOBODY),
    _synthesis(environment=_NO_HOME, user=_UNKNOWN),
    _synthesis(environment={**_NO_HOME, "HOME": "/nonexistent"}, user=_UNKNOWN),
    _synthesis(environment={**_NO_HOME, "HOME": ""}, user=_UNKNOWN),
    lambda stage: stage.run("models", environment=_NO_HOME, user=_UNKNOWN, made=True),
    lambda stage: stage.run("info", "hippocampus-mr", environment=_NO_HOME, user=_UNKNOWN,
    made=True),
    _synthesis(environment=_ASCII), _synthesis(environment=_PLAIN_ASCII),
    _synthesis(source="in/\u00e9\U0001f9e0.nii.gz", environment=_ASCII),
    _synthesis(source="in/\u00e9\U0001f9e0.nii.gz", environment=_PLAIN_ASCII),
    _synthesis(source="in/\u00e9.nrrd", environment=_PLAIN_ASCII),
    _synthesis(environment={"TMPDIR": "/nonexistent"}),
    _synthesis(environment={"PATH": None}),
    _synthesis(environment={"COLUMNS": "0"}), _synthesis(environment={"TERM": "dumb"}),
    _synthesis(None, environment={"RANK": "x"}), _synthesis(None, environment={"WORLD_SIZE": "0"}),
    *(_home(kind) for kind in (
        "file", "closed", "read-only", "nothing", "null", "empty", "long", "models is a file",
        "link to itself", "execution.json is rubbish", "execution.json is deep",
        "execution.json is a folder", "execution.json is a FIFO",
    )),
    *(_home(kind, user=_NOBODY) for kind in ("closed", "read-only")),
    *(_home(kind, "models") for kind in ("file", "models is a file", "link to itself", "long")),
    *(_home(kind, "models", user=_NOBODY) for kind in ("closed", "read-only")),
    _read_only("out", 0o555), _read_only("out", 0o000), _read_only("in", 0o000),
    _read_only("in/a.nii.gz", 0o000),
    _closed_model("model.json"), _closed_model("weights.safetensors"), _closed_model("."),
    _read_only_all,
]  # fmt: skip
