"""Label fidelity and noise of a model on the hippocampus data, by ``meddiffusion evaluate``.

    python benchmarks/label_fidelity.py [--half second]

Mean Dice per label and segmenter on real validation scans and on volumes synthesized from the
validation label maps, and the power of high frequencies. Needs the evaluation extra and the
hippocampus data. The report with pictures is written to ``runs/evaluation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import ROOT, arguments, data_folder, report
from MedDiffusionLib.commands.terminal import ProgressLine
from MedDiffusionLib.evaluation.evaluate import Evaluation, evaluate
from MedDiffusionLib.evaluation.figures.intervals import Interval
from MedDiffusionLib.evaluation.request import EvaluationRequest
from MedDiffusionLib.training.loop.stopping import StopWatch
from segmenter import FOLDER

SUBJECTS = ("label-fidelity", "noise")


def judged(model: str, output: Path, **settings: Any) -> Evaluation:
    """The evaluation of a model on the validation cases of the hippocampus data."""
    data = data_folder() / "hippocampus"
    request = EvaluationRequest(
        model, output, images=data / "images", labels=data / "labels", split=data / "split.json",
        segmenter_folder=FOLDER, device="cpu", subjects=SUBJECTS, **settings,
    )  # fmt: skip
    progress = ProgressLine()
    with StopWatch() as stop:
        done = evaluate(request, stop, progress.text)
    progress.close()
    return done


def main() -> None:
    parser = arguments("Label fidelity of a model.")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seeds", default="0,1,2", help="a volume of each label map for each")
    parser.add_argument("--half", default="all", help="first or second half of the cases")
    options = parser.parse_args()
    seeds = tuple(int(seed) for seed in options.seeds.split(","))
    done = judged(
        options.model, ROOT / "runs" / "evaluation", cases=options.cases, steps=options.steps,
        guidance=options.guidance, seeds=seeds, half=options.half,
    )  # fmt: skip
    rows = [
        [figure.name, _shown(figure.value), _shown(figure.real),
         " ".join(f"{seed:.4f}" for seed in figure.seeds), figure.verdict]
        for figure in done.figures
    ]  # fmt: skip
    settings = done.content["settings"]
    report(
        "label_fidelity",
        f"Label fidelity of {done.content['inputs']['model']} on {len(done.content['cases'])} "
        f"validation cases ({settings['half']}), seeds {options.seeds} ({settings['sampler']}, "
        f"{settings['steps']} steps, guidance {settings['guidance']:g})",
        ["figure", "synthetic", "real", "by seed", "verdict"],
        rows,
    )


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main()
