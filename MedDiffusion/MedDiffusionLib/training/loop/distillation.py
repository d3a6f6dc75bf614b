"""The last stage, where a plan asks for it: guidance is learned, and costs nothing from then on.

Its folder is ``distillation`` in the run's output. The file with the weights of the finished
denoiser, which teaches, is what begins it: from then on that denoiser stays as it is, whatever end
the run is given later.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

from ...bundles.manifest import Manifest, Sampling
from ...bundles.model import Model
from ...bundles.names import WEIGHTS_NAME
from ...compute.distributed import Ranks
from ...diffusion.denoiser import Denoiser
from ..data.samples import Samples
from ..objectives.denoising import Denoising
from ..objectives.guided import Guided
from .checkpoint import Identity, load_checkpoint, save_checkpoint
from .effort import Effort, read_weights, write_weights
from .job import TrainingJob
from .names import CHECKPOINT_NAME, DISTILLATION_NAME
from .run import OnReport, Outcome, Run
from .stage import Stage, next_stage
from .state import initial_state
from .stopping import StopWatch
from .validation import Validation

PART = "guidance"
"""What the stage trains."""


def has_teacher(job: TrainingJob) -> bool:
    """Whether the denoiser is finished, and guidance is learned from it."""
    return (job.output / DISTILLATION_NAME / WEIGHTS_NAME).exists()


def keep_teacher(job: TrainingJob, teacher: Denoiser, effort: Effort) -> None:
    """Keep the finished denoiser, and what it took; raises OSError."""
    write_weights(job.output / DISTILLATION_NAME / WEIGHTS_NAME, teacher, effort)


def distil(
    job: TrainingJob,
    model: Model,
    samples: Samples,
    identity: Identity,
    ranks: Ranks,
    stop: StopWatch,
    report: OnReport,
    validation: Validation | None,
) -> tuple[Outcome, Denoiser, Run, Effort]:
    """Train a denoiser to predict what the teacher predicts with guidance.

    Returns how it ended, the denoiser, its run, and what the whole training took.
    """
    folder, own = job.output / DISTILLATION_NAME, job.settings.distillation
    teacher, student = (copy.deepcopy(model.denoiser) for _ in range(2))
    effort = read_weights(folder / WEIGHTS_NAME, teacher)
    teacher.requires_grad_(False).eval()
    student.load_state_dict(teacher.state_dict())
    settings = job.settings.of_distillation()
    whole = Stage(folder, settings, job.limits, job.limits)
    stage = next_stage(whole, effort.iterations, effort.seconds, PART)
    objective = Denoising(
        Model(job.manifest, student, model.representation),
        encoded=job.settings.representation is not None,
        teacher=Guided(teacher, own.guidance),
    )
    state = initial_state(objective.players, settings)
    # All must have seen whether there is one, before the first writes it.
    begun = ranks.broadcast((folder / CHECKPOINT_NAME).exists())
    if begun:
        load_checkpoint(folder, state)
    elif ranks.is_main:
        save_checkpoint(folder, state, identity)
    run = Run(stage, job.execution, objective, state, identity, ranks, stop, report, validation)
    outcome = run.to_the_end(objective.samples(samples, settings.batch))
    took = Effort(effort.iterations + state.iteration, effort.seconds + state.seconds)
    return outcome, cast(Denoiser, state.average), run, took


def without_guidance(manifest: Manifest) -> Manifest:
    """The manifest of a model that has learned its guidance: it recommends none."""
    sampling = replace(manifest.sampling, guidance=1.0, guidance_range=Sampling.guidance_range)
    return replace(manifest, sampling=sampling)
