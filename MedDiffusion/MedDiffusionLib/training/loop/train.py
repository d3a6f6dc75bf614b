"""Training: cases and a plan in, a model bundle out; interrupted and resumed, the same bundle.

What a run computes is a function of plan, cases, seed and end alone: how a global batch is split
over micro-batches and processes, and where the run was interrupted, does not change it (beyond the
order of float sums). :class:`.run.Run` has the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from ...bundles.manifest import TrainingFacts
from ...bundles.model import Model, build_model
from ...bundles.names import MANIFEST_NAME
from ...compute.distributed import Ranks
from ...compute.errors import Cancelled, UserError
from ...compute.files import write_json
from ...compute.locks import remove_temporaries
from ...diffusion.denoiser import Denoiser
from ..data.samples import Samples, TrainingSamples
from ..data.store import CaseStore
from ..objectives.denoising import Denoising
from ..output import check_output, make_output
from ..plan.reuse import check_representation, check_start, read_denoiser, training_images
from ..plan.settings import check_distillation
from .checkpoint import (
    Identity,
    check_same_run,
    identify,
    load_checkpoint,
    no_checkpoint,
    save_checkpoint,
)
from .distillation import distil, has_teacher, keep_teacher, without_guidance
from .effort import Effort
from .finishing import write_notice, write_trained
from .job import TrainingJob
from .log import TrainingReport
from .names import CHECKPOINT_NAME, DISTILLATION_NAME, PLAN_NAME, REPRESENTATION_NAME
from .representation import DENOISER, RepresentationStage
from .run import ENDLESS, OnReport, Outcome, Run
from .stage import Stage, next_stage, split_limits
from .state import initial_state
from .stopping import StopWatch
from .validation import SynthesisValidation


def train(
    job: TrainingJob,
    *,
    ranks: Ranks | None = None,
    stop: StopWatch | None = None,
    on_report: OnReport = lambda report: None,
) -> Outcome:
    """Train as a job says and write a bundle to its output.

    Checkpoints, ``log.jsonl``, ``loss.png``, ``montage.png``, ``plan.json`` and, while it runs, the
    cases (:mod:`..data.store`) lie in the output too; a job that resumes goes on from its
    checkpoint. Only the main one of ``ranks`` writes and reports. Raises UserError for input that
    cannot be used, and for a run that cannot go on; its checkpoint then says where it was;
    Cancelled where it is stopped before it began. ``stop``: the watch that is already kept.
    """
    ranks = ranks or Ranks()
    report = on_report if ranks.is_main else lambda report: None
    own = job.settings.representation
    batch = min(job.settings.batch, own.batch if own and not own.source else job.settings.batch)
    if batch < ranks.world:
        raise UserError(
            f"The batch is {batch} and there are {ranks.world} processes",
            "start fewer, or give the plan a larger batch",
        )
    # Whether the plan can be used is seen here, before anything is written.
    if not job.resume:
        check_representation(job.manifest, job.settings.representation)
        check_start(job.manifest, job.settings.start_from)
        check_distillation(job.manifest, job.settings)
    try:
        with nullcontext(stop) if stop else _watched(job.output, ranks) as watch:
            identity = _prepare(job, watch, report) if ranks.is_main else {}
            # The others wait here until all cases are prepared.
            ranks.broadcast(None)
            return _run(job, identity, ranks, watch, report)
    except OSError as error:
        raise UserError(
            f"{error.filename or job.output} cannot be read or written ({error.strerror})",
            "see to it, then resume the run where a checkpoint was written",
            code="resume",
        ) from error


@contextmanager
def _watched(output: Path, ranks: Ranks) -> Iterator[StopWatch]:
    """A watch for a run that nobody watches yet."""
    with StopWatch() as watch, watch.file_in(output) if ranks.is_main else nullcontext():
        yield watch


def _prepare(job: TrainingJob, stop: StopWatch, report: OnReport) -> Identity:
    """Make sure that the folder can hold this run, and prepare its cases; returns its identity."""
    check_folder(job.output, job.resume)
    make_output(job.output)
    store = CaseStore(job.output)
    store.clear_half_written()
    stages = job.output / REPRESENTATION_NAME, job.output / DISTILLATION_NAME
    for folder in (job.output, *stages):
        if folder.is_dir():
            remove_temporaries(folder)
    cases, validation = (
        [store.record(case) for case in part] for part in (job.cases, job.validation)
    )
    identity = identify(job.plan, job.seed, cases, validation)
    if job.resume:
        check_same_run(job.output, identity)
    files = [*job.cases, *job.validation]
    for number, case in enumerate(files, start=1):
        if stop.reason:
            raise Cancelled
        store.prepare(case, job.manifest)
        report(TrainingReport("reading", number / len(files)))
    store.save()
    return identity


def _run(
    job: TrainingJob, identity: Identity, ranks: Ranks, stop: StopWatch, report: OnReport
) -> Outcome:
    """Train on the cases that were prepared, and write the bundle where the run's end says so."""
    store = CaseStore(job.output)
    cases = [store.prepared(case, job.manifest) for case in job.cases]
    torch.manual_seed(job.seed)
    model = build_model(job.manifest)
    if job.settings.start_from and not job.resume:
        model.denoiser.load_state_dict(read_denoiser(job.settings.start_from).state_dict())
    model = job.execution.prepare(model)
    state = initial_state(Denoising(model).players, job.settings)
    if ranks.is_main:
        write_notice(job.output)
    if job.resume:
        load_checkpoint(job.output, state)
    elif ranks.is_main:
        save_checkpoint(job.output, state, identity)
    # A run that was killed just after its first checkpoint has none yet.
    if ranks.is_main and not (job.resume and (job.output / PLAN_NAME).exists()):
        write_json(job.output / PLAN_NAME, job.plan)
    samples: Samples
    effort = Effort(0, 0.0)
    share = job.settings.distillation.share
    limits = split_limits(job.limits, 1 - share) if share else job.limits
    stage = Stage(job.output, job.settings, limits, job.limits)
    if job.settings.representation is not None:
        first = RepresentationStage(job, model, store, cases, identity, ranks, stop, report)
        ended = first.run()
        if isinstance(ended, Outcome):
            return ended
        effort, samples = ended, first.samples()
    else:
        samples = TrainingSamples(
            cases, job.manifest.grid, [label.value for label in job.manifest.labels],
            job.settings.augmentation, job.manifest.label_dropout, ENDLESS, job.seed,
            job.settings.outside_weight,
        )  # fmt: skip
    objective = Denoising(model, encoded=job.settings.representation is not None)
    validation = None
    if job.validation and ranks.is_main:
        validation = SynthesisValidation(job, store, model)
    if job.settings.representation is not None or share:
        stage = next_stage(stage, effort.iterations, effort.seconds, DENOISER)
    denoiser, manifest = cast(Denoiser, state.average), job.manifest
    is_taught = ranks.broadcast(share > 0 and has_teacher(job))
    if not is_taught:
        run = Run(stage, job.execution, objective, state, identity, ranks, stop, report, validation)
        outcome = run.to_the_end(objective.samples(samples, job.settings.batch))
        if outcome.reason is None and state.iteration == 0:
            raise UserError("The time was over before the first iteration", "give it more minutes")
        effort = Effort(effort.iterations + state.iteration, effort.seconds + state.seconds)
        if share and outcome.reason is None:
            if ranks.is_main:
                keep_teacher(job, denoiser, effort)
            # The others wait here until it is there.
            is_taught = ranks.broadcast(True)
    if is_taught:
        outcome, denoiser, run, effort = distil(
            job, model, samples, identity, ranks, stop, report, validation
        )
        manifest = without_guidance(manifest)
    if ranks.is_main and outcome.is_written:
        report(replace(run.last, stage="writing"))
        _write(job, store, Model(manifest, denoiser, model.representation), effort)
    return outcome


def _write(job: TrainingJob, store: CaseStore, trained: Model, effort: Effort) -> None:
    """Write the bundle, and remove what is needed no more."""
    facts = TrainingFacts(
        job.settings.data, len(job.cases), effort.iterations, job.command,
        round(effort.seconds / 60, 1), training_images(store.images(job.cases), job.settings),
    )  # fmt: skip
    label_maps = [partial(store.label_map, case) for case in job.cases]
    write_trained(job.output, trained, label_maps, facts)
    store.remove_voxels()


def check_folder(output: Path, resume: bool) -> None:
    """Raise UserError where the output folder cannot hold this run; nothing is written."""
    check_output(output)
    if resume:
        if not (output / CHECKPOINT_NAME).exists():
            raise no_checkpoint(output)
    elif (output / CHECKPOINT_NAME).exists():
        raise UserError(
            "holds another run",
            "resume it, or choose another output",
            path=output,
            code="holds-run",
        )
    elif (output / MANIFEST_NAME).exists():
        raise UserError("holds a model", "choose another output", path=output)
