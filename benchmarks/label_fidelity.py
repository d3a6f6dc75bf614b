"""Label fidelity: does a segmenter that never saw synthetic volumes find the label map in them?

    python benchmarks/label_fidelity.py

Mean Dice per label on real validation scans and on volumes synthesized from the validation label
maps, in the precision that is used here and in float32. Needs the evaluation extra and the
hippocampus data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

import segmenter
from common import HippocampusCase, arguments, hippocampus_cases, report
from MedDiffusionLib import load
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesizer import Synthesizer


def fidelity(
    cases: list[HippocampusCase],
    judge: torch.nn.Module,
    synthesizer: Synthesizer,
    settings: Settings,
) -> NDArray[np.float64]:
    """Dice ``[cases, labels]``, averaged over ``settings.samples`` synthetic volumes per case.

    Sample i of case n is drawn with seed ``n * samples + i``.
    """
    scores = []
    for number, case in enumerate(cases):
        own = replace(settings, seed=number * settings.samples, native=True)
        each = [
            segmenter.dice(judge, sample.volumes[0], case.labels, case.image.grid)
            for sample in synthesizer.samples(case.labels, own)
        ]
        scores.append(np.mean(each, axis=0))
    return np.array(scores)


def row(name: str, scores: NDArray[np.float64], real: NDArray[np.float64]) -> list[str]:
    """Mean Dice per label, and its difference from the same cases' real scans (95 % interval)."""
    cells = [name, *(f"{v:.4f}" for v in scores.mean(0))]
    difference = scores - real
    half = 1.96 * difference.std(0, ddof=1) / len(scores) ** 0.5
    return cells + [f"{m:+.4f} ± {h:.4f}" for m, h in zip(difference.mean(0), half, strict=True)]


def main() -> None:
    parser = arguments("Label fidelity of a model.")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--samples", type=int, default=3, help="volumes per label map")
    options = parser.parse_args()
    cases = hippocampus_cases("validation", options.cases)
    judge = segmenter.load()
    settings = Settings(options.samples, steps=options.steps, guidance=options.guidance)
    real = np.array([segmenter.dice(judge, c.image, c.labels, c.image.grid) for c in cases])
    synthesizer = load(options.model, "cpu")
    model, fast = synthesizer.model, synthesizer.execution
    rows = [row("real", real, real)]
    for name, execution in (
        (f"synthetic, {'bfloat16' if fast.bf16 else 'float32'} (as chosen here)", fast),
        ("synthetic, float32", Execution(fast.device, channels_last=True)),
    ):
        scores = fidelity(cases, judge, Synthesizer(model, execution), settings)
        rows.append(row(name, scores, real))
    labels = [label.name for label in segmenter.MANIFEST.labels]
    chosen = settings.resolve(model.manifest)
    report(
        "label_fidelity",
        f"Label fidelity of {model.manifest.name}: mean Dice on {len(cases)} validation cases, "
        f"{chosen.samples} samples each ({chosen.sampler}, {chosen.steps} steps, "
        f"guidance {chosen.guidance:g})",
        ["volumes", *labels, *(f"{label}: synthetic - real" for label in labels)],
        rows,
    )


if __name__ == "__main__":
    main()
