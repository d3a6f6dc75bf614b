"""Steps against label fidelity for each sampler.

    python benchmarks/steps.py [--cases N]

Mean Dice over both labels on volumes synthesized from validation label maps, same seeds in every
cell. Needs the evaluation extra and the hippocampus data.
"""

from __future__ import annotations

import segmenter
from common import arguments, hippocampus_cases, report
from label_fidelity import fidelity
from MedDiffusionLib import load
from MedDiffusionLib.diffusion.samplers import SAMPLERS
from MedDiffusionLib.synthesis.settings import Settings

STEPS = (4, 6, 8, 12, 20, 50)


def main() -> None:
    options = arguments("Steps against label fidelity.").parse_args()
    cases = hippocampus_cases("validation", options.cases)
    judge = segmenter.load()
    synthesizer = load(options.model, "cpu")
    rows = []
    for sampler in SAMPLERS:
        cells = [sampler]
        for steps in STEPS:
            settings = Settings(steps=steps, sampler=sampler)
            scores = fidelity(cases, judge, synthesizer, settings).mean(0)
            cells.append(" / ".join(f"{v:.4f}" for v in scores))
            print(sampler, steps, cells[-1], flush=True)
        rows.append(cells)
    labels = " / ".join(label.name for label in segmenter.MANIFEST.labels)
    report(
        "steps",
        f"Steps against label fidelity ({labels}), mean Dice on {len(cases)} validation cases",
        ["sampler", *(f"{n} steps" for n in STEPS)],
        rows,
    )


if __name__ == "__main__":
    main()
