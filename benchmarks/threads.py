"""What threads that soon sleep where they wait cost and save, on an idle CPU and on a busy one.

    python benchmarks/threads.py

The bundled model on the bundled example, with the project's setting and with what torch's OpenMP
does by itself, alone and beside two processes that keep computing. All take turns, round by
round, and every ratio is the median of the rounds' own, so that a drift of the machine's speed
cancels. Whatever else runs on the machine does not: run it where nothing does.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from common import ROOT, report
from MedDiffusionLib.commands.cli import main as meddiffusion
from MedDiffusionLib.compute.threads import SETTINGS

EXAMPLE = ROOT / "Resources" / "Examples" / "hippocampus.nii.gz"
ROUNDS = 3
REPEATS = 3
BUSY = 2
DEFAULT = "spinning (OpenMP's own)"
WAITING = {
    "asleep soon (the project's)": {},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    DEFAULT: {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},
}
"""The environment of each way to wait; the runtimes' own defaults count as a user's choice."""
WHATS = {"again": "one volume, torch loaded", "whole": "one volume, whole process"}


def main() -> None:
    if len(sys.argv) > 1:
        print(seconds_again(Path(sys.argv[1])))
        return
    load = os.getloadavg()[0]
    seconds: dict[tuple[str, str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Settles what the engine measures once and keeps, the same for all.
        measure(Path(folder), {}, "whole")
        for number in range(ROUNDS):
            for busy in (False, True):
                with busy_processes(BUSY if busy else 0):
                    for name, setting in WAITING.items():
                        for what in WHATS:
                            took = measure(Path(folder), setting, what)
                            seconds.setdefault((what, name, busy), []).append(took)
            print(f"round {number + 1} of {ROUNDS}", flush=True)
    rows = []
    for what, title in WHATS.items():
        for name in WAITING:
            idle, busy_ = seconds[what, name, False], seconds[what, name, True]
            rows.append(
                [title, name, f"{statistics.median(idle):.2f} s",
                 f"{statistics.median(busy_):.2f} s", f"{ratio(busy_, idle):.2f}",
                 f"{ratio(idle, seconds[what, DEFAULT, False]):.2f}"]
            )  # fmt: skip
    report(
        "threads",
        f"Threads that wait: {os.cpu_count()} cores, load {load:.1f} at the "
        f"start, medians of {ROUNDS} rounds",
        ["what", "waiting threads", "idle", f"beside {BUSY} busy processes", "busy / idle",
         "idle / idle spinning"],
        rows,
    )  # fmt: skip


def ratio(times: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def measure(folder: Path, setting: Mapping[str, str], what: str) -> float:
    """Seconds of one volume, in a process of its own with this setting."""
    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    environment |= {"MEDDIFFUSION_HOME": str(folder / "home"), **setting}
    command = (
        [__file__, str(folder)] if what == "again" else ["-m", "MedDiffusionLib", *asked(folder)]
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
    )
    took = time.perf_counter() - start
    return float(done.stdout.splitlines()[-1]) if what == "again" else took


def seconds_again(folder: Path) -> float:
    """The command's seconds once torch is loaded, the median of several."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        assert meddiffusion(asked(folder)) == 0
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def asked(folder: Path) -> list[str]:
    """The command's arguments."""
    return ["synthesize", str(EXAMPLE), "-o", str(folder / "volume.nii.gz"), "--overwrite"]


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """While this lasts, so many processes compute without a pause."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
