#!/usr/bin/env python-real
"""Slicer's command-line module for synthesis, from one label map or a folder of them.

    PythonSlicer MedDiffusionSynthesize.py --label_map FILE --output_volume FILE
    PythonSlicer MedDiffusionSynthesize.py --input_folder FOLDER --output_folder FOLDER

It needs no window, and computes what ``meddiffusion synthesize`` does. The parameters are those of
the .xml beside. By the first line Slicer tells it from a scripted module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedDiffusionLib.commands.slicer_progress import ModuleParser, SlicerProgress
    from MedDiffusionLib.synthesis.outputs import Plan
    from MedDiffusionLib.synthesis.settings import Settings
    from MedDiffusionLib.synthesis.synthesis import OnStep, Step
    from MedDiffusionLib.synthesis.synthesizer import Synthesizer

MODELS_OWN = "default"
"""The sampler's name that stands for the model's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module; returns the exit code."""
    find_library()
    from MedDiffusionLib.commands.slicer_progress import run_module

    return run_module(make_parser(), synthesize, arguments)


def find_library() -> None:
    """Let Python find the library that belongs to this file, in a source or an installed tree."""
    above = Path(__file__).resolve().parents[1]
    for folder in (above, above / "qt-scripted-modules"):
        if (folder / "MedDiffusionLib").is_dir():
            sys.path.insert(0, str(folder))
            return


def make_parser() -> ModuleParser:
    """The parameters; an empty one or a number that means the model's own is not passed on."""
    from MedDiffusionLib.bundles.catalog import DEFAULT_MODEL
    from MedDiffusionLib.commands.slicer_progress import ModuleParser
    from MedDiffusionLib.compute.devices import DEVICES
    from MedDiffusionLib.diffusion.samplers import SAMPLERS

    parser = ModuleParser("Turn label maps into synthetic volumes.")
    add = parser.add
    add("label_map", type=Path, help="Label map or segmentation to synthesize from.")
    add("output_volume", type=Path, help="The synthetic volume, in the label map's geometry.")
    add("channel", default="", help="Which of the model's contrasts to take; empty: the first.")
    add("input_folder", type=Path, help="Folder of label maps, instead of a single one.")
    add("output_folder", type=Path, help="Folder for their volumes, one per label map, sample and "
        "contrast; what is there already is not made again.")  # fmt: skip
    add("samples", type=int, default=1, help="Volumes to make from each label map of a folder.")
    add("overwrite", action="store_true", help="Replace files of the output folder.")
    add("model", default=DEFAULT_MODEL, help="Name of an installed model, or a model's folder.")
    add("table", default="", help="Which label value is which label of the model, as in "
        "3=anterior,7=posterior,9=background.")  # fmt: skip
    add("seed", type=int, default=0, help="The same seed gives the same volume.")
    add("steps", type=int, default=0, help="Sampling steps; 0: as the model recommends.")
    add("sampler", default=MODELS_OWN, choices=(MODELS_OWN, *SAMPLERS),
        help="How the steps are taken; default: as the model recommends.")  # fmt: skip
    add("guidance", type=float, default=-1.0, help="How strongly to follow the label map, 1 is "
        "neutral; -1: as the model recommends.")  # fmt: skip
    add("accept_costs", action="store_true", help="Synthesize even if it takes more memory than "
        "there is, or more than an hour.")  # fmt: skip
    add("device", default="auto", choices=DEVICES,
        help="What computes; auto: a GPU where there is one.")  # fmt: skip
    return parser


def synthesize(options: argparse.Namespace) -> dict[str, object]:
    """Do what the parameters ask for; returns the values that Slicer gets back."""
    from MedDiffusionLib import load
    from MedDiffusionLib.bundles.catalog import find_model
    from MedDiffusionLib.bundles.manifest import read_manifest
    from MedDiffusionLib.commands.slicer_progress import SlicerProgress
    from MedDiffusionLib.compute.errors import UserError
    from MedDiffusionLib.synthesis.outputs import plan_requests
    from MedDiffusionLib.synthesis.settings import Settings

    single = is_single(options)
    if single and options.samples != 1:
        raise UserError("From a single label map comes one volume", "give folders for more samples")
    settings = Settings(
        options.samples, options.seed, options.steps or None,
        None if options.sampler == MODELS_OWN else options.sampler,
        None if options.guidance == -1 else options.guidance,
        accept_costs=options.accept_costs,
    )  # fmt: skip
    overrides = read_table(options.table)
    source, output = (
        (options.label_map, options.output_volume)
        if single
        else (options.input_folder, options.output_folder)
    )
    bundle = find_model(options.model)
    manifest = read_manifest(bundle)
    # Slicer deletes the volume from its temporary folder; a file beside it would stay.
    file = options.returnparameterfile
    alone = single and file is not None and file.parent == options.output_volume.parent
    plan = plan_requests(
        source, output, None, bundle, manifest, settings,
        channel=(options.channel or manifest.channels[0].name) if single else None,
        with_records=not alone,
    )  # fmt: skip
    with SlicerProgress("MedDiffusion Synthesize") as progress:
        progress.show(0, 0, "loading the model")
        synthesizer = load(bundle, options.device)
        with plan.folders_held():
            count = make(plan, synthesizer, settings, overrides, options.overwrite, progress)
    return {"volumes": count, "usedModel": manifest.name, "usedSeed": settings.seed}


def is_single(options: argparse.Namespace) -> bool:
    """Whether one label map is asked for and not a folder of them; UserError if neither is."""
    from MedDiffusionLib.compute.errors import UserError

    names = ("label_map", "output_volume", "input_folder", "output_folder")
    given = [name for name in names if getattr(options, name)]
    if given not in (["label_map", "output_volume"], ["input_folder", "output_folder"]):
        raise UserError(
            "Give a label map and an output volume, or an input folder and an output folder"
        )
    if options.label_map and options.label_map.is_dir():
        raise UserError("is a folder", "give it as the input folder", path=options.label_map)
    if options.input_folder and options.input_folder.is_file():
        raise UserError("is no folder", "give it as the label map", path=options.input_folder)
    return bool(options.label_map)


def read_table(text: str) -> dict[int, str]:
    """Label value -> label name out of ``3=anterior,7=posterior``; raises UserError."""
    from MedDiffusionLib.commands.parsers import label
    from MedDiffusionLib.compute.errors import UserError
    from MedDiffusionLib.synthesis.labels import overrides_from

    try:
        return overrides_from(label(part) for part in text.split(",") if part.strip())
    except argparse.ArgumentTypeError as error:
        raise UserError(f"In the table, {error}", "write 3=anterior,7=posterior") from error


def make(
    plan: Plan,
    synthesizer: Synthesizer,
    settings: Settings,
    overrides: dict[int, str],
    overwrite: bool,
    progress: SlicerProgress,
) -> int:
    """Make the volumes that are lacking, a single label map's anew; returns how many.

    UserError lists the failures of a folder.
    """
    from MedDiffusionLib.commands.wording import MODULE
    from MedDiffusionLib.compute.errors import UserError, unexpected
    from MedDiffusionLib.synthesis.batch import run_request

    made, failed, count = 0, list(plan.refused), len(plan.requests)
    for number, request in enumerate(plan.requests):
        name = f"{request.name}, " if plan.is_folder else ""
        try:
            samples = run_request(
                request, synthesizer, settings, overrides,
                overwrite=overwrite or not plan.is_folder,
                on_step=steps_of(progress, number, count, settings, name),
            )  # fmt: skip
            made += samples * len(request.channels)
        except Exception as error:
            if not plan.is_folder:
                raise
            failed.append(unexpected(error))
    if failed:
        raise UserError(
            f"{len(failed)} of {count + len(plan.refused)} label maps failed, the others are done",
            " ".join(error.sentence(MODULE) for error in failed).removesuffix("."),
        )
    return made


def steps_of(
    progress: SlicerProgress, number: int, count: int, settings: Settings, name: str = ""
) -> OnStep:
    """Shows the steps for one of ``count`` label maps."""

    def show(step: Step) -> None:
        share = step.step / step.steps
        done = (number + (step.sample + share) / settings.samples) / count
        sample = f"sample {step.sample + 1}, " if settings.samples > 1 else ""
        progress.show(done, share, f"{name}{sample}sampling", f"step {step.step} of {step.steps}")

    return show


if __name__ == "__main__":
    sys.exit(main())
