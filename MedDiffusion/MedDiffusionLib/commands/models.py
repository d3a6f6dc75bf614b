"""``meddiffusion models``, ``info``, ``export`` and ``import``: the models of this computer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from .terminal import tell, tell_text


def add_commands(commands: Any) -> None:
    """Add the four commands to those of argparse's ``add_subparsers``."""
    command = commands.add_parser("models", help="list the models")
    command.set_defaults(run=models)

    command = commands.add_parser("info", help="print a model's card")
    command.set_defaults(run=info)
    command.add_argument("model", metavar="MODEL")

    command = commands.add_parser("export", help="write a model to a file that may be shared")
    command.set_defaults(run=export)
    command.add_argument("model", metavar="MODEL", help="a model's name or folder")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="ZIP")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")

    command = commands.add_parser("import", help="add a model to your own")
    command.set_defaults(run=import_)
    command.add_argument("source", type=Path, metavar="ZIP|FOLDER|CHECKPOINT")
    command.add_argument("--as", dest="name", metavar="NAME", help="of a checkpoint's model")
    command.add_argument("--license", metavar="TEXT", help="of a checkpoint's weights")
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what a checkpoint does not tell (several times; the README lists them)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a model of its name")


def models(options: argparse.Namespace) -> int:
    """``meddiffusion models``: a line per bundled and user model."""
    from ..bundles.catalog import audit_words, load_manifests

    for folder, manifest in load_manifests():
        if isinstance(manifest, UserError):
            tell(f"{folder.name:<20} unusable: {manifest}")
        else:
            tell(f"{folder.name:<20} {manifest.title} ({audit_words(manifest)})")
    return 0


def info(options: argparse.Namespace) -> int:
    """``meddiffusion info``: a model's card."""
    from ..bundles.catalog import describe, find_model
    from ..bundles.manifest import read_manifest

    folder = find_model(options.model)
    tell_text(describe(folder, read_manifest(folder)))
    return 0


def export(options: argparse.Namespace) -> int:
    """``meddiffusion export``: a model's files, and only these, as one zip file."""
    from ..bundles.catalog import find_model
    from ..bundles.sharing import export_bundle

    export_bundle(find_model(options.model), options.output, overwrite=options.overwrite)
    tell(options.output)
    return 0


def import_(options: argparse.Namespace) -> int:
    """``meddiffusion import``: make a checkpoint a model of the user's own, or copy a model there
    once it was read as a whole."""
    from ..bundles.installing import import_bundle, is_checkpoint

    if is_checkpoint(options.source):
        from ..bundles.importers import import_checkpoint, parse_options

        given = parse_options(options.option)
        name = import_checkpoint(
            options.source,
            options.name,
            given,
            license=options.license,
            overwrite=options.overwrite,
        )
        tell(name)
        return 0
    if options.name or options.license or options.option:
        raise UserError(
            "is a model already, which keeps its name and license",
            "leave --as, --license and --option out",
            path=options.source,
        )
    from ..bundles.bundle import read_bundle

    tell(import_bundle(options.source, options.overwrite, check=read_bundle))
    return 0
