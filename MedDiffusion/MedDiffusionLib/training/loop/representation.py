"""The first of two stages: a representation is trained or taken over, and all cases are encoded.

Its folder is ``representation`` in the run's output, with a checkpoint and a log of its own. The
file with its weights is what ends the stage: from then on the representation stays as it is,
whatever end the run is given later.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch

from ...bundles.model import Model
from ...bundles.names import WEIGHTS_NAME
from ...compute.distributed import Ranks
from ...compute.errors import Cancelled, UserError
from ...diffusion.representations import Autoencoder, Representation
from ..data.latents import (
    EncodedCase,
    LatentSamples,
    ViewSettings,
    all_latents,
    encode_cases,
    encoded_cases,
    unscaled,
)
from ..data.loaded_cases import StoredCase
from ..data.patches import PatchSamples
from ..data.store import CaseStore
from ..objectives.predictability import predictability
from ..objectives.reconstruction import Reconstruction
from ..plan.reuse import read_representation
from ..plan.settings import RepresentationSettings
from .checkpoint import Identity, load_checkpoint, save_checkpoint
from .effort import Effort, read_weights, write_weights
from .job import TrainingJob
from .log import TrainingLog, TrainingReport
from .names import CHECKPOINT_NAME, REPRESENTATION_NAME
from .run import ENDLESS, OnReport, Outcome, Run
from .stage import Stage, split_limits
from .state import initial_state
from .stopping import StopWatch
from .validation import ReconstructionValidation

PART, DENOISER = "the representation", "the denoiser"
"""What the two stages train."""
_JUDGED = 64
"""Cases whose latents are judged."""


class RepresentationStage:
    """Brings a model's representation to where the denoiser can be trained on its latents."""

    def __init__(
        self,
        job: TrainingJob,
        model: Model,
        store: CaseStore,
        cases: Sequence[StoredCase],
        identity: Identity,
        ranks: Ranks,
        stop: StopWatch,
        report: OnReport,
    ) -> None:
        own = job.settings.representation
        assert own is not None
        self.own: RepresentationSettings = own
        self.job = job
        self.model = model
        self.store = store
        self.cases = cases
        self.identity = identity
        self.ranks = ranks
        self.stop = stop
        self.report = report
        self.folder = job.output / REPRESENTATION_NAME
        self.views = ViewSettings(own.views, job.settings.augmentation, job.seed)
        self.encoded: list[EncodedCase] = []

    @property
    def representation(self) -> Representation:
        return self.model.representation

    def run(self) -> Outcome | Effort:
        """Train the representation unless that is done, and encode the cases that are not.

        Returns the outcome where the run is stopped meanwhile.
        """
        done = self.ranks.broadcast((self.folder / WEIGHTS_NAME).exists())
        effort = Effort(0, 0.0)
        if not done and self.own.source is None:
            outcome, seconds = self._train()
            if outcome.reason:
                return outcome
            effort = Effort(outcome.iteration, seconds)
        reason = None
        if self.ranks.is_main:
            try:
                effort = self._finish(effort, done)
            except Cancelled:
                reason = self.stop.reason
        # The others wait here until all cases are encoded.
        if reason := self.ranks.broadcast(reason):
            return Outcome(effort.iterations, reason, PART, makes_model=False)
        effort = read_weights(self.folder / WEIGHTS_NAME, self.representation)
        self.encoded = encoded_cases(self.cases, self.views, self.representation)
        return effort

    def samples(self) -> LatentSamples:
        """What the denoiser is trained on."""
        return LatentSamples(
            self.encoded,
            self.representation,
            self.job.manifest.label_dropout,
            ENDLESS,
            self.job.seed,
            self.job.settings.outside_weight,
        )

    def _train(self) -> tuple[Outcome, float]:
        job, manifest = self.job, self.job.manifest
        self.folder.mkdir(exist_ok=True)
        settings = job.settings.of_representation()
        stage = Stage(
            self.folder, settings, split_limits(job.limits, self.own.share), job.limits, PART,
            makes_model=False,
        )  # fmt: skip
        objective = Reconstruction(self.model, self.own.losses)
        for player in objective.players:
            job.execution.prepare(player.module)
        state = initial_state(objective.players, settings)
        # All must have seen whether there is one, before the first writes it.
        begun = self.ranks.broadcast((self.folder / CHECKPOINT_NAME).exists())
        if begun:
            load_checkpoint(self.folder, state)
        elif self.ranks.is_main:
            save_checkpoint(self.folder, state, self.identity)
        validation = None
        if job.validation and self.ranks.is_main:
            validation = ReconstructionValidation(job, self.store, objective)
        run = Run(
            stage, job.execution, objective, state, self.identity, self.ranks, self.stop,
            self.report, validation,
        )  # fmt: skip
        patches = PatchSamples(
            self.cases, manifest.grid, self.own.patch, [label.value for label in manifest.labels],
            settings.augmentation, manifest.label_dropout, ENDLESS, job.seed,
            settings.outside_weight,
        )  # fmt: skip
        self.representation.train()
        outcome = run.to_the_end(objective.samples(patches, settings.batch))
        self.representation.load_state_dict(state.average.state_dict())
        return outcome, state.seconds

    def _finish(self, effort: Effort, done: bool) -> Effort:
        """Encode what is not encoded; then, where it is new, find the scale and keep it."""
        start = time.monotonic()
        representation = self.representation.eval().requires_grad_(False)
        path = self.folder / WEIGHTS_NAME
        if done:
            read_weights(path, representation)
        elif self.own.source is not None:
            given = read_representation(self.own.source, self.job.manifest)
            representation.load_state_dict(given.state_dict())
        progress = self.job.limits.progress(effort.iterations, effort.seconds)

        def on_case(number: int, total: int) -> None:
            self.report(TrainingReport("encoding", progress, part=f"case {number} of {total}"))

        with unscaled(representation):
            encoded = encode_cases(
                self.cases, self.views, representation, self.job.execution,
                lambda: self.stop.reason is not None, on_case,
            )  # fmt: skip
        if done:
            return effort
        if representation.scaled:
            fit_scale(representation, encoded)
        self._judge(encoded, effort.iterations)
        effort = Effort(effort.iterations, effort.seconds + time.monotonic() - start)
        write_weights(path, representation, effort)
        return effort

    def _judge(self, encoded: Sequence[EncodedCase], iteration: int) -> None:
        """Measure how well the latents can be predicted, and say so."""
        if not isinstance(self.representation, Autoencoder):
            return
        chosen = [
            encoded[number * len(encoded) // min(len(encoded), _JUDGED)]
            for number in range(min(len(encoded), _JUDGED))
        ]
        latents = torch.from_numpy(np.stack([case.latent(0) for case in chosen])).float()
        found = predictability(latents, copy.deepcopy(self.representation.quantizer).cpu())
        self.folder.mkdir(exist_ok=True)
        log = TrainingLog(self.folder, 0.0)
        log.note(iteration, found.sentence)
        # What is as it should be is for the log alone.
        if found.alarm:
            log.note(iteration, found.alarm)
            self.report(TrainingReport("encoding", 1.0, note=found.alarm, part=PART))


def fit_scale(representation: Representation, encoded: Sequence[EncodedCase]) -> None:
    """Give a representation the scale of its latents; raises UserError where they have none."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for latents in all_latents(encoded):
        channels = latents.double().transpose(0, 1).flatten(1)
        count += channels.shape[1]
        total, squares = total + channels.sum(1), squares + channels.square().sum(1)
    mean = total / count
    try:
        representation.set_scale(mean, squares / count - mean.square())
    except ValueError as error:
        raise UserError(
            f"The representation cannot be used ({error})", "train it longer, or another one"
        ) from error
