"""``meddiffusion synthesize``: its options, and one label map or a folder of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..compute.errors import unexpected
from ..diffusion.samplers import SAMPLERS
from ..synthesis.labels import overrides_from
from ..synthesis.settings import Settings
from .parsers import label
from .terminal import ProgressLine, say, say_error, tell
from .wording import COMMAND

if TYPE_CHECKING:
    from ..synthesis.costs import Costs

_SAID = 60.0
"""Seconds from which on it is said beforehand how long a synthesis takes."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what only synthesis has; model, seed, device and overwrite are added by the caller."""
    command.add_argument("label_map", type=Path, metavar="LABELMAP|FOLDER")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE|FOLDER")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="volumes to make")
    command.add_argument("--steps", type=int, metavar="K", help="default: the model's")
    command.add_argument(
        "--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)}; default: the model's"
    )
    command.add_argument(
        "--guidance", type=float, metavar="W", help="1 is none; default: the model's"
    )
    command.add_argument(
        "--guidance-range", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="noise levels, from 0 to 1, between which there is guidance; default: the model's",
    )  # fmt: skip
    command.add_argument("--label", type=label, action="append", default=[], metavar="V=NAME",
                         help="label value V is the model's label NAME, or background")  # fmt: skip
    command.add_argument("--native", action="store_true", help="stay on the model's own grid")
    command.add_argument("--preview", type=Path, metavar="PNG", help="also draw the three planes")
    command.add_argument("--yes", action="store_true",
                         help="even if it takes too much memory, or over an hour")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """``meddiffusion synthesize``; returns 0, or 1 where a label map of a folder failed."""
    from ..bundles.catalog import find_model
    from ..bundles.manifest import read_manifest
    from ..compute.distributed import choose_local_device, ranks_here
    from ..synthesis.batch import run_request
    from ..synthesis.outputs import plan_requests
    from ..synthesis.synthesizer import load

    settings = Settings(
        options.samples, options.seed, options.steps, options.sampler, options.guidance,
        options.native, options.yes, options.guidance_range,
    )  # fmt: skip
    overrides = overrides_from(options.label)
    bundle = find_model(options.model)
    plan = plan_requests(
        options.label_map, options.output, options.preview, bundle, read_manifest(bundle), settings
    )
    # Under torchrun each process takes its share of a folder; none needs to know of the others.
    ranks = ranks_here()
    choose_local_device()
    requests = plan.requests[ranks.rank :: ranks.world]
    failed = list(plan.refused) if ranks.is_main else []
    total = len(requests) + len(failed)
    synthesizer = load(bundle, options.device)
    with plan.folders_held(shared=ranks.world > 1):
        for number, request in enumerate(requests, start=1):
            prefix = f"{request.name} ({number}/{len(requests)})" if plan.is_folder else ""
            progress = ProgressLine(prefix)
            try:
                made = run_request(
                    request, synthesizer, settings, overrides, overwrite=options.overwrite,
                    on_step=progress.step, on_costs=say_costs,
                )  # fmt: skip
            except Exception as error:
                if not plan.is_folder:
                    raise
                failed.append(unexpected(error))
            else:
                tell(f"{request.output}{'' if made else ' (was there already)'}")
            finally:
                progress.close()
    for failure in failed:
        say_error(failure, COMMAND)
    if failed:
        done = "none is done" if len(failed) == total else "the others are done"
        say(f"{len(failed)} of {total} label maps failed; {done}.")
    return 1 if failed else 0


def say_costs(costs: Costs) -> None:
    """Say beforehand what is to be computed, where it takes long."""
    from ..synthesis.costs import duration

    if costs.seconds is not None and costs.seconds > _SAID:
        say(f"this takes about {duration(costs.seconds)}: {costs.describe()}.")
