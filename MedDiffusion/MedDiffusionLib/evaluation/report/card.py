"""What a model's card may say of an evaluation: a few figures, each with its command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...reports.tables import shown
from ...statistics.estimate import Estimate
from ..figure import Figure
from ..figures.intervals import Interval
from ..request import EvaluationRequest
from ..subjects.label_fidelity import ALL

_CHOSEN = (f"/{ALL}/difference", "/kernel distance", "/MS-SSIM")


def card(request: EvaluationRequest, figures: Sequence[Figure]) -> list[dict[str, str]]:
    """The figures as a manifest's ``figures`` has them: name, value, command."""
    command = _command(request)
    return [
        {"name": figure.what, "value": _value(figure), "command": command}
        for figure in figures
        if figure.name.endswith(_CHOSEN) or figure.subject == "noise"
    ]


def _value(figure: Figure) -> str:
    text = _shown(figure.value)
    if figure.real is not None:
        text += f", real {_shown(figure.real)}"
    if len(figure.seeds) > 1:
        text += f"; by seed {', '.join(map(shown, figure.seeds))}"
    return text + (f": {figure.verdict}" if figure.verdict else "")


def _shown(interval: Interval) -> str:
    return shown(Estimate(interval.estimate, interval.low, interval.high))


def _command(request: EvaluationRequest) -> str:
    """The command of an evaluation, without a machine's folders."""
    words = [f"meddiffusion evaluate --model {Path(request.model).name}"]
    for option in ("data", "images", "labels", "split"):
        path = getattr(request, option)
        words += [f"--{option} {path.name}"] if path else []
    for option, value in (
        ("part", request.part if request.part != "validation" else None),
        ("half", request.half if request.half != "all" else None),
        ("cases", request.cases),
        ("seeds", ",".join(map(str, request.seeds))),
        ("steps", request.steps),
        ("sampler", request.sampler),
        ("guidance", request.guidance),
        ("segmenter-iterations", request.segmenter_iterations),
    ):
        words += [f"--{option} {value}"] if value is not None else []
    return " ".join([*words, "-o report"])
