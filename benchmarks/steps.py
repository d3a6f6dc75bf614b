"""Samplers and steps against label fidelity and noise: on one half of the validation cases.

    python benchmarks/steps.py [--cases N]

Dice over all labels by each segmenter, synthetic - real, and high-frequency power, synthetic over
real, on volumes of the first half's label maps with the same seed in every cell. What is chosen by
this is reported on the other half (``label_fidelity.py --half second``). Needs the evaluation extra
and the hippocampus data.
"""

from __future__ import annotations

from common import ROOT, arguments, report
from label_fidelity import judged
from MedDiffusionLib.diffusion.samplers import SAMPLERS

STEPS = (4, 6, 8, 12, 20, 50)


def main() -> None:
    options = arguments("Samplers and steps against label fidelity.").parse_args()
    rows = []
    for sampler in SAMPLERS:
        cells = [sampler]
        for steps in STEPS:
            folder = ROOT / "runs" / "steps" / f"{sampler}-{steps}"
            done = judged(
                options.model, folder, cases=options.cases, half="first", seeds=(0,),
                sampler=sampler, steps=steps,
            )  # fmt: skip
            chosen = [
                figure for figure in done.figures
                if figure.name.endswith("/all labels/difference") or figure.subject == "noise"
            ]  # fmt: skip
            cells.append(" / ".join(f"{figure.value.estimate:+.4f}" for figure in chosen))
            print(sampler, steps, cells[-1], flush=True)
        rows.append(cells)
    names = " / ".join(figure.name for figure in chosen)
    report(
        "steps",
        f"Samplers and steps on the first half of the validation cases: {names}",
        ["sampler", *(f"{n} steps" for n in STEPS)],
        rows,
    )


if __name__ == "__main__":
    main()
