"""``meddiffusion evaluate``: is a model good? Its options, and what its figures mean for CI."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compute.errors import Cancelled, UserError
from ..compute.parsing import parse_integer
from . import options
from .interrupts import CANCELLED
from .terminal import ProgressLine, say, tell, tell_text

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.figure import Figure

_SIGTERM = 143


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only an evaluation has; model and device are added by the caller."""
    data = command.add_argument_group("data: a folder or table, or two folders")
    data.add_argument("--data", type=options.path, metavar="PATH",
                      help="a folder as nnU-Net's raw ones, or a CSV or TSV table")  # fmt: skip
    data.add_argument("--images", type=options.path, metavar="DIR")
    data.add_argument("--labels", type=options.path, metavar="DIR")
    data.add_argument("--split", type=options.path, metavar="JSON",
                      help='case names under "train" and "validation", as the model was trained; '
                      "without, the model's own record of its cases")  # fmt: skip
    data.add_argument("--part", default="validation", metavar="NAME",
                      help="of the split: train or all; default: validation")  # fmt: skip
    data.add_argument("--half", default="all", metavar="WHICH",
                      help="first or second half of the patients: choose settings on one, report "
                      "on the other")  # fmt: skip
    data.add_argument("--cases", type=options.integer, metavar="N", help="at most so many")
    data.add_argument("--group-pattern", type=options.words, metavar="REGEX",
                      help="part of a case's name that is its patient")  # fmt: skip
    made = command.add_argument_group("volumes")
    made.add_argument("--seeds", type=_integers, default=(0, 1), metavar="S,S,...",
                      help="a volume of each label map for each; default: 0,1")  # fmt: skip
    made.add_argument("--steps", type=options.integer, metavar="K")
    made.add_argument("--sampler", type=options.words, metavar="NAME")
    made.add_argument("--guidance", type=options.number, metavar="W")
    judged = command.add_argument_group("figures")
    judged.add_argument("--figures", type=_names, metavar="NAME,NAME,...",
                        help="label-fidelity, noise, intensities, distribution, diversity, "
                        "relations, geometry; default: all")  # fmt: skip
    judged.add_argument("--segmenter", type=_names, metavar="NAME,NAME",
                        help="unet, dynunet (needs monai); default: what is installed")  # fmt: skip
    judged.add_argument("--segmenters", type=options.path, metavar="DIR",
                        help="where they are kept; default: beside the report")  # fmt: skip
    judged.add_argument("--segmenter-iterations", type=options.integer, metavar="N",
                        help="of their training; default: 1000, or 1600")  # fmt: skip
    judged.add_argument("--weights", type=options.path, action="append", default=[],
                        metavar="FILE", help="also features by such a network")  # fmt: skip
    command.add_argument("-o", "--output", type=options.path, metavar="REPORT",
                         help="a folder; what is finished in it is not made again")  # fmt: skip
    command.add_argument("--check", type=options.path, metavar="JSON",
                         help="make the figures of a report anew and compare them")  # fmt: skip
    command.add_argument("--gate", type=options.path, metavar="JSON",
                         help="fail where a figure is beyond its bound")  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """``meddiffusion evaluate``; returns 0, 1 where a figure is beyond its bound or not as the
    report that is checked states it, 143 after SIGTERM."""
    from ..evaluation import require_scipy

    require_scipy()
    from ..evaluation.checking import beyond, read_gate

    gate = None if chosen.gate is None else read_gate(chosen.gate)
    if chosen.check is None:
        evaluation = _evaluation(chosen, {})
        if evaluation is None:
            return _SIGTERM
        _tell(evaluation)
        figures: Sequence[Figure] = evaluation.figures
        wrong: list[str] = []
    else:
        checked = _check(chosen)
        if checked is None:
            return _SIGTERM
        figures, wrong = checked
    if gate is not None:
        wrong += beyond(gate, figures)
    for sentence in wrong:
        say(sentence)
    return 1 if wrong else 0


def _check(chosen: argparse.Namespace) -> tuple[Sequence[Figure], list[str]] | None:
    """The figures of a report, made anew, and sentences for what is stated otherwise.

    With data all is measured anew, without, figures follow from the numbers in the report.
    """
    from ..evaluation.checking import (
        differences,
        other_inputs,
        read_report,
        remade_figures,
        settings_of,
        stated_figures,
    )

    content = read_report(chosen.check)
    stated = stated_figures(content, chosen.check)
    if chosen.data is None and chosen.images is None:
        found = remade_figures(content, chosen.check)
        said = differences(stated, found, measured_anew=False)
        tell(f"{len(found)} figures made anew from the numbers in {chosen.check}")
        return found, said
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(content, chosen.check)
        if chosen.output is None:
            settings["output"] = Path(folder, "report")
        beside = chosen.segmenters or chosen.check.resolve().parent.parent / "segmenters"
        evaluation = _evaluation(chosen, {**settings, "segmenter_folder": beside})
    if evaluation is None:
        return None
    said = other_inputs(content, evaluation.content)
    said += differences(stated, evaluation.figures, measured_anew=True)
    tell(f"{len(evaluation.figures)} figures measured anew")
    return evaluation.figures, said


def _evaluation(chosen: argparse.Namespace, settings: dict[str, Any]) -> Evaluation | None:
    """The evaluation that is asked for, with ``settings`` before others; None after SIGTERM."""
    from ..compute.memory import out_of_memory_as_user_error
    from ..evaluation.evaluate import evaluate
    from ..evaluation.request import EvaluationRequest
    from ..training.loop.stopping import StopWatch

    names = EvaluationRequest.__dataclass_fields__.keys()
    given = {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}
    given |= {
        "subjects": chosen.figures, "segmenters": chosen.segmenter,
        "segmenter_folder": chosen.segmenters,
        "segmenter_iterations": chosen.segmenter_iterations, "weights": tuple(chosen.weights),
        **settings,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if "output" not in given:
        raise UserError("An evaluation needs a folder for its report", "give one with -o")
    request = EvaluationRequest(**given)
    progress = ProgressLine()
    with StopWatch() as stop:
        try:
            with out_of_memory_as_user_error():
                return evaluate(request, stop, progress.text)
        except Cancelled:
            progress.close()
            if stop.reason != "SIGTERM":
                raise
            say(CANCELLED)
            return None
        finally:
            progress.close()


def _tell(evaluation: Evaluation) -> None:
    for sentence in (*evaluation.findings, *evaluation.missing):
        say(sentence)
    tell_text("\n".join(_line(figure) for figure in evaluation.figures))
    tell(evaluation.folder)


def _line(figure: Figure) -> str:
    value, real = figure.value, figure.real
    beside = "" if real is None else f"  real {real.estimate:.4g} [{real.low:.4g}, {real.high:.4g}]"
    said = f"  {figure.verdict}" if figure.verdict else ""
    return f"{figure.name}: {value.estimate:.4g} [{value.low:.4g}, {value.high:.4g}]{beside}{said}"


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(parse_integer(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
