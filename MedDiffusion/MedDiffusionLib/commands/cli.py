"""The ``meddiffusion`` command: arguments in, sentences out; the engine does the work."""

from __future__ import annotations

import argparse
import importlib
import traceback
from collections.abc import Sequence

from ..bundles.catalog import DEFAULT_MODEL
from ..compute.devices import DEVICES
from ..compute.errors import Cancelled, UserError, unexpected
from ..compute.threads import wait_passively
from ..compute.version import __version__
from . import audit as cli_audit
from . import evaluate as cli_evaluate
from . import generate, labelmap, synthesize
from . import models as cli_models
from . import study as cli_study
from . import train as cli_train
from . import utility as cli_utility
from .interrupts import CANCELLED, undo_first
from .parsers import Parser
from .terminal import is_debugged, is_stdout_whole, say, say_error
from .wording import COMMAND


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 1 bad input, 2 bad usage, 130 cancelled, 143 a training stopped by SIGTERM. What could
    not be printed to stdout is 1 too: the results in files are made all the same.
    """
    wait_passively()
    options = _parser().parse_args(arguments)
    try:
        # Libraries do not take an interruption well while they are loaded: that comes first.
        importlib.import_module(options.engine, __package__)
        undo_first()
        code = int(options.run(options))
    except UserError as error:
        say_error(error, COMMAND)
        return 1
    except (KeyboardInterrupt, Cancelled):
        say(CANCELLED)
        return 130
    except Exception as error:
        if is_debugged():
            traceback.print_exc()
        say_error(unexpected(error), COMMAND)
        return 1
    if not is_stdout_whole():
        say("error: what is made is whole, but stdout could not be written.")
        return code or 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="meddiffusion", description="Turn label maps into synthetic volumes.")
    parser.add_argument("--version", action="version", version=f"meddiffusion {__version__}")
    parser.set_defaults(engine="..bundles.catalog")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    command = commands.add_parser("synthesize", help="make volumes from a label map or a folder")
    command.set_defaults(run=synthesize.run, engine="..synthesis.batch")
    synthesize.add_options(command)
    _add_seed(command)
    _add_model(command)
    _add_device(command)
    _add_overwrite(command)

    command = commands.add_parser("generate", help="make volumes without a label map")
    command.set_defaults(run=generate.run, engine="..synthesis.batch")
    generate.add_options(command)
    _add_seed(command)
    _add_model(command)
    _add_device(command)
    _add_overwrite(command)

    command = commands.add_parser("labelmap", help="draw new label maps, or vary one")
    command.set_defaults(run=labelmap.run, engine="..synthesis.variants")
    labelmap.add_options(command)
    _add_seed(command)
    _add_overwrite(command)

    cli_models.add_commands(commands)

    command = commands.add_parser("train", help="train a model on your own cases")
    command.set_defaults(run=cli_train.run, engine="..training.request")
    cli_train.add_options(command)
    _add_seed(command)
    _add_device(command)

    command = commands.add_parser("evaluate", help="judge a model by volumes it has not seen")
    command.set_defaults(run=cli_evaluate.run, engine="..evaluation")
    cli_evaluate.add_options(command)
    _add_model(command)
    _add_device(command)

    command = commands.add_parser("utility", help="see whether synthetic volumes help a segmenter")
    command.set_defaults(run=cli_utility.run, engine="..evaluation")
    cli_utility.add_options(command)
    _add_device(command)

    command = commands.add_parser("audit", help="see whether a model copies what it learned from")
    command.set_defaults(run=cli_audit.run, engine="..evaluation")
    cli_audit.add_options(command)
    _add_seed(command)
    _add_model(command)
    _add_device(command)
    _add_overwrite(command)

    cli_study.add_commands(commands)
    return parser


def _add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|PATH",
                         help=f"default: {DEFAULT_MODEL}")  # fmt: skip


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=DEVICES, default="auto")


def _add_overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace existing files")
