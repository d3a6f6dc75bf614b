"""``meddiffusion evaluate``: is a model good? Its options, and what its figures mean for CI."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..compute.errors import Cancelled, UserError
from ..compute.parsing import parse_integer
from . import options
from .interrupts import CANCELLED
from .terminal import ProgressLine, say, tell, tell_text

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation

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
                      help="of the split: validation, train or all; default: validation")  # fmt: skip
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
                        help="unet, dynunet (needs monai); default: both")  # fmt: skip
    judged.add_argument("--segmenters", type=options.path, metavar="DIR",
                        help="where they are kept; default: beside the report")  # fmt: skip
    judged.add_argument("--segmenter-iterations", type=options.integer, metavar="N",
                        help="of their training; default: 1000")  # fmt: skip
    judged.add_argument("--weights", type=options.path, action="append", default=[],
                        metavar="FILE", help="features by MedicalNet's or RadImageNet's")  # fmt: skip
    command.add_argument("-o", "--output", type=options.path, metavar="REPORT",
                         help="a folder; what is finished in it is not made again")  # fmt: skip
    command.add_argument("--check", type=options.path, metavar="JSON",
                         help="make the figures of a report anew and compare them")  # fmt: skip
    command.add_argument("--gate", type=options.path, metavar="JSON",
                         help="fail where a figure is beyond its bound")  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """``meddiffusion evaluate``; returns 0, 1 where a figure is beyond its bound or differs from
    the report that is checked, 143 after SIGTERM."""
    from ..evaluation import require_scipy

    require_scipy()
    from ..compute.memory import out_of_memory_as_user_error
    from ..evaluation.evaluate import evaluate
    from ..evaluation.request import EvaluationRequest
    from ..training.loop.stopping import StopWatch

    if chosen.output is None:
        raise UserError("An evaluation needs a folder for its report", "give one with -o")
    names = EvaluationRequest.__dataclass_fields__.keys()
    given = {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}
    more = {
        "subjects": chosen.figures, "segmenters": chosen.segmenter,
        "segmenter_folder": chosen.segmenters,
        "segmenter_iterations": chosen.segmenter_iterations, "weights": tuple(chosen.weights),
    }  # fmt: skip
    given |= more
    request = EvaluationRequest(**{k: v for k, v in given.items() if v is not None})
    progress = ProgressLine()
    with StopWatch() as stop:
        try:
            with out_of_memory_as_user_error():
                evaluation = evaluate(request, stop, progress.text)
        except Cancelled:
            progress.close()
            if stop.reason != "SIGTERM":
                raise
            say(CANCELLED)
            return _SIGTERM
        finally:
            progress.close()
    _tell(evaluation)
    return 0


def _tell(evaluation: Evaluation) -> None:
    for sentence in (*evaluation.findings, *evaluation.missing):
        say(sentence)
    tell_text("\n".join(_line(figure) for figure in evaluation.figures))
    tell(evaluation.folder)


def _line(figure: object) -> str:
    value, real = figure.value, figure.real  # type: ignore[attr-defined]
    beside = "" if real is None else f"  real {real.estimate:.4g} [{real.low:.4g}, {real.high:.4g}]"
    said = f"  {figure.verdict}" if figure.verdict else ""  # type: ignore[attr-defined]
    return (
        f"{figure.name}: {value.estimate:.4g} "  # type: ignore[attr-defined]
        f"[{value.low:.4g}, {value.high:.4g}]{beside}{said}"
    )


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(parse_integer(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
