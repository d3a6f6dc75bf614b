#!/usr/bin/env python-real
"""Slicer's command-line module for training: from folders of scans and label maps to a model.

    PythonSlicer MedDiffusionTrain.py --images FOLDER --labels FOLDER --output FOLDER --minutes 60

It needs no window, and does what ``meddiffusion train`` does. The parameters are those of the .xml
beside. Cancelling in Slicer kills it: the run then goes on from its last checkpoint with
``--resume``. A file named ``stop`` in the output folder ends it in good order. By the first line
Slicer tells this file from a scripted module.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedDiffusionLib.commands.slicer_progress import ModuleParser, SlicerProgress
    from MedDiffusionLib.training.loop.log import TrainingReport

LAST_LOSSES = 50
"""The final loss is averaged over so many iterations: that of one says little."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module; returns the exit code."""
    find_library()
    from MedDiffusionLib.commands.slicer_progress import run_module

    return run_module(make_parser(), train_or_report, arguments)


def find_library() -> None:
    """Let Python find the library that belongs to this file, in a source or an installed tree."""
    above = Path(__file__).resolve().parents[1]
    for folder in (above, above / "qt-scripted-modules"):
        if (folder / "MedDiffusionLib").is_dir():
            sys.path.insert(0, str(folder))
            return


def make_parser() -> ModuleParser:
    """The parameters; Slicer does not pass empty ones on, and numbers that are 0 say nothing."""
    from MedDiffusionLib.commands.options import integer, number, path
    from MedDiffusionLib.commands.slicer_progress import ModuleParser
    from MedDiffusionLib.compute.devices import DEVICES

    parser = ModuleParser("Train a model on your own scans and label maps.")
    add = parser.add
    add("images", type=path, help="Folder of scans.")
    add("labels", type=path, help="Folder of their label maps, named as the scans.")
    add("data", type=path, help="Instead of the two folders, a folder as nnU-Net's raw ones.")
    add("table", type=path, help="Instead of folders, a CSV or TSV table of the cases.")
    add("output", type=path, required=True, help="Folder for the new model and its checkpoints.")
    add("minutes", type=number, default=0.0, help="How long to train; 0: until the iterations are "
        "done.")  # fmt: skip
    add("iterations", type=integer, default=0, help="Iterations to train; 0: until the minutes are "
        "over.")  # fmt: skip
    add("resume", action="store_true", help="Go on from the last checkpoint in the output folder.")
    add("check", action="store_true", help="Only check the data and say the plan.")
    add("report", type=path, help="A JSON file for what a check found, or why a training failed.")
    add("skip_bad", action="store_true", help="Train without the cases that cannot be used.")
    add("preset", help="A plan by name or JSON file, or the part of one that is not to be "
        "automatic.")  # fmt: skip
    add("start_from", help="A model, by name or folder, whose weights are trained on.")
    add("split", type=path, help="JSON file with case names under train and, if wanted, under "
        "validation.")  # fmt: skip
    add("group_pattern", help="Regular expression for the part of a case's name that is its "
        "patient.")  # fmt: skip
    add("seed", type=integer, default=0, help="The same seed gives the same run.")
    add("device", default="auto", choices=DEVICES,
        help="What computes; auto: a GPU where there is one.")  # fmt: skip
    add("name", help="The model's name; empty: the output folder's.")
    add("license", help="The license of the model's weights.")
    add("attribution", help="Whom the data come from.")
    return parser


def train_or_report(options: argparse.Namespace) -> dict[str, object]:
    """Like train; a training's error also goes into the report, for a panel to put into words."""
    from MedDiffusionLib.compute.errors import UserError
    from MedDiffusionLib.compute.files import write_json
    from MedDiffusionLib.training.output import check_report
    from MedDiffusionLib.worker.protocol import put_error

    if options.report:
        check_report(options.report, options.output)
    try:
        return train(options)
    except UserError as error:
        if options.report and not options.check:
            with suppress(OSError):
                write_json(options.report, put_error(error))
        raise


def train(options: argparse.Namespace) -> dict[str, object]:
    """Do what the parameters ask for; returns the values that Slicer gets back."""
    from MedDiffusionLib.commands.slicer_progress import Ended, SlicerProgress
    from MedDiffusionLib.compute.errors import UserError
    from MedDiffusionLib.compute.memory import out_of_memory_as_user_error
    from MedDiffusionLib.training.loop.finishing import sharing_sentence
    from MedDiffusionLib.training.request import TrainingRequest, check_request, start_training

    if options.data and options.table:
        raise UserError("Data are given as a folder and as a table", "give one of them")
    if options.minutes and options.iterations:
        raise UserError("Two ends are given", "give minutes or iterations")
    known = {n: v for n, v in vars(options).items() if n in TrainingRequest.__dataclass_fields__}
    request = TrainingRequest(
        **{
            **known,
            "data": options.data or options.table,
            "minutes": options.minutes or None,
            "iterations": options.iterations or None,
        }
    )
    losses: deque[float] = deque(maxlen=LAST_LOSSES)
    part = ""
    with SlicerProgress("MedDiffusion Train") as progress, out_of_memory_as_user_error():

        def on_report(report: TrainingReport) -> None:
            nonlocal part
            if report.stage == "training" and not report.note:
                if report.part != part:
                    # What is trained next has another loss.
                    losses.clear()
                    part = report.part
                losses.append(report.loss)
            show(progress, report)

        if options.check:
            checked = check_request(request, on_report)
            progress.note(checked.describe())
            if options.report:
                checked.write(options.report)
            if not checked.usable:
                raise UserError(
                    "The data cannot be trained on",
                    "leave bad cases out, or correct them",
                    code="data-unusable",
                )
            return {"ending": "checked"}
        outcome = start_training(request, on_report)
        if outcome.exit_code == 0:
            progress.note(sharing_sentence(request.output))
    if outcome.exit_code:
        raise Ended(outcome.sentence(request.output), outcome.exit_code)
    loss = {"finalLoss": f"{fmean(losses):.6g}"} if losses else {}
    ending = "stopped" if outcome.reason else "finished"
    done = {"iterationsDone": outcome.iteration, "bundle": request.output.resolve()}
    return {**done, **loss, "ending": ending}


def show(progress: SlicerProgress, report: TrainingReport) -> None:
    """Pass a report on to Slicer; sentences out of the ordinary stay readable after the end."""
    if report.note:
        progress.note(report.note)
        return
    words = []
    if report.iteration:
        words.append(f"iteration {report.iteration}, loss {report.loss:.4f}")
    if report.learning_rate:
        words.append(f"learning rate {report.learning_rate:.2g}")
    if report.seconds_left is not None:
        words.append(f"{report.seconds_left / 60:.1f} min left")
    before = report.stage in ("checking", "reading")
    overall = 0.0 if before else report.progress
    progress.show(overall, report.progress, report.words, ", ".join(words))


if __name__ == "__main__":
    sys.exit(main())
