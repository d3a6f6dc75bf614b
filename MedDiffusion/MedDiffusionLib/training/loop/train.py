"""Training: cases and a plan in, a model bundle out; interrupted and resumed, the same bundle.

What a run computes is a function of plan, cases, seed and end alone: how a global batch is split
over micro-batches and processes, and where the run was interrupted, does not change it (beyond the
order of float sums). :class:`.run.Run` has the loop.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...bundles.bundle import build_denoiser, build_representation
from ...bundles.manifest import MANIFEST_NAME, Manifest
from ...compute.distributed import Ranks
from ...compute.errors import Cancelled, UserError
from ...compute.execution import Execution
from ...compute.files import write_json
from ..data.cases import CaseFiles
from ..data.loaded_cases import Case, load_case
from ..plan.settings import Limits, TrainingSettings, check_manifest, read_settings
from .checkpoint import (
    CHECKPOINT_NAME,
    Identity,
    RunState,
    check_same_run,
    identify,
    load_checkpoint,
    save_checkpoint,
)
from .finishing import write_bundle
from .log import Report
from .run import OnReport, Outcome, Run
from .stopping import StopWatch
from .validation import Validation

PLAN_NAME = "plan.json"


def train(
    cases: Sequence[CaseFiles],
    output: Path,
    plan: dict[str, Any],
    limits: Limits,
    execution: Execution,
    *,
    validation: Sequence[CaseFiles] = (),
    seed: int = 0,
    command: str = "",
    resume: bool = False,
    ranks: Ranks | None = None,
    stop: StopWatch | None = None,
    on_report: OnReport = lambda report: None,
) -> Outcome:
    """Train on cases and write a bundle to ``output``.

    ``plan`` has a ``manifest`` (a model.json without weights and training facts) and ``training``
    settings (:class:`.settings.TrainingSettings`). Checkpoints, ``log.jsonl``, ``loss.png``,
    ``montage.png`` and ``plan.json`` lie in ``output`` too; with ``resume`` the run goes on from
    its checkpoint. Only the first of ``ranks`` writes and reports. Raises UserError for input
    that cannot be used, and for a run that cannot go on; its checkpoint then says where it was;
    Cancelled where it is stopped before it began. ``stop``: the watch that is already kept.
    """
    ranks = ranks or Ranks()
    report = on_report if ranks.first else lambda report: None
    settings, manifest = read_settings(plan["training"]), check_manifest(plan["manifest"])
    try:
        return _train(
            cases, validation, output, plan, settings, manifest, limits, execution,
            seed, command, resume, ranks, stop, report,
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f"{error.filename or output} cannot be read or written ({error.strerror})",
            "see to it, then go on with --resume where a checkpoint was written",
        ) from error


def _train(
    cases: Sequence[CaseFiles],
    validation: Sequence[CaseFiles],
    output: Path,
    plan: dict[str, Any],
    settings: TrainingSettings,
    manifest: Manifest,
    limits: Limits,
    execution: Execution,
    seed: int,
    command: str,
    resume: bool,
    ranks: Ranks,
    watch: StopWatch | None,
    report: OnReport,
) -> Outcome:
    identity: Identity = {}
    if ranks.first:
        if settings.batch < ranks.world:
            raise UserError(
                f"The batch is {settings.batch} and there are {ranks.world} processes",
                "start fewer, or give the plan a larger batch",
            )
        check_folder(output, resume)
        for rest in output.glob(".meddiffusion-*"):
            rest.unlink()
        identity = identify(plan, seed, cases, validation)
        if resume:
            check_same_run(output, identity)
    # The others wait here until the first has found no fault with the folder.
    ranks.of_first(None)
    with nullcontext(watch) if watch else StopWatch(output) as stop:
        judging = validation if ranks.first else ()
        loaded = _load_cases([*cases, *judging], manifest, stop, report)
        state = initial_state(plan, settings, execution, seed)
        run = Run(
            output, manifest, settings, limits, execution, ranks, identity, state, stop, report
        )
        if judging:
            run.validation = Validation(
                judging, loaded[len(cases) :], manifest, settings,
                build_representation(manifest.content), execution, seed,
            )  # fmt: skip
        if resume:
            load_checkpoint(output, state)
        elif ranks.first:
            save_checkpoint(output, state, identity)
            write_json(output / PLAN_NAME, plan)
        outcome = run.to_the_end(loaded[: len(cases)], seed)
        if ranks.first and outcome.reason in (None, "stop file"):
            report(replace(run.last, stage="writing"))
            facts = {
                "data": settings.data,
                "cases": len(cases),
                "iterations": state.iteration,
                "minutes": round(state.seconds / 60, 1),
                "command": command,
            }
            write_bundle(output, manifest, [c.labels for c in cases], facts, state.average)
    return outcome


def check_folder(output: Path, resume: bool) -> None:
    """Make the output folder; raises UserError where it cannot hold this run."""
    if resume:
        if not (output / CHECKPOINT_NAME).exists():
            raise UserError(
                f"has no {CHECKPOINT_NAME}", "start the run without --resume", path=output
            )
    elif (output / CHECKPOINT_NAME).exists():
        raise UserError(
            "holds another run", "use --resume to go on, or another output", path=output
        )
    elif (output / MANIFEST_NAME).exists():
        raise UserError("holds a model", "give another output", path=output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})",
            "choose a folder in which you may write",
            path=output,
        ) from error


def _load_cases(
    files: Sequence[CaseFiles], manifest: Manifest, stop: StopWatch, report: OnReport
) -> list[Case]:
    cases = []
    for number, case in enumerate(files, start=1):
        if stop.reason:
            raise Cancelled
        cases.append(load_case(case, manifest))
        report(Report("reading", number / len(files)))
    return cases


def initial_state(
    plan: dict[str, Any], settings: TrainingSettings, execution: Execution, seed: int
) -> RunState:
    """A run before its first iteration; its weights are those of the seed."""
    torch.manual_seed(seed)
    denoiser = execution.prepare(build_denoiser(plan["manifest"]))
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    return RunState(
        denoiser,
        copy.deepcopy(denoiser).requires_grad_(False),
        optimizer,
        settings.micro_batch or settings.batch,
        settings.recompute,
    )
