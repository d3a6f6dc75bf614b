"""``meddiffusion generate``: volumes without a label map."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..diffusion.samplers import SAMPLERS
from ..synthesis.settings import Settings
from .synthesize import say_costs
from .terminal import ProgressLine, tell


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only this has; model, seed, device and overwrite are added by the caller."""
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="volumes to make")
    command.add_argument("--steps", type=int, metavar="K", help="default: the model's")
    command.add_argument(
        "--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)}; default: the model's"
    )
    command.add_argument("--preview", type=Path, metavar="PNG", help="also draw the three planes")
    command.add_argument("--yes", action="store_true",
                         help="even if it takes too much memory, or over an hour")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """``meddiffusion generate``; returns 0."""
    from ..bundles.catalog import find_model
    from ..bundles.manifest import read_manifest
    from ..synthesis.batch import run_request
    from ..synthesis.outputs import plan_generation
    from ..synthesis.synthesizer import load

    settings = Settings(
        options.samples, options.seed, options.steps, options.sampler, accept_costs=options.yes
    )
    bundle = find_model(options.model)
    plan = plan_generation(options.output, options.preview, bundle, read_manifest(bundle), settings)
    synthesizer = load(bundle, options.device)
    progress = ProgressLine("")
    with plan.folders_held():
        try:
            made = run_request(
                plan.requests[0], synthesizer, settings, {}, overwrite=options.overwrite,
                on_step=progress.step, on_costs=say_costs,
            )  # fmt: skip
        finally:
            progress.close()
    tell(f"{options.output}{'' if made else ' (was there already)'}")
    return 0
