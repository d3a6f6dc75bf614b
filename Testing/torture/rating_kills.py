"""Kills the module Realism Rating at random moments, and lets the reader go on.

    python Testing/torture/rating_kills.py --kills 20

A reader answers a study by keys on the test host, and is killed (-9) at a random moment: while the
host starts, while the study is opened, between or during answers. Each time no answer that the
reader could count on may be lost, at most one more be there, the session go on at the first case
without an answer, and the order of the cases be the same. In the end all is answered once. Prints a
table; exit code 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from MedDiffusionLib.studies.answers import next_presentation, read_answers
from MedDiffusionLib.studies.facts import strays
from MedDiffusionLib.studies.study import order_of, read_study
from rating_factory import make_tiny_study
from rating_module import answer_of

SESSION = Path(__file__).with_name("rating_session.py")
READER = "R1"
PATIENCE = 120.0
POLL = 0.002


@dataclass(frozen=True)
class Kill:
    """Where a process was killed, how long it took to go on, and what was not as promised."""

    where: str
    seconds: float | None
    problems: tuple[str, ...]


def kill_once(study: Path, seen: Path, random: Random, kill: bool = True) -> Kill:
    """Let the reader go on, be killed, and look at what is there; or, without ``kill``, end."""
    opened = read_study(study)
    place = next_presentation(opened, read_answers(opened), READER, 1)
    before = len(_lines(seen))
    process = subprocess.Popen(
        [sys.executable, str(SESSION), str(study), READER, str(seen)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    # One in five is killed before the study is open; the others some lines later, and a bit.
    lines = 0 if random.random() < 0.2 else random.randint(1, 12)
    wait_for = before + lines if kill else sys.maxsize
    pause = random.uniform(0, 2.5) if lines == 0 else random.uniform(0, 0.06)
    deadline = time.monotonic() + PATIENCE
    while len(_lines(seen)) < wait_for and process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL)
    if kill:
        time.sleep(pause)
    late = time.monotonic() > deadline
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    said = (process.communicate()[1] or b"").decode("utf-8", "replace")
    new = _lines(seen)[before:]
    problems = [*_problems(study, _lines(seen), new, place)]
    if late or (process.returncode not in (0, -signal.SIGKILL)):
        problems.append(f"it ended with {process.returncode}: {said[-800:]}")
    shown = [line for line in new if line["event"] == "shown"]
    return Kill(_where(new), shown[0]["seconds"] if shown else None, tuple(problems))


def _problems(
    study: Path,
    seen: list[dict[str, Any]],
    new: list[dict[str, Any]],
    place: tuple[int, int] | None,
) -> list[str]:
    """What is not as promised; ``place``: where the session had to go on."""
    opened = read_study(study, thorough=True)
    order = order_of(opened, READER, 1)
    given = [(answer.presentation, answer.answer) for answer in read_answers(opened)]
    expected = [(shown, answer_of(shown)) for shown in order[: len(given)]]
    confirmed = [line["shown"] for line in seen if line["event"] == "confirmed"]
    shown = [line for line in new if line["event"] == "shown"]
    problems = []
    if given != expected:
        problems.append(f"the answers are {given}, not {expected}")
    if len({*confirmed} - {name for name, _ in given}) > 0:
        problems.append("a confirmed answer is lost")
    if any(order[line["position"]] != line["shown"] for line in shown):
        problems.append("the order has changed")
    if shown and place is not None and shown[0]["position"] != place[1]:
        problems.append(f"it went on at {shown[0]['position']}, not at {place[1]}")
    # A file that is written beside another may be left; it is never taken for an answer.
    strange = [name for name in strays(opened) if not name.startswith("answers/.meddiffusion-")]
    return problems + ([f"there is more in the folder: {strange}"] if strange else [])


def _where(new: list[dict[str, Any]]) -> str:
    last = new[-1]["event"] if new else "start"
    return {
        "start": "the host started",
        "ready": "the study was opened",
        "shown": "a case was answered",
        "confirmed": "the next case came",
        "finished": "all was answered",
    }[last]


def _lines(path: Path) -> list[dict[str, Any]]:
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def run(folder: Path, kills: int, cases: int, seed: int) -> list[Kill]:
    """Kill so often, then let the reader end; the last is the one that was not killed."""
    study, seen, random = make_tiny_study(folder, cases), folder / "seen", Random(seed)
    done = [kill_once(study, seen, random) for _ in range(kills)]
    last = kill_once(study, seen, random, kill=False)
    opened = read_study(study)
    left = len(order_of(opened, READER, 1)) - len(read_answers(opened))
    problems = (*last.problems, *([f"{left} answers are missing"] if left else []))
    return [*done, Kill(last.where, last.seconds, problems)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as told; see the module."""
    parser = argparse.ArgumentParser(description="Kill a reader's session, and let it go on.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="rating-kills-"))
    done = run(folder, options.kills, options.cases, options.seed)
    kills = Counter(kill.where for kill in done[:-1])
    print("| killed while | kills | nothing lost, same order |\n|---|---|---|")
    for where, count in sorted(kills.items()):
        good = sum(not kill.problems for kill in done[:-1] if kill.where == where)
        print(f"| {where} | {count} | {good} |")
    seconds = [kill.seconds for kill in done if kill.seconds is not None]
    print(f"\nFrom Open to the case: at most {max(seconds):.2f} s, of {len(seconds)} times.")
    problems = [f"kill {n}: {p}" for n, kill in enumerate(done) for p in kill.problems]
    for problem in problems:
        print(problem)
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
