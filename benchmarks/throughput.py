"""Does data loading starve the device? And the memory of training at 128^3.

    python benchmarks/throughput.py

Each round times the real run (`meddiffusion train` with the preset, on the hippocampus cases) and
then a loop that repeats the same optimizer step on one cached batch, with no loading beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import data_folder, report
from MedDiffusionLib.bundle import build_representation
from MedDiffusionLib.denoiser import total_weight
from MedDiffusionLib.distributed import Ranks
from MedDiffusionLib.execution import Execution, choose_device, choose_execution
from MedDiffusionLib.manifest import build_manifest
from MedDiffusionLib.training.cases import find_cases
from MedDiffusionLib.training.checkpoint import RunState
from MedDiffusionLib.training.loaded_cases import load_case
from MedDiffusionLib.training.loading import global_batches
from MedDiffusionLib.training.log import Report
from MedDiffusionLib.training.presets import load_preset
from MedDiffusionLib.training.settings import Limits, read_settings
from MedDiffusionLib.training.step import Stepper
from MedDiffusionLib.training.train import initial_state, train
from MedDiffusionLib.volume import Kind, Volume
from MedDiffusionLib.writing import write_volume

WARM_UP = 3
CASES = 24


class TimedSteps:
    """Adds up the seconds that every :class:`Stepper` spends in its step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        original = Stepper.step

        def step(stepper: Stepper, *arguments: Any) -> float:
            start = time.perf_counter()
            # The step reads the loss back, which waits for the device.
            loss = original(stepper, *arguments)
            self.seconds.append(time.perf_counter() - start)
            return loss

        Stepper.step = step  # type: ignore[method-assign, assignment]


def real_run(plan: dict[str, Any], execution: Execution, iterations: int) -> list[float]:
    """When each iteration of a run ended, in seconds; the first ones warm up."""
    folder = data_folder() / "hippocampus"
    cases = find_cases(folder / "images", folder / "labels").cases[:CASES]
    times: list[float] = []

    def note(run_report: Report) -> None:
        if run_report.stage == "training" and not run_report.note:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as output:
        limits = Limits(iterations=WARM_UP + iterations)
        train(cases, Path(output), plan, limits, execution, on_report=note)
    return times


def cached_run(plan: dict[str, Any], execution: Execution, iterations: int) -> float:
    """Seconds of so many steps on one batch that is there already."""
    folder = data_folder() / "hippocampus"
    manifest, settings = build_manifest(plan["manifest"]), read_settings(plan["training"])
    files = find_cases(folder / "images", folder / "labels").cases[: settings.batch]
    cases = [load_case(case, manifest) for case in files]
    state: RunState = initial_state(plan, settings, execution, seed=0)
    representation = build_representation(manifest.content)
    stepper = Stepper(state, settings, execution, representation, Ranks(), lambda note: None)
    with closing(
        global_batches(cases, manifest, settings, 0, 0, Ranks(), execution.device)
    ) as batches:
        batch = next(batches)
    total = total_weight(batch[3], len(manifest.channels) * representation.channels)
    start = 0.0
    for number in range(WARM_UP + iterations):
        if number == WARM_UP:
            start = time.perf_counter()
        stepper.step(batch, total, settings.learning_rate)
    return time.perf_counter() - start


def peak_memory() -> float:
    """Peak resident memory in GB of a process that trains an automatic plan at 128^3 on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("images", "labels"):
            (folder / kind).mkdir()
        random = np.random.default_rng(0)
        for number in range(2):
            labels = np.zeros((128, 128, 128), np.int32)
            labels[12:116, 12:64, 12:116], labels[12:116, 64:116, 12:116] = 1, 2
            image = random.normal(100, 10, labels.shape).astype(np.float32)
            image_volume = Volume(image, np.eye(4), Kind.INTENSITY)
            write_volume(folder / "images" / f"{number}.nii.gz", image_volume)
            label_volume = Volume(labels, np.eye(4), Kind.LABEL)
            write_volume(folder / "labels" / f"{number}.nii.gz", label_volume)
        command = ["train", "--data", folder, "--output", folder / "model", "--iterations", "2"]
        done = subprocess.run(
            [sys.executable, __file__, "--child", *map(str, [*command, "--device", "cpu"])],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        grid = json.loads((folder / "model" / "model.json").read_text("utf-8"))["grid"]
        if grid["size"] != [128, 128, 128]:
            raise SystemExit(f"The plan chose {grid['size']} voxels, not 128 along each axis.")
    return float(done.stdout.strip().splitlines()[-1])


def child(arguments: list[str]) -> None:
    """Run the command in this process and print its peak memory."""
    from MedDiffusionLib.cli import main

    if code := main(arguments):
        sys.exit(code)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="Throughput and memory of training.")
    parser.add_argument("--iterations", type=int, default=20, help="timed, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-memory", action="store_true", help="leave out the run at 128^3")
    options = parser.parse_args()
    plan = load_preset("hippocampus-mr")
    device = choose_device(options.device)
    execution = choose_execution(device, build_manifest(plan["manifest"]))
    steps = TimedSteps()
    real, busy, cached = 0.0, 0.0, 0.0
    for _ in range(options.rounds):
        steps.seconds.clear()
        times = real_run(plan, execution, options.iterations)
        real += times[-1] - times[WARM_UP - 1]
        busy += sum(steps.seconds[WARM_UP:])
        cached += cached_run(plan, execution, options.iterations)
    samples = options.rounds * options.iterations * plan["training"]["batch"]
    rows = [
        ["the real run", f"{samples / real:.2f}", f"{busy / real:.1%}", f"{cached / real:.3f}"],
        ["the step repeated on one cached batch", f"{samples / cached:.2f}", "100 %", "1"],
    ]
    if not options.no_memory:
        memory = f"peak memory {peak_memory():.2f} GB"
        rows.append([f"automatic plan at 128³, one contrast, on the CPU: {memory}", "", "", ""])
    place = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else device.type
    report(
        "throughput",
        f"Training throughput on {place}",
        ["what", "samples a second", "device busy", "ratio"],
        rows,
    )


if __name__ == "__main__":
    main()
