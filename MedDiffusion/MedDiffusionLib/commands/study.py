"""``meddiffusion study``: plan and make a reader study, check that it is blind, and analyse it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..bundles.catalog import DEFAULT_MODEL
from ..compute.devices import DEVICES
from ..compute.errors import UserError
from . import options
from .parsers import Parser
from .terminal import ProgressLine, say, tell, tell_text

if TYPE_CHECKING:
    from ..studies.making import Made
    from ..studies.request import StudyRequest


def add_commands(commands: Any) -> None:
    """Add ``study`` with its own commands to those of argparse's ``add_subparsers``."""
    study = commands.add_parser("study", help="let readers rate real and synthetic volumes, blind")
    parts = study.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    command = parts.add_parser("make", help="make a study and its key")
    command.set_defaults(run=make, engine="..studies.making")
    command.add_argument("--real", type=options.path, required=True, metavar="DIR")
    command.add_argument("--synthetic", type=options.path, metavar="DIR",
                         help="or: made by --model from --labels")  # fmt: skip
    command.add_argument("--model", metavar="NAME|PATH")
    command.add_argument("--labels", type=options.path, metavar="DIR",
                         help="label maps of the volumes' names: their region, and what --model "
                         "makes volumes from")  # fmt: skip
    command.add_argument("--per-arm", type=int, metavar="N",
                         help="cases of each arm; default: all there are")  # fmt: skip
    command.add_argument("--training", type=int, metavar="N",
                         help="cases to practise on; default: the protocol's")  # fmt: skip
    command.add_argument("--protocol", default="real-or-synthetic", metavar="NAME|JSON")
    command.add_argument("--readers", default="R1,R2", metavar="CODES", help="default: R1,R2")
    command.add_argument("--repeats", type=int, default=15, metavar="PERCENT",
                         help="of a reader's cases that come twice; default: 15")  # fmt: skip
    command.add_argument("--pool", type=int, default=100, metavar="PERCENT",
                         help="of the cases that all readers see; the rest is dealt out; "
                         "default: 100")  # fmt: skip
    command.add_argument("--margin", type=float, default=0.1, metavar="D",
                         help="how far from chance counts as chance; default: 0.1")  # fmt: skip
    command.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"),
                         help="intensities to show, where they have a unit, as in CT")  # fmt: skip
    command.add_argument("--trim", type=int, default=2, metavar="VOXELS",
                         help="to take off each face; default: 2")  # fmt: skip
    command.add_argument("--title", default="", metavar="TEXT")
    _add_common(command)

    command = parts.add_parser("check", help="prove that nothing but voxels tells the arms apart")
    command.set_defaults(run=check, engine="..studies.check")
    command.add_argument("study", type=options.path, metavar="STUDY")
    command.add_argument("--key", type=options.path, metavar="KEY")

    command = parts.add_parser("analyse", help="open the key and write the report")
    command.set_defaults(run=analyse, engine="..evaluation")
    command.add_argument("studies", type=options.path, nargs="+", metavar="STUDY",
                         help="one study: all folders in which readers answered")  # fmt: skip
    command.add_argument("--key", type=options.path, required=True, metavar="KEY")
    command.add_argument("-o", "--output", type=options.path, required=True, metavar="REPORT")

    command = parts.add_parser("plan", help="how many cases and readers a study needs")
    command.set_defaults(run=plan, engine="..evaluation")
    command.add_argument("--half-width", type=float, metavar="W",
                         help="wished of the 95 %% interval of the share of right answers, as in "
                         "0.1")  # fmt: skip
    command.add_argument("--share", type=float, metavar="P",
                         help="the share of right answers to be noticed, as in 0.6")  # fmt: skip
    command.add_argument("--margin", type=float, metavar="D",
                         help="of equivalence, to say that readers guess, as in 0.1")  # fmt: skip
    command.add_argument("--cases", type=int, metavar="N", help="what a study of so many tells")
    command.add_argument("--readers", type=int, default=1, metavar="R", help="default: 1")
    command.add_argument(
        "--choices",
        type=int,
        default=2,
        metavar="M",
        help="volumes of which one is real; default: 2, as of single ones",
    )
    command.add_argument("--power", type=float, default=0.8, metavar="P", help="default: 0.8")
    command.add_argument("--between", type=float, default=0.05, metavar="S",
                         help="deviation of readers' true shares; default: 0.05")  # fmt: skip
    command.add_argument("--correlation", type=float, default=0.2, metavar="C",
                         help="of two readers' answers about one case; default: 0.2")  # fmt: skip

    command = parts.add_parser("example", help="make a small study to learn with")
    command.set_defaults(run=example, engine="..studies.making")
    command.add_argument("--real", type=options.path, metavar="DIR",
                         help="your own; without, both arms are synthetic")  # fmt: skip
    command.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|PATH")
    command.add_argument("--per-arm", type=int, default=6, metavar="N", help="default: 6")
    _add_common(command)


def make(chosen: argparse.Namespace) -> int:
    """``meddiffusion study make``."""
    from ..studies.request import Generation, StudyRequest
    from ..studies.sources import labels_by_name

    if (chosen.synthetic is None) == (chosen.model is None):
        raise UserError(
            "A study needs both arms", "give --synthetic, or --model and --labels",
            code="study-one-arm",
        )  # fmt: skip
    synthetic: Any = chosen.synthetic
    if chosen.model is not None:
        if chosen.labels is None:
            raise UserError("A model makes volumes from label maps", "give --labels")
        label_maps = tuple(labels_by_name(chosen.labels).values())
        synthetic = Generation(chosen.model, label_maps, device=chosen.device)
    readers = tuple(code.strip() for code in chosen.readers.split(","))
    return _make(
        StudyRequest(
            chosen.output, chosen.real, synthetic, chosen.labels, chosen.key, chosen.protocol,
            readers, chosen.per_arm, chosen.training, chosen.repeats, chosen.pool, chosen.margin,
            chosen.seed, chosen.title, chosen.trim, chosen.range and tuple(chosen.range),
        )
    )  # fmt: skip


def check(chosen: argparse.Namespace) -> int:
    """``meddiffusion study check``; returns 1 where something but voxels tells the arms apart."""
    from ..studies.check import check_study
    from ..studies.key import read_key
    from ..studies.study import read_study

    study = read_study(chosen.study, thorough=True)
    key = None if chosen.key is None else read_key(chosen.key, study)
    progress = ProgressLine()
    try:
        found = check_study(study, key, lambda done, n: progress.text(f"reading {done}/{n}"))
    finally:
        progress.close()
    tell_text(found.describe())
    return 0 if found.is_blind else 1


def analyse(chosen: argparse.Namespace) -> int:
    """``meddiffusion study analyse``."""
    from ..statistics import require_scipy

    require_scipy()
    from ..studies.report import write_report

    report = write_report(chosen.studies, chosen.key, chosen.output)
    for sentence in report.sentences:
        say(sentence)
    tell(report.page)
    return 0


def plan(chosen: argparse.Namespace) -> int:
    """``meddiffusion study plan``."""
    from ..statistics import require_scipy

    require_scipy()
    from ..studies.sizes import Wish, describe

    wish = Wish(
        chosen.half_width, chosen.share, chosen.margin, chosen.cases, chosen.readers,
        chosen.choices, chosen.power, chosen.between, chosen.correlation,
    )  # fmt: skip
    tell_text("\n".join(describe(wish)))
    return 0


def example(chosen: argparse.Namespace) -> int:
    """``meddiffusion study example``."""
    from ..studies.request import Generation, StudyRequest

    def drawn(count: int) -> Generation:
        return Generation(chosen.model, drawn=count, device=chosen.device)

    extra = 2
    return _make(
        StudyRequest(
            chosen.output,
            chosen.real or drawn(chosen.per_arm + extra),
            drawn(chosen.per_arm + extra),
            key=chosen.key,
            per_arm=chosen.per_arm,
            training=extra,
            seed=chosen.seed,
            title="Example" if chosen.real else "Example for learning: both arms are synthetic",
            example=chosen.real is None,
        )
    )


def _make(request: StudyRequest) -> int:
    from ..studies.making import make_study

    progress = ProgressLine()
    try:
        made: Made = make_study(
            request, lambda step: progress.text(f"{step.stage} {step.done}/{step.total}")
        )
    finally:
        progress.close()
    for note in made.notes:
        say(note)
    if request.example:
        say("Both arms are synthetic: this study is only for learning how it works.")
    say(f"Keep {made.key} where no reader can see it; without it nothing can be analysed.")
    tell(request.output)
    return 0


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", type=options.path, required=True, metavar="STUDY")
    command.add_argument("--key", type=options.path, metavar="FILE",
                         help="default: STUDY.key.json beside the study")  # fmt: skip
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the readers' orders")
    command.add_argument("--device", choices=DEVICES, default="auto")
