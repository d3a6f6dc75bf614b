"""Trains a segmenter that judges volumes, ahead of the evaluations that will use it.

    python benchmarks/segmenter.py --model hippocampus-mr --data DIR --split FILE --segmenters DIR

``meddiffusion evaluate --segmenters DIR`` with the same data then finds it. ``--model`` is a model,
or the preset of one that is still in training. Interrupted, it goes on the next time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from MedDiffusionLib.bundles.catalog import find_model
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.commands.terminal import ProgressLine
from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.execution import choose_execution
from MedDiffusionLib.evaluation.segmenters import SEGMENTERS
from MedDiffusionLib.evaluation.segmenters.training import Effort, case_digest, trained_segmenter
from MedDiffusionLib.training.data.cases import find_data
from MedDiffusionLib.training.loop.stopping import StopWatch
from MedDiffusionLib.training.plan.presets import load_preset, preset_path, read_split
from MedDiffusionLib.training.plan.settings import check_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a segmenter that judges volumes.")
    parser.add_argument("--model", required=True, help="a model, or a preset")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--segmenters", type=Path, required=True)
    parser.add_argument("--name", choices=SEGMENTERS, default="unet")
    parser.add_argument("--iterations", type=int, default=Effort.iterations)
    options = parser.parse_args()
    names = read_split(options.split).train
    cases = find_data(options.data, options.images, options.labels, wanted=names).cases
    execution = choose_execution(choose_device("cpu"))
    progress = ProgressLine()
    with StopWatch() as stop:
        trained_segmenter(
            options.name, _manifest(options.model), cases, [case_digest(case) for case in cases],
            options.segmenters, execution, Effort(options.iterations), stop, progress.report,
        )  # fmt: skip
    progress.close()


def _manifest(name: str) -> Manifest:
    if preset_path(name).is_file():
        return check_manifest(load_preset(name)["manifest"])
    return read_manifest(find_model(name))


if __name__ == "__main__":
    main()
