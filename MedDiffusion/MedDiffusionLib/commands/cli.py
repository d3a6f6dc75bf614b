"""The ``meddiffusion`` command: arguments in, sentences out; the engine does the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..bundles.catalog import DEFAULT_MODEL
from ..compute.devices import DEVICES
from ..compute.errors import Cancelled, UserError
from ..compute.threads import wait_passively
from ..compute.version import __version__
from ..diffusion.samplers import SAMPLERS
from ..synthesis.settings import Settings, check_seed
from . import models as cli_models
from . import train as cli_train
from .terminal import ProgressLine, say, say_error, tell
from .wording import COMMAND


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 1 bad input, 2 bad usage, 130 cancelled, 143 a training stopped by SIGTERM.
    """
    wait_passively()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UserError as error:
        say_error(error, COMMAND)
        return 1
    except (KeyboardInterrupt, Cancelled):
        say("cancelled; no file was left half-written.")
        return 130


def synthesize(options: argparse.Namespace) -> int:
    """``meddiffusion synthesize``."""
    from ..compute.distributed import choose_local_device, ranks_here
    from ..synthesis.batch import plan_requests, run_request
    from ..synthesis.synthesizer import load

    requests = plan_requests(options.label_map, options.output, options.preview)
    # Under torchrun each process takes its share of a folder; none needs to know of the others.
    choose_local_device()
    ranks = ranks_here()
    requests = requests[ranks.rank :: ranks.world]
    synthesizer = load(options.model, options.device)
    settings = Settings(
        options.samples, options.seed, options.steps, options.sampler, options.guidance,
        options.native,
    )  # fmt: skip
    settings.resolve(synthesizer.model.manifest)
    is_folder = options.label_map.is_dir()
    failed: list[UserError] = []
    for number, request in enumerate(requests, start=1):
        prefix = f"{request.source.name} ({number}/{len(requests)})" if is_folder else ""
        progress = ProgressLine(prefix)
        try:
            made = run_request(
                request, synthesizer, settings, dict(options.label), overwrite=options.overwrite,
                skip_finished=is_folder, on_step=progress.step,
            )  # fmt: skip
        except UserError as error:
            if not is_folder:
                raise
            failed.append(error)
        else:
            tell(f"{request.output}{'' if made else ' (was there already)'}")
        finally:
            progress.close()
    for failure in failed:
        say_error(failure, COMMAND)
    if failed:
        say(f"{len(failed)} of {len(requests)} label maps failed; the others are done.")
    return 1 if failed else 0


def label_map(options: argparse.Namespace) -> int:
    """``meddiffusion labelmap``: draw a random label map from the model's shape model."""
    from ..bundles.catalog import find_model
    from ..bundles.manifest import read_manifest
    from ..bundles.shape_model import load_shape_model
    from ..volumes.writing import check_writable, write_volume

    check_seed(options.seed)
    check_writable(options.output)
    if options.output.exists() and not options.overwrite:
        raise UserError("exists", "choose another name", path=options.output, code="output-exists")
    folder = find_model(options.model)
    shape_model = load_shape_model(folder, read_manifest(folder))
    write_volume(options.output, shape_model.sample(options.seed))
    tell(options.output)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(f"error: {message} (see {self.prog} --help)")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="meddiffusion", description="Turn label maps into synthetic volumes.")
    parser.add_argument("--version", action="version", version=f"meddiffusion {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    command = commands.add_parser("synthesize", help="make volumes from a label map or a folder")
    command.set_defaults(run=synthesize)
    command.add_argument("label_map", type=Path, metavar="LABELMAP|FOLDER")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE|FOLDER")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="volumes to make")
    _add_seed(command)
    command.add_argument("--steps", type=int, metavar="K", help="default: the model's")
    command.add_argument(
        "--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)}; default: the model's"
    )
    command.add_argument(
        "--guidance", type=float, metavar="W", help="1 is none; default: the model's"
    )
    command.add_argument("--label", type=_label, action="append", default=[], metavar="V=NAME",
                         help="label value V is the model's label NAME, or background")  # fmt: skip
    command.add_argument("--native", action="store_true", help="stay on the model's own grid")
    command.add_argument("--preview", type=Path, metavar="PNG", help="also draw the three planes")
    _add_model(command)
    _add_device(command)
    _add_overwrite(command)

    command = commands.add_parser("labelmap", help="draw a random label map")
    command.set_defaults(run=label_map)
    command.add_argument(
        "--random", action="store_true", required=True, help="from the shape model"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    _add_seed(command)
    _add_model(command)
    _add_overwrite(command)

    cli_models.add_commands(commands)

    command = commands.add_parser("train", help="train a model on your own cases")
    command.set_defaults(run=cli_train.run)
    cli_train.add_options(command)
    _add_seed(command)
    _add_device(command)
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


def _label(text: str) -> tuple[int, str]:
    value, separator, name = text.partition("=")
    if not separator or not value.isdigit() or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form VALUE=NAME")
    return int(value), name


if __name__ == "__main__":
    sys.exit(main())
