"""Does the memory of a training grow with the number of its cases?

    python benchmarks/memory.py

Trains the automatic plan on 50 and on 400 synthetic cases of 64^3 voxels for a few iterations on
the CPU, each in a process of its own, and reads the peak of its resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import report
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.request import TrainingRequest, start_training
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume

SIZE = 64
MOST_GROWTH = 1.1
"""How much more the most cases may take than the fewest."""


def write_cases(folder: Path, count: int) -> None:
    """Noise with two boxes of another brightness in it, each case another."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(count):
        random = np.random.default_rng(number)
        labels = np.zeros((SIZE, SIZE, SIZE), np.int32)
        i, j, k = random.integers(16, 24, 3)
        labels[i : i + 20, j : j + 10, k : k + 20] = 1
        labels[i : i + 20, j + 10 : j + 20, k : k + 20] = 2
        image = random.normal(100, 10, labels.shape) + 40 * labels
        for kind, array in (("images", image.astype(np.float32)), ("labels", labels)):
            meaning = Kind.INTENSITY if kind == "images" else Kind.LABEL
            path = folder / kind / f"case{number:04}.nii"
            write_volume(path, Volume(array, np.eye(4), meaning))


def child(folder: Path, iterations: int) -> None:
    """Train in this process and print what its memory peaked at, in MB, as JSON."""
    peaks: dict[str, float] = {}

    def on_report(progress: TrainingReport) -> None:
        peaks[progress.stage] = _peak()

    request = TrainingRequest(folder / "model", data=folder, iterations=iterations, device="cpu")
    start_training(request, on_report)
    print(json.dumps({**peaks, "end": _peak()}))


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(count: int, iterations: int) -> tuple[dict[str, float], float]:
    """The peaks of a run on so many cases, in MB, by stage, and its minutes."""
    with tempfile.TemporaryDirectory() as name:
        write_cases(Path(name), count)
        command = [sys.executable, __file__, "--child", name, "--iterations", str(iterations)]
        start = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        minutes = (time.monotonic() - start) / 60
    peaks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return peaks, minutes


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of training by the number of cases.")
    parser.add_argument("--cases", type=int, nargs="+", default=[50, 400])
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.iterations)
        return
    rows, ends = [], []
    for count in options.cases:
        peaks, minutes = measure(count, options.iterations)
        ends.append(peaks["end"])
        shown = [peaks[stage] for stage in ("checking", "reading", "end")]
        rows.append([str(count), *(f"{peak:.0f} MB" for peak in shown), f"{minutes:.1f}"])
    rows.append(["ratio", "", "", f"{ends[-1] / ends[0]:.3f} (at most {MOST_GROWTH})", ""])
    report(
        "memory",
        f"Peak resident memory of training on cases of {SIZE}³",
        ["cases", "once checked", "once prepared", "of the whole run", "minutes"],
        rows,
    )
    if ends[-1] > MOST_GROWTH * ends[0]:
        sys.exit("The memory of a training grows with its cases.")


if __name__ == "__main__":
    main()
