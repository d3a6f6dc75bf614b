"""``meddiffusion train``: its options, and what its end means for the exit code."""

from __future__ import annotations

import argparse

from ..compute.errors import UserError
from . import options
from .terminal import ProgressLine, say, tell, tell_text


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only training has; seed and device are added by the caller."""
    data = command.add_argument_group("data: a folder or table, or two folders")
    data.add_argument("--data", type=options.path, metavar="PATH",
                      help="a folder as nnU-Net's raw ones, or a CSV or TSV table")  # fmt: skip
    data.add_argument("--images", type=options.path, metavar="DIR")
    data.add_argument(
        "--labels", type=options.path, metavar="DIR", help="label maps, named as the images"
    )
    data.add_argument("--split", type=options.path, metavar="JSON",
                      help='case names under "train" and, if wanted, "validation"')  # fmt: skip
    data.add_argument("--group-pattern", type=options.words, metavar="REGEX",
                      help="part of a case's name that is its patient")  # fmt: skip
    data.add_argument("--check", action="store_true", help="only check the data and say the plan")
    data.add_argument("--report", type=options.path, metavar="JSON",
                      help="with --check: also write what was found to a file")  # fmt: skip
    data.add_argument("--skip-bad", action="store_true", help="train without the bad cases")
    command.add_argument(
        "--output", type=options.path, required=True, metavar="DIR", help="the new bundle"
    )
    command.add_argument("--preset", type=options.words, metavar="NAME|FILE",
                         help="a plan, or the part of one that is not to be automatic")  # fmt: skip
    command.add_argument("--start-from", type=options.words, metavar="NAME|PATH",
                         help="a model, whose weights are trained on")  # fmt: skip
    length = command.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=options.number, metavar="N")
    length.add_argument("--iterations", type=options.integer, metavar="N")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    card = command.add_argument_group("model card")
    card.add_argument(
        "--name", type=options.words, metavar="NAME", help="default: the output folder's"
    )
    card.add_argument("--license", type=options.words, metavar="TEXT")
    card.add_argument("--attribution", type=options.words, metavar="TEXT")


def run(chosen: argparse.Namespace) -> int:
    """``meddiffusion train``; returns 0, 1 for a failed --check, 130 or 143 after a signal."""
    from ..compute.distributed import LostProcess, ranks_here
    from ..compute.memory import out_of_memory_as_user_error
    from ..training.loop.finishing import sharing_sentence
    from ..training.output import check_report
    from ..training.request import TrainingRequest, check_request, start_training

    names = TrainingRequest.__dataclass_fields__.keys()
    if chosen.report and not chosen.check:
        raise UserError("--report says what a check found", "give --check as well")
    request = TrainingRequest(**{name: getattr(chosen, name) for name in names})
    is_main = ranks_here().is_main
    progress = ProgressLine()
    try:
        with out_of_memory_as_user_error():
            if chosen.check:
                if chosen.report:
                    check_report(chosen.report, request.output)
                checked = check_request(request, progress.report)
                progress.close()
                tell_text(checked.describe())
                if chosen.report:
                    checked.write(chosen.report)
                return 0 if checked.usable else 1
            outcome = start_training(request, progress.report)
    except LostProcess as error:
        if not is_main:
            # The main process has spoken.
            return 1
        raise UserError("Another process of this run is gone", "see what it said") from error
    finally:
        progress.close()
    if is_main:
        if sentence := outcome.sentence(request.output, "use --resume"):
            say(sentence)
        if outcome.exit_code == 0:
            tell(request.output)
            say(sharing_sentence(request.output))
    return outcome.exit_code
