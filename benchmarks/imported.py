"""An imported Med-DDPM of the published size: few steps beside the published 250.

    python benchmarks/imported.py [--sizes 64 128] [--steps-timed 3]

The weights are random: neither time nor memory depends on them. Every row runs in a process of its
own, so that its peak memory is its own: the model is imported there from a file as the authors'
program writes it, and synthesizes from a label map. Some steps are timed, without the first, and
their median is multiplied by the number of steps: all steps cost the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from common import report
from MedDiffusionLib.bundles.importers import IMPORTERS
from MedDiffusionLib.bundles.importers.med_ddpm import schedule_buffers
from MedDiffusionLib.compute.archives import read_archive
from MedDiffusionLib.compute.errors import Cancelled
from MedDiffusionLib.compute.execution import Execution, choose_execution
from MedDiffusionLib.diffusion.networks.med_ddpm import MedDDPMUNet
from MedDiffusionLib.diffusion.schedules import cosine_betas
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesis import Step
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.volume import Kind, Volume

PUBLISHED_STEPS, STEPS = 250, 20
CPU = torch.device("cpu")


def write_checkpoint(path: Path) -> None:
    """A file as Med-DDPM's program writes it for whole heads, of random weights."""
    torch.manual_seed(0)
    network = MedDDPMUNet(1, 2, (1, 1, 1), 64, [1, 1, 2, 3, 4], 1, [3], -1, "kji")
    state = schedule_buffers(cosine_betas(PUBLISHED_STEPS))
    state |= {f"denoise_fn.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"step": 0, "model": state, "ema": dict(state)}, path)


def child(path: Path, size: int, published: bool, timed: int) -> None:
    """Seconds a step and peak memory, as JSON: the published sampler in float32, or ours."""
    model = IMPORTERS["med-ddpm"].import_model(read_archive(path), {"size": [size] * 3})
    execution = Execution(CPU) if published else choose_execution(CPU)
    synthesizer = Synthesizer(model, execution)
    array = np.zeros((size,) * 3, np.uint8)
    inner = (slice(size // 8, -size // 8),) * 3
    array[inner] = 1
    array[(slice(size // 2, size // 2 + size // 8),) * 3] = 2
    labels = Volume(array, np.diag([1.5, 1.5, 1.5, 1]), Kind.LABEL)
    times: list[float] = []

    def on_step(step: Step) -> None:
        times.append(time.perf_counter())
        if step.step > timed:
            raise Cancelled

    steps, sampler = (PUBLISHED_STEPS, "ddpm") if published else (STEPS, "dpmpp-2m")
    settings = Settings(steps=steps, sampler=sampler, accept_costs=True)
    with contextlib.suppress(Cancelled):
        list(synthesizer.samples(labels, settings, on_step=on_step))
    seconds = statistics.median(np.diff(times).tolist())
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    words = f"{execution.precision}, {execution.memory_format}"
    print(json.dumps({"seconds": seconds, "peak": peak, "execution": words}))


def measure(path: Path, size: int, published: bool, timed: int) -> dict[str, float | str]:
    command = [sys.executable, __file__, "--child", str(path), "--sizes", str(size)]
    command += ["--steps-timed", str(timed), *(["--published"] if published else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of an imported Med-DDPM.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--steps-timed", type=int, default=3)
    parser.add_argument("--published", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.sizes[0], options.published, options.steps_timed)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        write_checkpoint(path)
        for size in options.sizes:
            totals = []
            for published in (True, False):
                found = measure(path, size, published, options.steps_timed)
                steps = PUBLISHED_STEPS if published else STEPS
                seconds = float(found["seconds"])
                totals.append(seconds * steps)
                rows.append(
                    [
                        f"{size}³",
                        "published sampler" if published else "dpmpp-2m",
                        str(found["execution"]),
                        str(steps),
                        f"{seconds:.2f} s",
                        f"{totals[-1]:,.0f} s",
                        "" if published else f"{totals[0] / totals[1]:.1f}",
                        f"{float(found['peak']) / 1e9:.2f} GB",
                    ]
                )
    report(
        "imported",
        "Med-DDPM of the published size, imported: seconds a volume on this CPU "
        f"({options.steps_timed} steps timed, multiplied)",
        ["size", "sampler", "numbers", "steps", "a step", "a volume", "times faster", "peak"],
        rows,
    )


if __name__ == "__main__":
    main()
