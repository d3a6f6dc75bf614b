"""Tortures the installed command: bad, odd and hostile inputs of every kind, made from a seed.

    python Testing/torture/run.py --seed 1 --count 1500

Each input is tried in a folder of its own, within 20 s (less what it waited for a busy CPU) and
2 GB, and held to the promises of ``judge.py``: a right result, or one sentence and nothing lost,
nothing half-written. Most commands run in a fork of a process that has their modules in it
already; a share, and all whose surroundings matter, run as the installed command itself. An input
is a function of seed, kind and number alone: ``--only KIND:NUMBER`` does one again.

Prints the table of kinds and, for each failure, what broke and how to see it again. Exit code 1
where anything failed.
"""

from __future__ import annotations

import argparse
import io
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from torture.judge import Broken, Tree, look_at
from torture.kinds import KINDS, Kind
from torture.launching import Launcher, Skipped
from torture.stage import Stage
from torture.things import Things, make_things, set_threads

REAL_SHARE = 0.1
Input = tuple[Kind, int]


@dataclass(frozen=True)
class Tried:
    """One input, and what was not as promised: nothing where all was."""

    kind: str
    number: int
    problem: str
    commands: tuple[str, ...]
    folder: Path
    kib: int
    cpu: float
    seconds: float


class Torture:
    """Tries inputs in ``root``, several at once; folders of those that pass are removed."""

    def __init__(self, root: Path, seed: int, real_share: float, keep: bool) -> None:
        self.root = root
        self.seed = seed
        self.real_share = real_share
        self.keep = keep
        self.things = make_things(root / "things")
        self.tried: list[Tried] = []
        self.skipped: list[str] = []
        """What cannot be tried on this machine, and why."""

    def run(self, inputs: Sequence[Input], jobs: int) -> list[Tried]:
        """Try all of them; the order of the results is that of ``inputs``."""
        before = _shared(self.things)
        waiting: queue.SimpleQueue[Input] = queue.SimpleQueue()
        for one in inputs:
            waiting.put(one)
        threads = [
            threading.Thread(target=self._work, args=(waiting,), daemon=True) for _ in range(jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if _shared(self.things) != before:
            changed = {k for k, v in _shared(self.things).items() if before.get(k) != v}
            raise SystemExit(f"A shared input was changed: {changed or 'one is gone'}.")
        order = {(kind.name, number): n for n, (kind, number) in enumerate(inputs)}
        return sorted(self.tried, key=lambda one: order[one.kind, one.number])

    def _work(self, waiting: queue.SimpleQueue[Input]) -> None:
        launcher = Launcher(self.things.environment)
        while True:
            try:
                kind, number = waiting.get_nowait()
            except queue.Empty:
                break
            one = self._try(kind, number, launcher)
            self.tried.append(one)
            if one.problem:
                print(f"  {one.kind}:{one.number}  {one.problem}", file=sys.stderr, flush=True)
        launcher.close()

    def _try(self, kind: Kind, number: int, launcher: Launcher) -> Tried:
        folder = self.root / f"{kind.name}-{number}"
        folder.mkdir()
        random = Random(f"{self.seed} {kind.name} {number}")
        real = kind.real or random.random() < self.real_share
        stage = Stage(
            folder, kind.name, number, self.seed, random, self.things, launcher, real
        )  # fmt: skip
        begun, problem = time.monotonic(), ""
        try:
            kind.play(stage)
        except Broken as broken:
            problem = str(broken)
        except Skipped as skipped:
            self.skipped.append(f"{kind.name}:{number}  {skipped}")
        except Exception:
            problem = f"the torture itself failed: {traceback.format_exc()}"
        seconds = time.monotonic() - begun
        if not problem and not self.keep:
            for path in (folder, stage.log_folder):
                _remove(path)
        kib = max((ended.kib for ended in stage.ended), default=0)
        cpu = sum(ended.cpu for ended in stage.ended)
        commands = tuple(stage.commands)
        return Tried(kind.name, number, problem, commands, folder, kib, cpu, seconds)


def choose_inputs(count: int, names: Sequence[str]) -> list[Input]:
    """``count`` inputs over the kinds, as many of each as the weights say, at least one."""
    kinds = [kind for kind in KINDS if not names or kind.name in names]
    total = sum(kind.weight for kind in kinds)
    inputs = [
        (kind, number)
        for kind in kinds
        for number in range(max(1, round(count * kind.weight / total)))
    ]
    # What takes long comes first, the others mixed, so that all cores work until the end.
    Random(0).shuffle(inputs)
    return sorted(inputs, key=lambda one: not one[0].slow)


def table(tried: Sequence[Tried]) -> str:
    """The review's table: kind, tried, passed, failed."""
    rows = []
    for kind in KINDS:
        ours = [one for one in tried if one.kind == kind.name]
        failed = sum(bool(one.problem) for one in ours)
        if ours:
            rows.append((kind.name, len(ours), len(ours) - failed, failed))
    all_failed = sum(row[3] for row in rows)
    rows.append(("all", len(tried), len(tried) - all_failed, all_failed))
    lines = [f"| {name} | {n} | {passed} | {failed} |" for name, n, passed, failed in rows]
    return "\n".join(["| kind | tried | passed | failed |", "|---|---|---|---|", *lines])


def _shared(things: Things) -> Tree:
    """What no command may write to: all but the user's folder."""
    tree = look_at(things.root)
    return {name: facts for name, facts in tree.items() if not name.startswith("user")}


def _remove(folder: Path) -> None:
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the torture; see the module."""
    parser = argparse.ArgumentParser(description="Torture the installed meddiffusion command.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1500, help="inputs in all")
    parser.add_argument("--kind", action="append", default=[], choices=[k.name for k in KINDS])
    parser.add_argument("--only", action="append", default=[], metavar="KIND:NUMBER")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all inputs")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--real", type=float, default=REAL_SHARE, metavar="SHARE",
                        help="how many of the inputs run as programs of their own")  # fmt: skip
    parser.add_argument("--slowest", action="store_true", help="also say what took longest")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    set_threads()
    by_name = {kind.name: kind for kind in KINDS}
    if options.only:
        words = [word.split(":") for word in options.only]
        inputs = [(by_name[name], int(number)) for name, number in words]
    else:
        inputs = choose_inputs(options.count, options.kind)
    root = Path(tempfile.mkdtemp(prefix="torture-"))
    # Some inputs are tried as another user.
    root.chmod(0o755)
    begun = time.monotonic()
    torture = Torture(root, options.seed, options.real, options.keep)
    tried = torture.run(inputs, options.jobs)
    print(table(tried))
    for line in torture.skipped:
        print(f"not tried: {line}")
    failed = [one for one in tried if one.problem]
    script = Path(__file__)
    for one in failed:
        print(f"\n{one.kind}:{one.number}  {one.problem}")
        print(f"  python {script} --seed {options.seed} --only {one.kind}:{one.number} --keep")
        for line in one.commands[-3:]:
            print(f"  {line}")
    peak = max((one.kib for one in tried), default=0) / 2**20
    took, cpu = time.monotonic() - begun, sum(one.cpu for one in tried)
    print(f"\n{len(tried)} inputs in {took:.0f} s, {cpu:.0f} s of CPU, at most {peak:.2f} GB.")
    if options.slowest:
        for one in sorted(tried, key=lambda one: -one.seconds)[:20]:
            facts = f"{one.seconds:6.1f} s  {one.cpu:5.1f} s of CPU  {one.kib / 2**20:.2f} GB"
            print(f"  {facts}  {one.kind}:{one.number}")
    if options.keep or failed:
        print(f"The folders are in {root}.")
    else:
        shutil.rmtree(root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
