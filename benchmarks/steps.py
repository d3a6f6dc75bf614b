"""Samplers, guidance and steps against label fidelity and noise, on one half of the cases.

    python benchmarks/steps.py [--guidance 1,1.5] [--cases N]

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
    parser = arguments("Samplers, guidance and steps against label fidelity.")
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--guidance", default="1")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)))
    options = parser.parse_args()
    steps = [int(text) for text in options.steps.split(",")]
    rows = []
    for sampler in options.samplers.split(","):
        for guidance in (float(text) for text in options.guidance.split(",")):
            cells = [sampler, f"{guidance:g}"]
            for count in steps:
                folder = ROOT / "runs" / "steps" / f"{sampler}-{guidance:g}-{count}"
                done = judged(
                    options.model, folder, cases=options.cases, half="first", seeds=(0,),
                    sampler=sampler, steps=count, guidance=guidance,
                )  # fmt: skip
                chosen = [
                    figure for figure in done.figures
                    if figure.name.endswith("/all labels/difference") or figure.subject == "noise"
                ]  # fmt: skip
                cells.append(" / ".join(f"{figure.value.estimate:+.4f}" for figure in chosen))
                print(*cells[:2], count, cells[-1], flush=True)
            rows.append(cells)
    names = " / ".join(figure.name for figure in chosen)
    report(
        "steps",
        f"Samplers, guidance and steps on the first half of the validation cases: {names}",
        ["sampler", "guidance", *(f"{n} steps" for n in steps)],
        rows,
    )


if __name__ == "__main__":
    main()
