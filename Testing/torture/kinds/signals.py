"""Commands that are killed and run again, interrupted, or run twice at once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture.judge import (
    Broken,
    Ended,
    Tree,
    check_end,
    check_kept,
    check_new,
    check_volume,
    check_words,
    look_at,
)
from torture.launching import Running
from torture.stage import Stage
from torture.things import label_array

_MAPS = 3


@dataclass(frozen=True)
class Expected:
    """What an undisturbed run makes: of a batch or of a training."""

    batch: Tree | None
    training: dict[str, object] | None


def batch(stage: Stage, maps: int = _MAPS) -> tuple[object, ...]:
    """Write label maps; returns the command that makes volumes and previews of them."""
    for n in range(maps):
        array = label_array()
        array[: 1 + n] = 0
        stage.things.label_map(stage.path(f"in/case {n}.nii.gz"), array)
    return (
        "synthesize", "in", "-o", "res", "--preview", "pictures", "--model", stage.things.model,
        "--steps", 1, "--samples", 2, "--device", "cpu",
    )  # fmt: skip


def undisturbed(stage: Stage, command: tuple[object, ...], *folders: str) -> Tree:
    """What the command makes when nobody disturbs it; taken away again."""
    stage.run(*command, allowed=lambda name: name.split("/")[0] in folders, made=True)
    tree = {k: v for k, v in look_at(stage.folder).items() if k.split("/")[0] in folders}
    for folder in folders:
        shutil.rmtree(stage.folder / folder)
    return tree


def kill_batch(stage: Stage, maps: int = _MAPS, expected: Tree | None = None) -> None:
    """Killed at any moment and run again: complete, equal to ``expected``, no strays."""
    command = batch(stage, maps)
    expected = expected or undisturbed(stage, command, "res", "pictures")
    before = look_at(stage.folder)
    running = stage.start(*command, real=True)
    _wait_for_a_moment(stage, running, 2 * len(expected), "res", "pictures")
    running.signal(signal.SIGKILL)
    stage.finish(running, killed=True)
    made = len(list((stage.folder / "res").glob("*.nii.gz")))
    stage.notes["killed"] = f"{made:2} of {2 * maps} volumes were there"
    check_kept(before, look_at(stage.folder))
    stage.run(
        *command, allowed=lambda name: name.split("/")[0] in ("res", "pictures"), made=True,
        replaced=look_at(stage.folder).keys() - before.keys(), summary=True,
    )  # fmt: skip
    hold_equal(stage, expected, "res", "pictures")


def hold_equal(stage: Stage, expected: Tree, *folders: str) -> None:
    """Raise Broken unless just this lies in the folders."""
    found = {k: v for k, v in look_at(stage.folder).items() if k.split("/")[0] in folders}
    if lacking := sorted(expected.keys() - found.keys()):
        raise Broken(f"{lacking[0]!r} was not made again")
    if beside := sorted(found.keys() - expected.keys()):
        raise Broken(f"{beside[0]!r} is beside what was asked for")
    if other := sorted(name for name in expected if expected[name] != found[name]):
        raise Broken(f"{other[0]!r} differs from that of an undisturbed run")


def _wait_for_a_moment(stage: Stage, running: Running, names: int, *folders: str) -> None:
    """Wait: for some time, imports and all; or until some of so many names appeared, temporary
    ones too."""
    if stage.random.random() < 0.25:
        moment = stage.random.uniform(0, 2.5)
        stage.launcher.wait(running, until=lambda: running.own_cpu > moment)
        return
    wanted = stage.random.randint(1, names)
    seen: set[tuple[str, int]] = set()

    def enough() -> bool:
        for folder in folders:
            with contextlib.suppress(OSError):
                # A file that is written anew has another number.
                seen.update(
                    (entry.name, entry.inode()) for entry in os.scandir(stage.folder / folder)
                )
        return len(seen) >= wanted

    pause = stage.random.uniform(0, 0.03)
    stage.launcher.wait(running, until=enough)
    time.sleep(pause)


# ---- a training killed and resumed


def training(stage: Stage, iterations: int) -> tuple[object, ...]:
    """A training that saves after every iteration, into ``model``."""
    plan = stage.things.plan(checkpoint_minutes=0, validation_minutes=0)
    stage.path("plan.json").write_text(json.dumps(plan))
    return (
        "train", "--data", stage.things.data, "--output", "model", "--device", "cpu", "--preset",
        "plan.json", "--iterations", iterations,
    )  # fmt: skip


def trained(folder: Path) -> dict[str, object]:
    """What a finished training's folder holds, without what times of day and clocks make of it."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    manifest = json.loads((folder / "model.json").read_text())
    del manifest["training"]["minutes"]
    return {
        "names": sorted(path.name for path in folder.iterdir()),
        "weights": (folder / "weights.safetensors").read_bytes(),
        "shape model": (folder / "shape.safetensors").read_bytes(),
        "manifest": manifest,
        "losses": {line["iteration"]: line["loss"] for line in log if line.get("loss") is not None},
    }


def undisturbed_training(stage: Stage, iterations: int = 6) -> dict[str, object]:
    """What the training makes when nobody disturbs it; taken away again."""
    command = training(stage, iterations)
    stage.run(*command, allowed=lambda name: name.split("/")[0] == "model", made=True)
    made = trained(stage.folder / "model")
    shutil.rmtree(stage.folder / "model")
    return made


def kill_training(
    stage: Stage, iterations: int = 6, expected: dict[str, object] | None = None
) -> None:
    """Killed at any moment and resumed: the same model as without, no strays."""
    expected = expected or undisturbed_training(stage, iterations)
    command = training(stage, iterations)
    before = look_at(stage.folder)
    running = stage.start(*command, real=True)
    _wait_for_a_moment(stage, running, 10 + 6 * iterations, "model", "model/cases")
    running.signal(signal.SIGKILL)
    stage.finish(running, killed=True)
    stage.notes["killed"] = _stage_of_training(stage.folder / "model")
    check_kept(before, look_at(stage.folder))
    go_on(stage, command, stage.folder / "model")
    found = trained(stage.folder / "model")
    for name, value in expected.items():
        stage.hold(found[name] == value, f"{name} are not those of an undisturbed run")


def _stage_of_training(model: Path) -> str:
    """How far a training had come, by the files that it left."""
    for name, words in (
        ("model.json", "the model was written"),
        ("montage.png", "it had validated"),
        ("checkpoint.safetensors", "it was training"),
        ("cases", "it was reading the cases"),
    ):
        if (model / name).exists():
            return words
    return "it had made nothing"


def go_on(stage: Stage, command: tuple[object, ...], model: Path) -> None:
    """The same command again, to resume where there is a checkpoint; it must come to its end."""
    top = os.path.relpath(model, stage.folder).split("/")[0]
    written = {name for name in look_at(stage.folder) if name.split("/")[0] == top}
    more = ("--resume",) if (model / "checkpoint.safetensors").exists() else ()
    stage.run(
        *command, *more, made=True, replaced=written,
        allowed=lambda name: name.split("/")[0] == top,
    )  # fmt: skip


# ---- Ctrl-C


def interrupt(stage: Stage) -> None:
    """Ctrl-C at any moment, during imports too: one line, exit code 130, nothing half-written."""
    random = stage.random
    way = random.random()
    if way < 0.5:
        stage.things.label_map(stage.path("in/a.nii.gz"))
        stage.path("out/x")
        command: tuple[object, ...] = (
            "synthesize", "in/a.nii.gz", "-o", "out/v.nii.gz", "--samples", 40, "--steps", 4,
            "--model", stage.things.model,
        )  # fmt: skip
    elif way < 0.7:
        command = batch(stage)
    elif way < 0.85:
        command = ("labelmap", "--random", "-o", "m.nii.gz", "--model", stage.things.model)
    else:
        command = (
            "train", "--data", stage.things.data, "--check", "--output", "model", "--device",
            "cpu", "--preset", stage.things.data / "plan.json",
        )  # fmt: skip
    before = look_at(stage.folder)
    running = stage.start(*command, real=True)
    moment = random.uniform(0, 0.6) if random.random() < 0.5 else random.uniform(0, 4)
    stage.launcher.wait(running, until=lambda: running.own_cpu > moment or running.seconds > 15)
    running.signal(signal.SIGINT)
    ended = stage.finish(running)
    after = look_at(stage.folder)
    check_kept(before, after)
    if not _is_outside_our_lines(ended):
        check_end(ended)
        stage.hold(ended.code in (0, 130), f"exit code {ended.code}: {ended.err[-200:]}")
        check_words(ended)
        lines = ended.err.splitlines()
        stage.hold(ended.code == 0 or len(lines) == 1, f"{len(lines)} lines on stderr")
    check_new(before, after, (), lambda name: True, True)
    for record in stage.folder.glob("[or]*/*.json"):
        volume = record.with_name(record.name[:-5] + ".nii.gz")
        stage.hold(volume.exists(), f"{record.name} without its volume")
    for volume in stage.folder.glob("[or]*/*.nii.gz"):
        check_volume(volume)


def _is_outside_our_lines(ended: Ended) -> bool:
    """Whether Ctrl-C came before our first line or after our last: the interpreter itself ended."""
    by_interpreter = ended.code == -signal.SIGINT or ended.code in (1, 130)
    return by_interpreter and "MedDiffusionLib" not in ended.err and "meddiffusion" not in ended.err


# ---- two at once


def together(stage: Stage) -> None:
    """Two of the same commands in one folder: one does it, the other too, or says why not."""
    plays: tuple[Callable[[Stage], None], ...] = (_two_batches, _two_trainings, _two_files)
    plays[stage.number % len(plays)](stage)


def _two(stage: Stage, *command: object, real: bool = False) -> list[int]:
    before = look_at(stage.folder)
    both = [stage.start(*command, real=real)]
    pause = stage.random.uniform(0, 0.5)
    stage.launcher.wait(both[0], until=lambda: both[0].seconds > pause)
    both.append(stage.start(*command, real=real))
    ends = [stage.finish(one) for one in both]
    for ended in ends:
        check_end(ended)
        check_words(ended, summary=True)
    check_new(before, look_at(stage.folder), (), lambda name: True, True)
    check_kept(before, look_at(stage.folder))
    codes = [ended.code for ended in ends]
    stage.hold(0 in codes, f"exit codes {codes}: {ends[0].err[-200:]}{ends[1].err[-200:]}")
    return codes


def _two_batches(stage: Stage) -> None:
    command = batch(stage)
    expected = undisturbed(stage, command, "res", "pictures")
    _two(stage, *command)
    hold_equal(stage, expected, "res", "pictures")


def _two_files(stage: Stage) -> None:
    stage.things.label_map(stage.path("in/a.nii.gz"))
    stage.path("out/x")
    _two(
        stage, "synthesize", "in/a.nii.gz", "-o", "out/v.nii.gz", "--overwrite", "--model",
        stage.things.model,
    )  # fmt: skip
    check_volume(stage.folder / "out/v.nii.gz")


def _two_trainings(stage: Stage) -> None:
    command = (
        "train", "--data", stage.things.data, "--output", "model", "--device", "cpu", "--preset",
        stage.things.data / "plan.json", "--iterations", 40,
    )  # fmt: skip
    codes = _two(stage, *command)
    stage.hold(sorted(codes) == [0, 1], f"two trainings in one folder, exit codes {codes}")
    log = [json.loads(line) for line in (stage.folder / "model/log.jsonl").read_text().splitlines()]
    iterations = [line["iteration"] for line in log if "loss" in line]
    stage.hold(iterations == sorted(set(iterations)), "a log of two runs")
