"""A labelled region three fields of view wide: do the blocks leave seams?

    python benchmarks/seams.py

Three label maps of the shape model stand side by side. At every block border the mean absolute
difference between the two slices that meet there is compared with that of all other neighboring
slices: a seam would stand out. Writes the picture benchmarks/results/seams.png too.
"""

from __future__ import annotations

import numpy as np

from common import RESULTS, arguments, report
from MedDiffusionLib import load
from MedDiffusionLib.diffusion.blocks import block_starts
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.volumes.preview import write_preview
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Volume


def main() -> None:
    parser = arguments("Seams between blocks.")
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    synthesizer = load(options.model, "cpu")
    model = synthesizer.model
    ones = [model.shape_model.sample(seed) for seed in range(3)]
    labels = Volume(np.concatenate([v.array for v in ones], 0), ones[0].affine, ones[0].kind)
    steps = []
    for sample in synthesizer.samples(labels, Settings(options.samples, native=True)):
        volume = sample.volumes[0]
        steps.append(np.abs(np.diff(volume.array, axis=0)).mean((1, 2)))
        if sample.index == 0:
            colors = {label.value: label.color for label in model.labels}
            RESULTS.mkdir(exist_ok=True)
            write_preview(RESULTS / "seams.png", volume, resample(labels, volume.grid), colors)
    factor = model.representation.factors[0]
    fov = model.manifest.grid.size[0]
    length = volume.array.shape[0]
    starts = [factor * s for s in block_starts(length // factor, fov // factor)]
    borders = sorted({b - 1 for s in starts for b in (s, s + fov) if 0 < b < length})
    elsewhere = np.setdiff1d(np.arange(length - 1), borders)
    mean = np.mean(steps, 0)
    # Within a Haar pair and between pairs slices may differ by nature: compare like with like.
    like = elsewhere[elsewhere % factor == (factor - 1)]
    rows = [
        ["at block borders", str(len(borders)), f"{mean[borders].mean():.1f}",
         f"{mean[borders].max():.1f}"],
        ["elsewhere between latent voxels", str(len(like)), f"{mean[like].mean():.1f}",
         f"{mean[like].max():.1f}"],
        ["elsewhere, all", str(len(elsewhere)), f"{mean[elsewhere].mean():.1f}",
         f"{mean[elsewhere].max():.1f}"],
    ]  # fmt: skip
    report(
        "seams",
        f"Mean absolute difference of neighboring sagittal slices, {options.samples} samples of a "
        f"region of {length} voxels in blocks of {fov}",
        ["where", "slices", "mean", "largest"],
        rows,
    )


if __name__ == "__main__":
    main()
