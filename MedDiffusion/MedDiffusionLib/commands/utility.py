"""``meddiffusion utility``: does a segmenter get better by synthetic volumes? Its options."""

from __future__ import annotations

import argparse
from typing import Any

from ..compute.errors import Cancelled
from ..compute.parsing import parse_integer
from . import options
from .interrupts import CANCELLED
from .terminal import ProgressLine, say, tell

_SIGTERM = 143


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only this has; the device is added by the caller."""
    data = command.add_argument_group("data: a folder or table, or two folders")
    data.add_argument("--data", type=options.path, metavar="PATH",
                      help="a folder as nnU-Net's raw ones, or a CSV or TSV table")  # fmt: skip
    data.add_argument("--images", type=options.path, metavar="DIR")
    data.add_argument("--labels", type=options.path, metavar="DIR")
    data.add_argument("--split", type=options.path, metavar="JSON",
                      help='case names to train on under "train", to test with under '
                      '"validation"')  # fmt: skip
    data.add_argument("--group-pattern", type=options.words, metavar="REGEX",
                      help="part of a case's name that is its patient")  # fmt: skip
    design = command.add_argument_group("design")
    design.add_argument("--sizes", type=_sizes, metavar="N,N,...",
                        help="real cases; default: 5,10,20,40,all")  # fmt: skip
    design.add_argument("--seeds", type=_integers, metavar="S,S,...",
                        help="at least 3; default: 0,1,2")  # fmt: skip
    design.add_argument("--arms", type=_names, metavar="NAME,NAME,...",
                        help="beside real: synthetic, both, pretrained; default: all")  # fmt: skip
    design.add_argument("--segmenter", type=options.words, metavar="NAME",
                        help="unet or dynunet (needs monai); default: unet")  # fmt: skip
    design.add_argument("--segmenter-iterations", type=options.integer, metavar="N",
                        help="optimizer steps of each arm, pre-training counted")  # fmt: skip
    design.add_argument("--share", type=options.number, metavar="S",
                        help="of synthetic samples in both; default: 0.5")  # fmt: skip
    design.add_argument("--pretraining", type=options.number, metavar="S",
                        help="share of the steps in pretrained; default: 0.5")  # fmt: skip
    made = command.add_argument_group("generator and synthetic volumes")
    made.add_argument("--preset", type=options.words, metavar="NAME|FILE",
                      help="how generators are trained, as of meddiffusion train")  # fmt: skip
    length = made.add_mutually_exclusive_group()
    length.add_argument("--generator-minutes", type=options.number, metavar="N")
    length.add_argument("--generator-iterations", type=options.integer, metavar="N")
    length.add_argument("--generator", type=options.words, metavar="MODEL",
                        help="one that is there, instead of one for each n and seed")  # fmt: skip
    made.add_argument("--volumes", type=options.integer, metavar="K",
                      help="of each generator and kind of label maps; default: 40")  # fmt: skip
    made.add_argument("--maps", type=_names, metavar="KIND,KIND,...",
                      help="same (the real cases' own), varied, random; default: same")  # fmt: skip
    made.add_argument("--vary", type=options.number, metavar="STRENGTH", dest="strength",
                      help="of varied label maps, 0 to 1; default: 0.5")  # fmt: skip
    made.add_argument("--steps", type=options.integer, metavar="K")
    made.add_argument("--sampler", type=options.words, metavar="NAME")
    made.add_argument("--guidance", type=options.number, metavar="W")
    command.add_argument("-o", "--output", type=options.path, required=True, metavar="DIR",
                         help="a folder; what is finished in it is kept")  # fmt: skip
    command.add_argument("--only-report", action="store_true",
                         help="of what is finished so far")  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """``meddiffusion utility``; returns 0, or 143 after SIGTERM."""
    from ..evaluation import require_scipy

    require_scipy()
    from ..compute.distributed import choose_local_device, ranks_here
    from ..compute.memory import out_of_memory_as_user_error
    from ..evaluation.utility.experiment import utility
    from ..evaluation.utility.request import UtilityRequest
    from ..training.loop.stopping import StopWatch

    names = UtilityRequest.__dataclass_fields__.keys()
    given: dict[str, Any] = {name: getattr(chosen, name) for name in names}
    request = UtilityRequest(**{name: value for name, value in given.items() if value is not None})
    choose_local_device()
    # Processes that torchrun started share the work by the folder alone; one speaks for them.
    is_main = ranks_here().is_main
    progress = ProgressLine()
    with StopWatch() as stop:
        try:
            with out_of_memory_as_user_error():
                found = utility(request, stop, progress.text, only_report=chosen.only_report)
        except Cancelled:
            progress.close()
            if stop.reason != "SIGTERM":
                raise
            say(CANCELLED)
            return _SIGTERM
        finally:
            progress.close()
    if is_main:
        for sentence in found.sentences:
            tell(sentence)
        tell(found.folder)
    return 0


def _sizes(text: str) -> tuple[int | None, ...]:
    parts = [part.strip() for part in text.split(",")]
    return tuple(None if part == "all" else _integer(part) for part in parts)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(_integer(part.strip()) for part in text.split(","))


def _integer(text: str) -> int:
    try:
        return parse_integer(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
