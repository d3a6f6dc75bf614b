"""A run's loop over iterations, and what comes around every few minutes."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...bundles.bundle import build_representation
from ...bundles.manifest import Manifest
from ...compute.distributed import LostProcess, Ranks
from ...compute.errors import UserError
from ...compute.execution import Execution
from ...compute.memory import is_out_of_memory
from ...diffusion.denoiser import total_weight
from ..data.loaded_cases import Case
from ..data.loading import global_batches
from ..plan.settings import Limits, TrainingSettings
from .checkpoint import Identity, RunState, load_checkpoint, save_checkpoint
from .log import Report, TrainingLog
from .names import STOP_NAME
from .step import Diverged, Stepper
from .stopping import StopWatch
from .validation import Validation

MOST_ROLLBACKS = 3
_REASONS = ("stop file", "SIGTERM", "SIGINT")
_VALIDATION_SHARE = 20
"""Validation takes no more than one part in so many of a run's time."""

OnReport = Callable[[Report], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``reason`` is None at its end, else what stopped it (see StopWatch).

    A run that a signal stopped left a checkpoint and no bundle: whoever sends signals is in a
    hurry. A stop file means "enough": the bundle is written as at the end.
    """

    iteration: int
    reason: str | None = None

    @property
    def exit_code(self) -> int:
        """0 where the bundle was written, else 128 and the signal's number, as shells have it."""
        written = self.reason in (None, "stop file")
        return 0 if written else 128 + signal.Signals[str(self.reason)]

    def sentence(self, output: Path) -> str:
        """What stopped the run in ``output`` before its end, and how to go on; else nothing."""
        if self.reason is None:
            return ""
        start = f"stopped at iteration {self.iteration} by"
        if self.exit_code == 0:
            file = output / STOP_NAME
            return f"{start} the file {file}; the model so far is written, --resume goes on."
        return f"{start} {self.reason}; the checkpoint is in {output}, go on with --resume."


class Run:
    """One run, from its state to its end or to where it is asked to stop."""

    def __init__(
        self,
        output: Path,
        manifest: Manifest,
        settings: TrainingSettings,
        limits: Limits,
        execution: Execution,
        ranks: Ranks,
        identity: Identity,
        state: RunState,
        stop: StopWatch,
        report: OnReport,
    ) -> None:
        self.output = output
        self.manifest = manifest
        self.settings = settings
        self.limits = limits
        self.execution = execution
        self.ranks = ranks
        self.identity = identity
        self.state = state
        self.stop = stop
        self.report = report
        self.validation: Validation | None = None
        self.last = Report("training", 0.0)
        self.log = TrainingLog(output, settings.log_seconds)
        representation = build_representation(manifest.content)
        self.stepper = Stepper(state, settings, execution, representation, ranks, self._note)
        self.latent_channels = len(manifest.channels) * representation.channels

    def to_the_end(self, cases: list[Case], seed: int) -> Outcome:
        """Iterate until the end or a request to stop; leaves a checkpoint either way."""
        state = self.state
        self._start = time.monotonic() - state.seconds
        self._started_at = (state.iteration, state.seconds)
        self._saved = state.seconds
        self._validated = state.seconds
        self._validation_seconds = 0.0
        if self.ranks.first:
            self.log.cut(state.iteration)
            if self.validation is None:
                self._note("There are no validation cases: no validation loss, no montage.")
        while True:
            try:
                reason = self._iterate(cases, seed)
                break
            except Diverged:
                self._roll_back()
            except LostProcess as error:
                if not self.ranks.first:
                    raise
                raise self._cut_short("Another process of this run is gone") from error
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                if reason := self.stop.reason:
                    # A signal to all processes of a job ended the workers too.
                    break
                words = "A process that makes batches was ended, perhaps for want of memory"
                raise self._cut_short(words) from error
        if self.ranks.first:
            self._save()
            if reason in (None, "stop file"):
                self._validate()
        return Outcome(state.iteration, reason)

    def _cut_short(self, words: str) -> UserError:
        """Save; the weights are still those of the last finished iteration."""
        self._save()
        return UserError(
            f"{words}",
            f"iteration {self.state.iteration} is saved in {self.output}, go on with --resume",
        )

    def _iterate(self, cases: list[Case], seed: int) -> str | None:
        state, settings = self.state, self.settings
        batches = global_batches(
            cases, self.manifest, settings, seed, state.iteration, self.ranks,
            self.execution.device,
        )  # fmt: skip
        with closing(batches):
            for batch in batches:
                weight = total_weight(batch[3], self.latent_channels)
                total, seconds, reason = self._agree(weight)
                progress = self.limits.progress(state.iteration, seconds)
                if progress >= 1 or reason:
                    return None if progress >= 1 else reason
                rate = self._rate(progress)
                loss = self.stepper.step(batch, total, rate)
                state.seconds = self._now()
                if self.ranks.first:
                    self.last = self._report("training", loss, rate)
                    self.log.add(self.last)
                    self.report(self.last)
                    self._come_around()
        raise AssertionError("The samples have no end.")

    def _agree(self, weight: float) -> tuple[float, float, str | None]:
        """Over all processes: the batch's weight, the first one's clock, and why to stop."""
        reason = self.stop.reason
        if reason == "stop file" and not self.ranks.first:
            reason = None
        facts = [weight, self._now() if self.ranks.first else 0.0]
        facts += [float(reason == known) for known in _REASONS]
        total, seconds, *asked = self.ranks.add(torch.tensor(facts, dtype=torch.float64)).tolist()
        agreed = [known for known, count in zip(_REASONS, asked, strict=True) if count]
        return max(total, 1.0), seconds, agreed[-1] if agreed else None

    def _rate(self, progress: float) -> float:
        """The learning rate: a linear start, then half a cosine."""
        start = min(1.0, (self.state.iteration + 1) / self.settings.warmup)
        decay = 0.5 * (1 + math.cos(math.pi * progress))
        return self.settings.learning_rate * self.state.rate_scale * start * decay

    def _come_around(self) -> None:
        """Validate and save where it is time to."""
        seconds = self.state.seconds
        pause = max(
            60 * self.settings.validation_minutes, _VALIDATION_SHARE * self._validation_seconds
        )
        if self.validation and seconds - self._validated > pause:
            self._validate()
        if self.state.seconds - self._saved > 60 * self.settings.checkpoint_minutes:
            self._save()

    def _validate(self) -> None:
        """The validation loss into the log, the montage and the curve beside it."""
        start = self._now()
        if self.validation is not None:
            self.report(replace(self.last, stage="validating"))
            try:
                self.log.flush(validation_loss=self.validation.loss(self.state.average))
                self.validation.write_montage(self.output, self.state.average)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._note("Out of memory in validation: it was left out this time.")
        self.log.draw()
        self._validated = self.state.seconds = self._now()
        self._validation_seconds = self._validated - start

    def _save(self) -> None:
        if self.ranks.first:
            self.log.flush()
            save_checkpoint(self.output, self.state, self.identity)
            self.log.draw()
            self._saved = self.state.seconds

    def _roll_back(self) -> None:
        """Go back to the last checkpoint with half the learning rate, as often as is allowed."""
        state, failed = self.state, self.state.iteration + 1
        scale, rollbacks, seconds = state.rate_scale / 2, state.rollbacks + 1, self._now()
        micro_batch, recompute = state.micro_batch, state.recompute
        if rollbacks > MOST_ROLLBACKS:
            raise UserError(
                f"The loss became NaN or infinite at iteration {failed}, once more after "
                f"{MOST_ROLLBACKS} returns to the last checkpoint with half the learning rate",
                "give the plan a lower learning_rate, and look at the images' intensities",
            )
        load_checkpoint(self.output, state)
        state.rate_scale, state.rollbacks, state.seconds = scale, rollbacks, seconds
        state.micro_batch, state.recompute = micro_batch, recompute
        if self.ranks.first:
            self.log.cut(state.iteration)
            self._note(
                f"The loss became NaN or infinite at iteration {failed}: back to iteration "
                f"{state.iteration} with {scale:g} times the learning rate."
            )
        # All have read the checkpoint before the first replaces it.
        self.ranks.of_first(None)
        self._save()

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _note(self, sentence: str) -> None:
        """Report and log a sentence about something out of the ordinary."""
        if self.ranks.first:
            self.report(replace(self.last, note=sentence))
            self.log.note(self.state.iteration, sentence)

    def _report(self, stage: str, loss: float, rate: float) -> Report:
        state = self.state
        progress = self.limits.progress(state.iteration, state.seconds)
        if self.limits.minutes is not None:
            left = max(0.0, 60 * self.limits.minutes - state.seconds)
        else:
            before, then = self._started_at
            pace = (state.seconds - then) / max(1, state.iteration - before)
            left = max(0, (self.limits.iterations or 0) - state.iteration) * pace
        images = state.iteration * self.settings.batch
        return Report(stage, progress, state.iteration, images, loss, rate, state.seconds, left)
