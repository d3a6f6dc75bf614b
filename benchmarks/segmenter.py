"""Segmenters that judge volumes, trained ahead of the evaluations and benchmarks that use them.

    python benchmarks/segmenter.py --model hippocampus-mr --data DIR --split FILE --segmenters DIR

``meddiffusion evaluate --segmenters DIR`` with the same data then finds it. ``--model`` is a model,
or the preset of one that is still in training. Interrupted, it goes on the next time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import ROOT, data_folder
from MedDiffusionLib.bundles.catalog import find_model
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.commands.terminal import ProgressLine
from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.execution import choose_execution
from MedDiffusionLib.evaluation.figures.dice import dice_per_label
from MedDiffusionLib.evaluation.segmenters import SEGMENTERS
from MedDiffusionLib.evaluation.segmenters.segmenter import Segmenter
from MedDiffusionLib.evaluation.segmenters.training import (
    Effort,
    case_digest,
    trained_segmenter,
    usual_effort,
)
from MedDiffusionLib.training.data.cases import CaseFiles, find_data
from MedDiffusionLib.training.data.loaded_cases import make_case
from MedDiffusionLib.training.loop.stopping import StopWatch
from MedDiffusionLib.training.plan.presets import load_preset, preset_path, read_split
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.grids import fov_grid
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Grid, Volume

FOLDER = ROOT / "runs" / "segmenters"
"""Where the benchmarks keep theirs."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a segmenter that judges volumes.")
    parser.add_argument("--model", required=True, help="a model, or a preset")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--segmenters", type=Path, default=FOLDER)
    parser.add_argument("--name", choices=SEGMENTERS, default="unet")
    parser.add_argument("--iterations", type=int)
    options = parser.parse_args()
    names = read_split(options.split).train
    cases = find_data(options.data, options.images, options.labels, wanted=names).cases
    manifest = manifest_of(options.model)
    trained(options.name, manifest, cases, options.segmenters, options.iterations)


def trained(
    name: str,
    manifest: Manifest,
    cases: Sequence[CaseFiles],
    folder: Path = FOLDER,
    iterations: int | None = None,
) -> Segmenter:
    """A segmenter out of a folder, trained on the real ``cases`` first where it is not there."""
    execution = choose_execution(choose_device("cpu"))
    effort = usual_effort(manifest) if iterations is None else Effort(iterations)
    progress = ProgressLine()
    with StopWatch() as stop:
        made = trained_segmenter(
            name, manifest, cases, [case_digest(case) for case in cases], folder, execution,
            effort, stop, progress.report,
        )  # fmt: skip
    progress.close()
    return made


def data_of(name: str, part: str = "train") -> tuple[CaseFiles, ...]:
    """The cases of a part of the shared data's folder ``name``."""
    folder = data_folder() / name
    split = read_split(folder / "split.json")
    wanted = split.train if part == "train" else split.validation
    return find_data(None, folder / "images", folder / "labels", wanted=wanted).cases


def manifest_of(name: str) -> Manifest:
    """A model's, or that of a preset."""
    if preset_path(name).is_file():
        return check_manifest(load_preset(name)["manifest"])
    return read_manifest(find_model(name))


def dice(
    judge: Segmenter, manifest: Manifest, image: Volume, labels: Volume, scan: Grid
) -> NDArray[np.float64]:
    """Dice per label ``[L]`` of the segmented ``image`` against ``labels`` on its field of view.

    ``image`` counts only where it lies within ``scan`` (the grid of the real scan), real and
    synthetic volumes alike; all three share one lattice, or are brought to it.
    """
    fov = fov_grid(labels, manifest.grid)
    values = [label.value for label in manifest.labels]
    shared = _overlap(fov, scan)
    case = make_case(
        "", [resample(image, shared)], labels, manifest.grid, values, manifest.intensity
    )
    found = judge.segment(case.images_on(fov))
    return dice_per_label(found, case.labels_on(fov), case.validity(fov), len(values))


def _overlap(fov: Grid, scan: Grid) -> Grid:
    """The part of the field of view that was scanned; both grids are RAS on one lattice."""
    offset = np.rint((scan.origin - fov.origin) / fov.spacing).astype(int)
    low = np.maximum(offset, 0)
    high = np.minimum(offset + scan.size, fov.size)
    affine = fov.affine.copy()
    affine[:3, 3] = fov.positions(low[None].astype(float))[0]
    i, j, k = (int(n) for n in high - low)
    return Grid((i, j, k), affine)


if __name__ == "__main__":
    main()
