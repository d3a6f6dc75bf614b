"""``meddiffusion audit``: whether a model copies its training cases."""

from __future__ import annotations

import argparse
from typing import Any

from ..compute.errors import UserError
from . import options
from .terminal import ProgressLine, say, tell


def add_options(command: Any) -> None:
    """Add what only this has; model, seed, device and overwrite are added by the caller."""
    data = command.add_argument_group("data: a folder or table, or two folders")
    data.add_argument("--data", type=options.path, metavar="PATH",
                      help="as for train; a split.json in the folder is taken")  # fmt: skip
    data.add_argument("--images", type=options.path, metavar="DIR")
    data.add_argument("--labels", type=options.path, metavar="DIR")
    data.add_argument("--split", type=options.path, metavar="JSON",
                      help='the cases that the model was trained on under "train", and others '
                      'under "validation"')  # fmt: skip
    data.add_argument("--group-pattern", type=options.words, metavar="REGEX",
                      help="part of a case's name that is its patient")  # fmt: skip
    command.add_argument(
        "-o", "--output", type=options.path, required=True, metavar="REPORT",
        help="a folder; with --write-card and without data: of a report that is there",
    )  # fmt: skip
    command.add_argument("--samples", type=int, metavar="N", help="volumes to make; default: 400")
    command.add_argument("--reidentify", action="store_true",
                         help="also measure whether volumes and label maps tell whose they "
                         "are")  # fmt: skip
    command.add_argument("--vary", type=options.number, metavar="S",
                         help="with --reidentify: also from label maps varied so "
                         "much, 0 to 1")  # fmt: skip
    command.add_argument("--varied", type=options.path, metavar="DIR",
                         help="with --reidentify: varied label maps, named as the "
                         "cases")  # fmt: skip
    command.add_argument("--write-card", action="store_true",
                         help="write the verdict onto the model's card")  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """``meddiffusion audit``; returns 0, and 1 where the verdict is "failed"."""
    from ..evaluation import require_scipy

    require_scipy()
    from ..evaluation.audit.request import SAMPLES, AuditRequest
    from ..evaluation.audit.running import run_audit, write_card
    from ..evaluation.audit.verdict import FAILED

    has_data = chosen.data or chosen.images or chosen.labels
    if not has_data and not chosen.write_card:
        raise UserError("An audit needs the cases that the model was trained on, and others",
                        "give --data, or --images and --labels")  # fmt: skip
    verdict = ""
    if has_data:
        names = ("model", "output", "data", "images", "labels", "split", "group_pattern", "seed",
                 "device", "reidentify", "vary", "varied")  # fmt: skip
        request = AuditRequest(
            **{name: getattr(chosen, name) for name in names},
            samples=SAMPLES if chosen.samples is None else chosen.samples,
        )
        progress = ProgressLine()
        try:
            audited = run_audit(
                request,
                overwrite=chosen.overwrite,
                on_progress=lambda what, done, n: progress.text(f"{what} {done}/{n}"),
            )
        finally:
            progress.close()
        for sentence in audited.sentences:
            say(sentence)
        verdict = audited.verdict
        tell(f"{audited.page}: {verdict}")
    if chosen.write_card:
        verdict = write_card(chosen.model, chosen.output)
        tell(f"{chosen.model}: audit {verdict}, on its card")
    return 1 if verdict == FAILED else 0
