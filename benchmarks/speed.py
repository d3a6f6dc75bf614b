"""Speed and memory, each beside 250-step ancestral sampling in float32 in the same run.

    python benchmarks/speed.py

Every row runs in a process of its own, so that its peak memory is its own. Needs no data: the
label map is the bundled example.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import report
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.catalog import DEFAULT_MODEL, find_model, resources_folder
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.execution import Execution, choose_execution
from MedDiffusionLib.compute.registry import Component
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.volume import Kind, Volume

ANCESTRAL_STEPS = 250
LARGE = Component(
    "resunet", {"channels": [48, 96, 192], "blocks": 2, "groups": 8, "embedding": 192}
)
"""The network that a 128^3 field of view would get, untrained: time does not depend on weights."""


def example() -> Volume:
    return read_label_map(resources_folder() / "Examples" / "hippocampus.nii.gz")


def warm(large: bool, ancestral: bool) -> dict[str, float]:
    """Seconds a volume once the model is loaded (median of three), and the process's peak memory.

    The published systems sample without guidance, so the ancestral rows do too: one evaluation of
    the network a step. Ancestral sampling at 128^3 is timed over 2 of its equal steps
    and scaled to 250.
    """
    model = read_bundle(find_model(DEFAULT_MODEL))
    labels = example()
    if large:
        small = model.manifest
        manifest = replace(
            small,
            architecture=replace(small.architecture, network=LARGE),
            grid=replace(small.grid, size=(128, 128, 128)),
        )
        model = build_model(manifest).eval()
        array = np.zeros((128, 128, 128), np.int32)
        array[32:96, 32:96, 32:64], array[32:96, 32:96, 64:96] = 1, 2
        labels = Volume(array, np.eye(4), Kind.LABEL)
    device = torch.device("cpu")
    execution = Execution(device) if ancestral else choose_execution(device)
    synthesizer = Synthesizer(model, execution)
    timed_steps = 2 if large else ANCESTRAL_STEPS
    settings = Settings(steps=timed_steps, sampler="ddpm", guidance=1) if ancestral else Settings()
    times = []
    for _ in range(1 if ancestral else 4):
        start = time.perf_counter()
        list(synthesizer.samples(labels, settings))
        times.append(time.perf_counter() - start)
    scale = ANCESTRAL_STEPS / timed_steps if ancestral else 1
    seconds = float(np.median(times[1:] or times)) * scale
    return {"seconds": seconds, "peak_gb": _peak_gb(resource.RUSAGE_SELF)}


def cold() -> dict[str, float]:
    """Seconds of the whole command as a user calls it, and its peak memory."""
    source = resources_folder() / "Examples" / "hippocampus.nii.gz"

    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "MedDiffusionLib", "synthesize", str(source), "-o",
            str(Path(folder) / "volume.nii.gz"),
        ]  # fmt: skip
        return {"seconds": _timed(command), "peak_gb": _peak_gb(resource.RUSAGE_CHILDREN)}


def import_torch() -> dict[str, float]:
    """Seconds of a process that only imports torch."""
    return {
        "seconds": _timed([sys.executable, "-c", "import torch"]),
        "peak_gb": _peak_gb(resource.RUSAGE_CHILDREN),
    }


ROWS: dict[str, tuple[str, Any]] = {
    "import": ("`import torch` alone, whole process", import_torch),
    "cold": ("`meddiffusion synthesize`, whole process", cold),
    "warm": ("one volume, model loaded", lambda: warm(False, False)),
    "warm-ancestral": (
        "one volume, model loaded, 250 ancestral steps without guidance, float32",
        lambda: warm(False, True),
    ),
    "large": ("one 128³ volume, untrained network, model loaded", lambda: warm(True, False)),
    "large-ancestral": (
        "one 128³ volume, 250 ancestral steps without guidance, float32 (2 steps timed)",
        lambda: warm(True, True),
    ),
}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(ROWS[sys.argv[1]][1]()))
        return
    subprocess.run([sys.executable, __file__, "cold"], check=True, capture_output=True)
    rows, seconds = [], {}
    for key, (title, _) in ROWS.items():
        repeats = [_measure(key) for _ in range(3 if key in ("import", "cold") else 1)]
        measured = sorted(repeats, key=lambda r: r["seconds"])[len(repeats) // 2]
        seconds[key] = measured["seconds"]
        baseline = seconds["import"] if key in ("import", "cold") else None
        if key.endswith("-ancestral"):
            fast = seconds[key.removesuffix("-ancestral")]
            ratio = f"{measured['seconds'] / fast:.0f} x its fast row"
        else:
            ratio = f"{measured['seconds'] / baseline:.2f} x import torch" if baseline else "1"
        rows.append([title, f"{measured['seconds']:.2f} s", f"{measured['peak_gb']:.2f} GB", ratio])
        print(rows[-1], flush=True)
    title = f"Speed on {torch.get_num_threads()} CPU threads"
    report("speed", title, ["what", "time", "peak memory", "ratio"], rows)


def _measure(key: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, key], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _peak_gb(who: int) -> float:
    """Peak resident memory in GB; Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
