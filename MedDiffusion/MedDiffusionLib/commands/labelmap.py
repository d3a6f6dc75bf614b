"""``meddiffusion labelmap``: new label maps, drawn by chance or varied from a given one, and the
fit of what they are drawn from."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundles.catalog import DEFAULT_MODEL
from ..compute.errors import UserError
from ..compute.files import refuse_existing, refuse_overlap
from ..synthesis.settings import check_seed
from .terminal import ProgressLine, say, tell

if TYPE_CHECKING:
    from ..volumes.volume import Volume

MOST_SAMPLES = 100_000
"""As many files as a folder takes well."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only this has; seed and overwrite are added by the caller."""
    way = command.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--random", action="store_true", help="by chance, as the model's training maps"
    )
    way.add_argument(
        "--vary", type=Path, metavar="LABELMAP", help="the same anatomy in another shape"
    )
    way.add_argument("--fit", type=Path, metavar="FOLDER",
                     help="fit to label maps what --random draws from, into a model")  # fmt: skip
    command.add_argument("-o", "--output", type=Path, metavar="FILE")
    command.add_argument("--samples", type=int, metavar="N", help="label maps to make")
    command.add_argument("--strength", type=float, metavar="S",
                         help="of --vary: 0, the same map, to 1; default: 0.5")  # fmt: skip
    command.add_argument("--model", metavar="NAME|PATH",
                         help=f"default: {DEFAULT_MODEL}; of --vary: none")  # fmt: skip
    command.add_argument("--split", type=Path, metavar="JSON", help='of --fit: names under "train"')
    command.add_argument("--yes", action="store_true", help="even if it takes over an hour")


def run(options: argparse.Namespace) -> int:
    """``meddiffusion labelmap``; returns 0."""
    _refuse_misplaced(options)
    if options.fit is not None:
        return _fit(options)
    return _vary(options) if options.vary is not None else _random(options)


def _refuse_misplaced(options: argparse.Namespace) -> None:
    """Raise UserError for an option of another way than the chosen one, and where one lacks."""
    way = "--fit" if options.fit is not None else "--vary" if options.vary else "--random"
    for owner, name in (("--vary", "strength"), ("--fit", "split")):
        if owner != way and getattr(options, name) is not None:
            raise UserError(f"--{name} is for {owner}", "leave it out")
    if way == "--fit":
        if options.output is not None or options.samples is not None:
            raise UserError(
                "--fit writes into the model that --model names", "leave -o and --samples out"
            )
        if options.model is None:
            raise UserError("--fit needs a model of your own", "name it by --model")
    elif options.output is None:
        raise UserError("There is no name for the label map", "give one by -o")


def _random(options: argparse.Namespace) -> int:
    from ..bundles.catalog import find_model
    from ..bundles.generators import load_generator
    from ..bundles.manifest import read_manifest

    paths = _outputs(options)
    folder = find_model(options.model or DEFAULT_MODEL)
    refuse_overlap(paths, folder.iterdir())
    generator = load_generator(folder, read_manifest(folder))

    def draw(number: int) -> Volume:
        return generator.sample(options.seed + number)

    return _write(options, paths, draw)


def _vary(options: argparse.Namespace) -> int:
    from ..bundles.catalog import find_model
    from ..synthesis.variants import prepare_variation
    from ..volumes.reading import read_label_map
    from ..volumes.variation import check_strength

    strength = 0.5 if options.strength is None else options.strength
    check_strength(strength)
    paths = _outputs(options)
    bundle = None if options.model is None else find_model(options.model)
    refuse_overlap(paths, [options.vary, *([] if bundle is None else bundle.iterdir())])
    variation = prepare_variation(read_label_map(options.vary), bundle)
    weaker: list[str] = []
    broken: list[str] = []

    def draw(number: int) -> Volume:
        variant = variation.sample(strength, options.seed + number)
        if variant.broken:
            broken.append(paths[number].name)
        elif variant.strength < strength:
            weaker.append(paths[number].name)
        return variant.labels

    code = _write(options, paths, draw)
    if weaker:
        say(
            f"{len(weaker)} of {len(paths)} label maps are varied less than asked for, so that "
            "their labels keep their pieces and volumes."
        )
    for name in broken:
        say(f"{name}: not all labels kept their pieces and volumes.")
    return code


def _outputs(options: argparse.Namespace) -> list[Path]:
    """The files to be written, looked at before anything is made."""
    from ..synthesis.outputs import result_path
    from ..volumes.volume import Kind
    from ..volumes.writing import check_format, check_writable

    samples = 1 if options.samples is None else options.samples
    if not 1 <= samples <= MOST_SAMPLES:
        raise UserError(f"samples is {samples}", f"it must lie between 1 and {MOST_SAMPLES:,}")
    check_seed(options.seed)
    check_seed(options.seed + samples - 1)
    check_format(options.output, Kind.LABEL)
    paths = [result_path(options.output, n, samples, "", 1) for n in range(samples)]
    check_writable(paths[-1])
    if not options.overwrite:
        refuse_existing(paths)
    return paths


def _write(
    options: argparse.Namespace, paths: Sequence[Path], draw: Callable[[int], Volume]
) -> int:
    """Make the label maps one by one; how long all take is known from the first."""
    from ..synthesis.costs import LONGEST, duration
    from ..volumes.writing import write_volume

    progress = ProgressLine()
    start = time.perf_counter()
    try:
        for number, path in enumerate(paths):
            labels = draw(number)
            seconds = (time.perf_counter() - start) * len(paths)
            if number == 0 and seconds > LONGEST and not options.yes:
                raise UserError(
                    f"{len(paths):,} label maps take about {duration(seconds)}",
                    "make fewer, or say --yes to make them all the same",
                )
            write_volume(path, labels)
            progress.text(f"label map {number + 1}/{len(paths)}")
    finally:
        progress.close()
    for path in paths:
        tell(path)
    return 0


def _fit(options: argparse.Namespace) -> int:
    from ..bundles.catalog import find_model
    from ..bundles.fitting import refit_generator
    from ..bundles.manifest import read_manifest
    from ..bundles.names import SHAPE_MODEL_NAME
    from ..compute.memory import out_of_memory_as_user_error
    from ..synthesis.outputs import label_maps
    from ..training.plan.presets import read_split
    from ..volumes.reading import read_label_map, stem
    from ..volumes.writing import writing

    folder = find_model(options.model)
    manifest = read_manifest(folder)
    files = label_maps(options.fit)
    if options.split is not None:
        names = read_split(options.split).train
        known = {stem(path): path for path in files}
        if missing := sorted(set(names) - known.keys()):
            raise UserError(f"has no label map {missing[0]}", "see to --split", path=options.fit)
        files = [known[name] for name in names]
    if manifest.shape_model_sha256 is not None and not options.overwrite:
        refuse_existing([folder / SHAPE_MODEL_NAME])
    progress = ProgressLine()
    try:
        with writing(folder / SHAPE_MODEL_NAME), out_of_memory_as_user_error():
            fitted = refit_generator(
                [partial(read_label_map, path) for path in files],
                manifest,
                folder,
                lambda stage, done, total: progress.text(f"{stage}: {done + 1}/{total}"),
            )
    finally:
        progress.close()
    tell(f"{folder / SHAPE_MODEL_NAME} ({fitted.shape_model_kind}, {len(files)} label maps)")
    return 0
