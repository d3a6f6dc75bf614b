"""Disks with no room left: a small tmpfs where one may be mounted, else files of limited size."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torture.judge import Geometry, Tree, check_kept, check_volume, look_at
from torture.stage import Stage
from torture.things import AFFINE, SIZE

from . import signals
from .training import hold_model

_PAIR = ("v.nii.gz", "v.json")


def play(stage: Stage) -> None:
    """A file, a folder or a training whose disk fills up somewhere on the way."""
    ways = (_replaced_file, _file_with_preview, _folder, _training, _label_map)
    ways[stage.number % len(ways)](stage)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of so many bytes at a folder; False where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = False
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "torture", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _limit(mounted: bool, size: int) -> dict[str, Any]:
    """How to run there: without the disk, files may not grow beyond a size."""
    return {} if mounted else {"file_bytes": size}


def _some_size(stage: Stage, least: int, most: int) -> int:
    return 4096 * stage.random.randint(least // 4096, most // 4096)


def _replaced_file(stage: Stage) -> None:
    """With --overwrite: the old volume with its record, or the new one with its own."""
    stage.things.label_map(stage.path("in/a.nii.gz"))
    # The old pair takes 16 KB; the new one needs as much beside it.
    size = _some_size(stage, 20_000, 52_000)
    with small_disk(stage.folder / "out", size) as mounted:
        run = ("in/a.nii.gz", "--steps", 1, "--overwrite")
        stage.synthesize(*run, made=True, geometry=Geometry(SIZE, AFFINE))
        old = _pair(stage)
        stage.synthesize(*run, "--seed", 5, **_limit(mounted, size // 2))
        new = _pair(stage)
        changed = [old[name] != new[name] for name in _PAIR]
        done = stage.ended[-1].code == 0
        stage.hold(changed == [done, done], f"of volume and record, new are {changed}, done {done}")
        check_volume(stage.folder / "out/v.nii.gz", Geometry(SIZE, AFFINE))


def _pair(stage: Stage) -> Tree:
    found = look_at(stage.folder / "out")
    stage.hold(set(_PAIR) == set(found), f"in the folder are {sorted(found)}")
    return found


def _file_with_preview(stage: Stage) -> None:
    stage.things.label_map(stage.path("in/a.nii.gz"))
    size = _some_size(stage, 4096, 40_000)
    with small_disk(stage.folder / "out", size) as mounted:
        stage.synthesize(
            "in/a.nii.gz", "--steps", 1, "--preview", "out/p.png",
            wanted=["out/v.nii.gz", "out/v.json", "out/p.png"], **_limit(mounted, size // 4),
        )  # fmt: skip


def _folder(stage: Stage) -> None:
    """What is done is whole; once there is room, the same command does the rest."""
    command = signals.batch(stage)
    expected = signals.undisturbed(stage, command, "res", "pictures")
    before = look_at(stage.folder)
    size = _some_size(stage, 8192, 120_000)
    with small_disk(stage.folder / "res", size) as mounted:
        stage.run(
            *command, allowed=_in_results, most_errors=9, summary=True, **_limit(mounted, size // 6)
        )
        check_kept(before, look_at(stage.folder))
        for volume in (stage.folder / "res").glob("*.nii.gz"):
            check_volume(volume)
        if mounted:
            grow = ["mount", "-o", "remount,size=100m", str(stage.folder / "res")]
            subprocess.run(grow, check=True)
        stage.run(*command, allowed=_in_results, made=True)
        signals.hold_equal(stage, expected, "res", "pictures")


def _in_results(name: str) -> bool:
    return name.split("/")[0] in ("res", "pictures")


def _label_map(stage: Stage) -> None:
    size = _some_size(stage, 4096, 8192)
    with small_disk(stage.folder / "out", size) as mounted:
        filler = stage.folder / "out/filler"
        room = stage.random.randrange(0, 2)
        filler.write_bytes(bytes(size - 4096 * room if mounted else 1))
        stage.run(
            "labelmap", "--random", "-o", "out/m.nii.gz", "--model", stage.things.model,
            wanted=["out/m.nii.gz"], **_limit(mounted, 40 * (1 + room)),
        )  # fmt: skip


def _training(stage: Stage) -> None:
    """A sentence; once there is room, the run goes on to its end."""
    size = _some_size(stage, 8192, 1_500_000)
    command = (
        "train", "--data", stage.things.data, "--output", "disk/model", "--device", "cpu",
        "--preset", stage.things.data / "plan.json", "--iterations", 2,
    )  # fmt: skip

    def ours(name: str) -> bool:
        return name.split("/")[0] == "disk"

    with small_disk(stage.folder / "disk", size) as mounted:
        # Once it has begun it may have said that there is nothing to validate with.
        ended = stage.run(*command, allowed=ours, summary=True, **_limit(mounted, size // 4))
        if mounted:
            grow = ["mount", "-o", "remount,size=100m", str(stage.folder / "disk")]
            subprocess.run(grow, check=True)
        if ended.code:
            signals.go_on(stage, command, stage.folder / "disk/model")
        (stage.folder / "disk/model").rename(stage.folder / "disk/done")
        stage.copy(stage.folder / "disk/done", "done")
    hold_model(stage, stage.folder / "done")
