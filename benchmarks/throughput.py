"""Does data loading starve the device? And the memory of training at 128^3.

    python benchmarks/throughput.py

Times the iterations of a real run (`meddiffusion train` with the preset, on the hippocampus cases)
and, after each, the same optimizer step on one cached batch with the run's loading held meanwhile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import data_folder, report
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.execution import Execution, choose_execution
from MedDiffusionLib.training.data.cases import find_cases
from MedDiffusionLib.training.data.samples import TrainingSamples
from MedDiffusionLib.training.data.store import CaseStore
from MedDiffusionLib.training.loop.job import TrainingJob
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.state import initial_state
from MedDiffusionLib.training.loop.step import Stepper
from MedDiffusionLib.training.loop.train import train
from MedDiffusionLib.training.objectives.batch import stack
from MedDiffusionLib.training.objectives.denoising import Denoising
from MedDiffusionLib.training.plan.presets import load_preset
from MedDiffusionLib.training.plan.settings import Limits
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume

WARM_UP = 8
"""Iterations that are not counted; the loader is ahead of the step by then."""
CASES = 24


class CachedStep:
    """The run's optimizer step, repeated on one batch that is there already."""

    def __init__(self, job: TrainingJob, folder: Path) -> None:
        manifest, settings = job.manifest, job.settings
        torch.manual_seed(job.seed)
        objective = Denoising(job.execution.prepare(build_model(manifest)))
        state, store = initial_state(objective.players, settings), CaseStore(folder)
        cases = [store.prepare(case, manifest) for case in job.cases[: settings.batch]]
        values = [label.value for label in manifest.labels]
        samples = TrainingSamples(
            cases, manifest.grid, values, settings.augmentation,
            manifest.label_dropout, 2**62, job.seed, settings.outside_weight,
        )  # fmt: skip
        self.stepper = Stepper(
            state, settings, job.execution, objective, Ranks(), lambda note: None
        )
        self.batch = stack([objective.samples(samples, settings.batch)[n]
                            for n in range(settings.batch)])  # fmt: skip
        self.total = objective.weight(self.batch)
        self.learning_rate = settings.learning_rate

    def seconds(self) -> float:
        """How long one takes while the processes that make the run's batches are held."""
        loaders = [process.pid for process in multiprocessing.active_children() if process.pid]
        for loader in loaders:
            os.kill(loader, signal.SIGSTOP)
        start = time.perf_counter()
        self.stepper.step(self.batch, self.total, self.learning_rate, 0.0)
        seconds = time.perf_counter() - start
        for loader in loaders:
            os.kill(loader, signal.SIGCONT)
        return seconds


class TimedSteps:
    """The seconds of every optimizer step, the run's and the cached one's, in order."""

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


def measure(plan: dict[str, Any], execution: Execution, iterations: int) -> list[list[float]]:
    """Of each iteration of a run: its seconds, those in its step, those of the cached step."""
    folder = data_folder() / "hippocampus"
    files = find_cases(folder / "images", folder / "labels").cases[:CASES]
    rows: list[list[float]] = []
    begun = 0.0

    def note(run_report: TrainingReport) -> None:
        nonlocal begun
        if run_report.stage == "training" and not run_report.note:
            whole, step = time.perf_counter() - begun, steps.seconds[-1]
            rows.append([whole, step, cached.seconds()])
            begun = time.perf_counter()

    with tempfile.TemporaryDirectory() as output, tempfile.TemporaryDirectory() as aside:
        limits = Limits(iterations=WARM_UP + iterations)
        job = TrainingJob(files, Path(output), plan, limits, execution)
        cached, steps = CachedStep(job, Path(aside)), TimedSteps()
        train(job, on_report=note)
    return rows[WARM_UP:]


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
    from MedDiffusionLib.commands.cli import main

    if code := main(arguments):
        sys.exit(code)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="Throughput and memory of training.")
    parser.add_argument("--iterations", type=int, default=60, help="timed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-memory", action="store_true", help="leave out the run at 128^3")
    options = parser.parse_args()
    plan = load_preset("hippocampus-mr")
    device = choose_device(options.device)
    execution = choose_execution(device)
    real, busy, cached = np.sum(measure(plan, execution, options.iterations), 0)
    samples = options.iterations * plan["training"]["batch"]
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
