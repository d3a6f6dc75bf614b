"""New label maps: how fast, how faithful, and how much like a case.

    python benchmarks/label_maps.py --vary 5
    python benchmarks/label_maps.py --random 6 --model head-t1 --data head-t1 --picture heads.png

``--vary N`` varies each validation label map of the hippocampus data N times at several strengths,
and tells in how many variants every label keeps its pieces and holes, how many are made weaker for
it, Dice with the given map, and the processor's time for 1,000 maps.
``--random N`` draws N label maps, and looks for the training map that each is most like: the mean
over the labels of Dice, voxel by voxel, both centered on their labelled boxes; beside it the same
for validation maps, which are of other persons. The picture has the draws on the left, and three
validation maps with the last draw's most alike training map on the right.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from common import arguments, data_folder, hippocampus_names, report
from MedDiffusionLib.bundles.catalog import find_model
from MedDiffusionLib.bundles.generators import load_generator
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.bundles.template_fit import model_indices
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.variation import Variation
from MedDiffusionLib.volumes.volume import Volume

STRENGTHS = (0.25, 0.5, 1.0)


Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


def vary(count: int, cases: int | None) -> Table:
    """Variants of real hippocampi."""
    folder = data_folder() / "hippocampus" / "labels"
    names = hippocampus_names("validation", cases)
    rows = []
    for strength in STRENGTHS:
        made, likeness, seconds = [], [], 0.0
        for name in names:
            labels = read_label_map(folder / f"{name}.nii.gz")
            start = time.process_time()
            variation = Variation(labels)
            variants = [variation.sample(strength, seed) for seed in range(count)]
            seconds += time.process_time() - start
            made += variants
            likeness += [np.mean(_dice(labels.array, one.labels.array)) for one in variants]
        kept = np.mean([not one.broken for one in made])
        weaker = np.mean([one.strength < strength for one in made])
        each = seconds / len(made)
        rows.append(
            [f"{strength}", f"{kept:.1%}", f"{weaker:.1%}", f"{np.mean(likeness):.3f}",
             f"{1000 * each:.0f} s"]
        )  # fmt: skip
    return ["strength", "all kept", "made weaker", "Dice", "processor time of 1,000"], rows


def compare(
    count: int, manifest: Manifest, bundle: Path, data: Path, picture: Path | None
) -> Table:
    """Draws and validation maps beside the training maps that they are most like."""
    generator = load_generator(bundle, manifest)
    split = json.loads((data / "split.json").read_text("utf-8"))
    train = [_real(data, name, manifest) for name in split["train"]]
    start = time.process_time()
    drawn = [_indices(generator.sample(seed), manifest) for seed in range(count)]
    print(f"{(time.process_time() - start) / count:.2f} s of the processor a draw")
    real = [_real(data, name, manifest) for name in split["validation"]]
    rows, nearest = [], 0
    for what, maps in (("real", real), ("draw", drawn)):
        table: list[list[float]] = []
        for number, one in enumerate(maps):
            # Every second voxel tells as much.
            scores = [_dice(one[::2, ::2, ::2], other[::2, ::2, ::2]) for other in train]
            nearest = int(np.argmax([np.mean(s) for s in scores]))
            table.append([float(np.mean(scores[nearest])), *scores[nearest]])
            found = [f"{figure:.2f}" for figure in table[-1]]
            rows.append([f"{what} {number + 1}", split["train"][nearest], *found])
        rows.append([f"{what}: mean", "", *(f"{figure:.2f}" for figure in np.mean(table, 0))])
    if picture is not None:
        _write_picture(picture, drawn, [*real[:3], train[nearest]], manifest)
    return ["map", "most like", "all", *(label.name for label in manifest.labels)], rows


def _real(data: Path, name: str, manifest: Manifest) -> NDArray[np.uint8]:
    return _indices(read_label_map(data / "labels" / f"{name}.nii.gz"), manifest)


def _indices(labels: Volume, manifest: Manifest) -> NDArray[np.uint8]:
    values = [label.value for label in manifest.labels]
    return model_indices(labels, manifest.grid, values)


def _dice(one: NDArray, other: NDArray) -> list[float]:
    """Dice of each label of the second map, 0 left out."""
    count = int(max(one.max(), other.max())) + 1
    both = np.bincount(one[one == other].ravel(), minlength=count)[1:]
    first, second = (np.bincount(a.ravel(), minlength=count)[1:] for a in (one, other))
    total = first + second
    return [float(2 * b / t) for b, t in zip(both, total, strict=True) if t]


def _write_picture(
    path: Path, left: Sequence[NDArray], right: Sequence[NDArray], manifest: Manifest
) -> None:
    """Axial, coronal and sagittal planes of maps, a row each, in two columns."""
    colors = np.array([(0, 0, 0), *(label.color for label in manifest.labels)], np.uint8)
    columns = [_column(maps, max(len(left), len(right))) for maps in (left, right)]
    pixels = colors[np.concatenate(columns, 1)].repeat(2, 0).repeat(2, 1)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path))


def _column(maps: Sequence[NDArray], rows: int) -> NDArray[np.uint8]:
    x, y, z = (n // 2 for n in maps[0].shape)
    made = []
    for one in maps:
        planes = [one[:, :, z + 4].T[::-1], one[:, y].T[::-1], one[x - 4].T[::-1]]
        height = max(plane.shape[0] for plane in planes) + 2
        made.append(
            np.concatenate(
                [np.pad(p, ((0, height - p.shape[0]), (0, 2))) for p in planes], 1
            )
        )  # fmt: skip
    made += [np.zeros_like(made[0])] * (rows - len(made))
    return np.concatenate(made)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--vary", type=int, metavar="N")
    parser.add_argument("--random", type=int, metavar="N")
    parser.add_argument("--data", default="head-t1", metavar="FOLDER")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    options = parser.parse_args()
    if options.vary:
        header, rows = vary(options.vary, options.cases)
        report("label_maps_varied", "Varied label maps of the hippocampus", header, rows)
    if options.random:
        bundle = find_model(options.model)
        manifest, data = read_manifest(bundle), data_folder() / options.data
        header, rows = compare(options.random, manifest, bundle, data, options.picture)
        report("label_maps_drawn", "Dice with the most alike training map", header, rows)


if __name__ == "__main__":
    main()
