"""Where one input is tried: a folder of its own, a command in it, and the promises held to it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from torture.judge import (
    Broken,
    Ended,
    Geometry,
    check_end,
    check_kept,
    check_new,
    check_picture,
    check_volume,
    check_words,
    look_at,
    record_of,
)
from torture.launching import MOST_SECONDS, Launcher, Running, Streams, Surroundings
from torture.things import Things

KEPT = "kept"
"""Of a standard stream: into a file that is read afterwards."""
_MOST_SAID = 2**20
T = TypeVar("T")


@dataclass
class Stage:
    """A folder for one input, which only ``random`` chooses; commands run in it."""

    folder: Path
    kind: str
    number: int
    seed: int
    random: Random
    things: Things
    launcher: Launcher
    real: bool
    """Whether commands that may be forked are run as programs all the same."""
    commands: list[str] = field(default_factory=list)
    """What was run, as lines for a shell."""
    ended: list[Ended] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """What is worth to be known of this input."""
    _said: dict[int, tuple[Path, Path]] = field(default_factory=dict)

    def pick(self, catalogue: Sequence[T]) -> T:
        """An entry of a catalogue: each comes once before one comes again, in the seed's order."""
        order = list(range(len(catalogue)))
        Random(f"{self.seed} {self.kind}").shuffle(order)
        return catalogue[order[self.number % len(order)]]

    def path(self, name: str) -> Path:
        """A path in the folder; its own folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start(
        self,
        *arguments: object,
        real: bool = False,
        environment: Mapping[str, str | None] | None = None,
        stdout: str | None = KEPT,
        stderr: str | None = KEPT,
        user: int | None = None,
        file_bytes: int | None = None,
        most_seconds: float = MOST_SECONDS,
    ) -> Running:
        """Start a command in the folder.

        ``environment`` changes variables, None takes one away; ``stdout`` and ``stderr`` are paths,
        or None for a closed one.
        """
        changes = dict(environment or {})
        full = {**self.things.environment, **{k: v for k, v in changes.items() if v is not None}}
        full = {k: v for k, v in full.items() if changes.get(k, v) is not None}
        said = self._said_files()
        streams = Streams(
            "/dev/null",
            str(said[0]) if stdout == KEPT else stdout,
            str(said[1]) if stderr == KEPT else stderr,
        )
        around = Surroundings(
            self.folder, full, streams, real or self.real, user, file_bytes, most_seconds
        )
        self.commands.append(self._line(arguments, changes, streams, user, file_bytes))
        running = self.launcher.start(arguments, around)
        self._said[running.pid] = said
        return running

    def finish(self, running: Running, killed: bool = False) -> Ended:
        """Wait for a command that was started."""
        self.launcher.wait(running)
        assert running.code is not None
        out, err = (_text(path) for path in self._said[running.pid])
        ended = Ended(
            running.code, out, err, running.kib, running.cpu, running.stopped,
            running.left_processes, killed,
        )  # fmt: skip
        self.ended.append(ended)
        return ended

    def run(
        self,
        *arguments: object,
        wanted: Iterable[str] = (),
        replaced: Iterable[str] = (),
        allowed: Callable[[str], bool] = lambda name: False,
        made: bool | None = None,
        geometry: Geometry | None = None,
        most_errors: int = 1,
        summary: bool = False,
        report: bool = False,
        words: bool = True,
        **how: Any,
    ) -> Ended:
        """Run a command and hold it to the promises; raises Broken.

        ``wanted``: the files, relative to the folder, that it makes when it succeeds, else none of
        them; ``replaced`` may change; ``allowed`` says of a relative path whether it may appear in
        any case. ``made``: whether it must succeed or must refuse; None where both is right.
        ``how`` goes to :meth:`start`.
        """
        wanted = [str(name) for name in wanted]
        replaced = list(replaced)
        before = look_at(self.folder)
        ended = self.finish(self.start(*arguments, **how))
        after = look_at(self.folder)
        check_kept(before, after, [*replaced, *(wanted if "--overwrite" in arguments else ())])
        check_end(ended)
        if words:
            check_words(ended, most_errors, summary, report)
        check_new(before, after, wanted, allowed, ended.code == 0)
        if made is not None and made != (ended.code == 0):
            said = ended.err.strip()[-300:]
            raise Broken(f"{'refused' if made else 'accepted'}, exit code {ended.code}: {said}")
        if ended.code == 0:
            for name in wanted:
                check_result(self.folder / name, geometry)
        return ended

    def synthesize(
        self, source: object, *more: object, output: str = "out/v.nii.gz", **promises: Any
    ) -> Ended:
        """Run ``synthesize`` on a file with the tiny model, unless ``more`` names another."""
        self.path(output)
        model = () if "--model" in more else ("--model", self.things.model)
        wanted = promises.pop("wanted", None) or [output, str(record_of(Path(output)))]
        return self.run(
            "synthesize", source, "-o", output, *model, "--device", "cpu", *more,
            wanted=wanted, **promises,
        )  # fmt: skip

    def hold(self, kept: object, problem: str) -> None:
        """Raise Broken with the problem unless a promise was kept."""
        if not kept:
            raise Broken(problem)

    def copy(self, source: Path, name: str) -> Path:
        """A copy of a file or folder under another name in the folder."""
        target = self.path(name)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)
        return target

    @property
    def log_folder(self) -> Path:
        """Beside the stage's folder, so that what is said is not among what is judged."""
        return self.folder.with_name(self.folder.name + "-said")

    def _said_files(self) -> tuple[Path, Path]:
        self.log_folder.mkdir(exist_ok=True)
        out, err = (self.log_folder / f"{len(self.commands)}.{name}" for name in ("out", "err"))
        for path in (out, err):
            path.touch()
            path.chmod(0o666)
        return out, err

    def _line(
        self,
        arguments: Iterable[object],
        changes: Mapping[str, str | None],
        streams: Streams,
        user: int | None,
        file_bytes: int | None,
    ) -> str:
        home = f"MEDDIFFUSION_HOME={self.things.environment['MEDDIFFUSION_HOME']}"
        variables = [home] if "MEDDIFFUSION_HOME" not in changes else []
        variables += [f"-u {key}" for key, value in changes.items() if value is None]
        variables += [f"{key}={_quoted(v)}" for key, v in changes.items() if v is not None]
        variables.sort(key=lambda word: not word.startswith("-u"))
        words = ["env", *variables, "meddiffusion", *(_quoted(str(a)) for a in arguments)]
        line = " ".join(words)
        if user is not None:
            line = f"setpriv --reuid {user} --regid {user} --clear-groups {line}"
        for number, stream in enumerate((streams.stdout, streams.stderr), start=1):
            if stream is None:
                line += f" {number}>&-"
            elif not stream.startswith(str(self.log_folder)):
                line += f" {number}>{stream}"
        if file_bytes is not None:
            line = f"ulimit -f {-(-file_bytes // 1024)}; {line}"
        return f"cd {_quoted(str(self.folder))} && {line}"


def _quoted(word: str) -> str:
    """A word for a shell that prints: bash reads the escapes."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(word)
    )
    return f"$'{escaped}'"


def check_result(path: Path, geometry: Geometry | None) -> None:
    """One file that a synthesis made."""
    name = path.name.lower()
    if name.endswith(".png"):
        check_picture(path)
    elif name.endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        check_volume(path, geometry)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST_SAID).decode("utf-8", "surrogateescape")
