"""One label map on other grids: is the anatomy still where it was in patient space?

    python benchmarks/geometry.py [--cases N]

Each validation label map is laid on a tilted, flipped, permuted and anisotropic grid (nearest
voxel), written as NIfTI, synthesized by the command, and the written volume is judged: nibabel
compares its header with the input's, and the segmenter's Dice is taken after resampling it back.
What such a grid itself costs is told by the real scan, resampled to it and back.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel
import numpy as np

import segmenter
from common import arguments, hippocampus_cases, report
from MedDiffusionLib.commands.cli import main as command
from MedDiffusionLib.volumes.reading import read_image
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Grid
from MedDiffusionLib.volumes.writing import write_volume


def grids(scan: Grid) -> dict[str, Grid]:
    """The scan's own grid and four others that cover it."""
    a = np.deg2rad(30)
    cos, sin = np.cos(a), np.sin(a)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.array(
        [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    )
    return {
        "plain": scan,
        "tilted 30° about two axes": _covering(scan, tilt, (1, 1, 1)),
        "flipped axes": _covering(scan, np.diag([-1.0, -1.0, 1.0]), (1, 1, 1)),
        "permuted axes": _covering(scan, np.eye(3)[[2, 0, 1]], (1, 1, 1)),
        "0.7 x 0.7 x 3 mm": _covering(scan, np.eye(3), (0.7, 0.7, 3)),
    }


def _covering(scan: Grid, direction: np.ndarray, spacing: tuple[float, float, float]) -> Grid:
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in scan.size])).reshape(3, -1).T
    along = scan.positions(corners) @ direction
    low, high = along.min(0), along.max(0)
    i, j, k = (int(n) for n in np.ceil((high - low) / spacing - 1e-6) + 1)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing)
    affine[:3, 3] = direction @ low
    return Grid((i, j, k), affine)


def main() -> None:
    options = arguments("Label fidelity on other grids.").parse_args()
    cases = hippocampus_cases("validation", options.cases)
    manifest = segmenter.manifest_of(options.model)
    judge = segmenter.trained("unet", manifest, segmenter.data_of("hippocampus"))
    scores: dict[str, list[np.ndarray]] = {}
    real: dict[str, list[np.ndarray]] = {}
    headers: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "labels.nii.gz", Path(folder) / "volume.nii.gz"
        for number, case in enumerate(cases):
            for name, grid in grids(case.image.grid).items():
                write_volume(source, resample(case.labels, grid))
                told = ["synthesize", str(source), "-o", str(output), "--overwrite"]
                if command([*told, "--model", options.model, "--seed", str(number)]) != 0:
                    raise SystemExit(f"{case.name} on the {name} grid failed")
                before, after = nibabel.load(source), nibabel.load(output)
                if before.shape != after.shape:
                    raise SystemExit(f"{case.name} on the {name} grid changed its size")
                error = float(np.abs(before.affine - after.affine).max())
                headers[name] = max(headers.get(name, 0.0), error)
                for found, image in (
                    (scores, read_image(output)),
                    (real, resample(case.image, grid)),
                ):
                    back = resample(image, case.image.grid)
                    judged = segmenter.dice(judge, manifest, back, case.labels, case.image.grid)
                    found.setdefault(name, []).append(judged)
    plain, plain_real = np.mean(scores["plain"], 0), np.mean(real["plain"], 0)
    rows = []
    for name, dice in scores.items():
        mean = np.mean(dice, 0)
        rows.append(
            [name, *(f"{v:.4f}" for v in mean), *(f"{v:+.4f}" for v in mean - plain),
             *(f"{v:+.4f}" for v in np.mean(real[name], 0) - plain_real), f"{headers[name]:.1e}"]
        )  # fmt: skip
    labels = [label.name for label in manifest.labels]
    report(
        "geometry",
        f"One label map on other grids: mean Dice on {len(cases)} validation cases",
        [
            "grid",
            *labels,
            *(f"{n}: against plain" for n in labels),
            *(f"{n}: real scan against plain" for n in labels),
            "largest header difference",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
