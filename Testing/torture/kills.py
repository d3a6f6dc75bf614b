"""Kills a batch or a training at random moments, and does the same command again.

    python Testing/torture/kills.py --kills 50 --of batch
    python Testing/torture/kills.py --kills 50 --of training

The batch makes volumes and previews of 12 label maps, the training saves after each iteration; both
run as the installed command, and are killed (-9) anywhere, while they import too. The same command
(a training with ``--resume`` where it left a checkpoint) must then end with all that an undisturbed
run makes, the same bytes, and nothing beside it. Prints a table; exit code 1 where anything failed.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from torture.judge import Broken
from torture.kinds import signals
from torture.launching import Launcher
from torture.stage import Stage
from torture.things import Things, make_things, set_threads

MAPS, ITERATIONS = 12, 12


def kill_once(stage: Stage, of: str, expected: signals.Expected) -> str:
    """One kill and the run after it; returns what was not as promised, nothing where all was."""
    try:
        if of == "batch":
            signals.kill_batch(stage, MAPS, expected.batch)
        else:
            signals.kill_training(stage, ITERATIONS, expected.training)
    except Broken as broken:
        return str(broken)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as told; see the module."""
    parser = argparse.ArgumentParser(description="Kill meddiffusion, and do it again.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--of", choices=("batch", "training"), default="batch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    set_threads()
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    things = make_things(root / "things")
    expected = _undisturbed(root, options.of, things)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(options.kills):
        waiting.put(number)
    rows: dict[int, tuple[str, str]] = {}

    def work() -> None:
        launcher = Launcher(things.environment)
        while not waiting.empty():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                break
            stage = _stage(root, options.of, number, options.seed, things, launcher)
            problem = kill_once(stage, options.of, expected)
            rows[number] = (stage.notes.get("killed", "nowhere"), problem)
            if not problem:
                shutil.rmtree(stage.folder)
        launcher.close()

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _print_table(rows)
    failed = {number: problem for number, (_, problem) in rows.items() if problem}
    for number, problem in sorted(failed.items()):
        print(f"\nkill {number}: {problem}\n  {root / f'{options.of}-{number}'}")
    if not failed and len(rows) == options.kills:
        shutil.rmtree(root)
        return 0
    return 1


def _undisturbed(root: Path, of: str, things: Things) -> signals.Expected:
    """What the command makes when nobody kills it."""
    launcher = Launcher(things.environment)
    stage = _stage(root, of, -1, 0, things, launcher)
    try:
        if of == "batch":
            command = signals.batch(stage, MAPS)
            return signals.Expected(signals.undisturbed(stage, command, "res", "pictures"), None)
        return signals.Expected(None, signals.undisturbed_training(stage, ITERATIONS))
    finally:
        launcher.close()


def _stage(
    root: Path, of: str, number: int, seed: int, things: Things, launcher: Launcher
) -> Stage:
    folder = root / f"{of}-{number}"
    folder.mkdir()
    random = Random(f"{seed} kills of {of} {number}")
    return Stage(folder, f"kills of {of}", number, seed, random, things, launcher, real=True)


def _print_table(rows: dict[int, tuple[str, str]]) -> None:
    kills = Counter(where for where, _ in rows.values())
    failures = Counter(where for where, problem in rows.values() if problem)
    print("| killed while | kills | complete and equal | failed |\n|---|---|---|---|")
    for where, count in sorted(kills.items()):
        print(f"| {where} | {count} | {count - failures[where]} | {failures[where]} |")
    failed = sum(failures.values())
    print(f"| all | {len(rows)} | {len(rows) - failed} | {failed} |")


if __name__ == "__main__":
    sys.exit(main())
