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

from ...compute.distributed import LostProcess, Ranks
from ...compute.errors import UserError
from ...compute.execution import Execution
from ...compute.memory import is_out_of_memory
from ..objectives.base import Objective
from ..objectives.batch import Batch, BatchSamples
from .checkpoint import Identity, load_checkpoint, save_checkpoint
from .loading import Batches, LostWorker
from .log import TrainingLog, TrainingReport
from .names import STOP_NAME
from .stage import Stage
from .state import RunState
from .step import Diverged, Stepper
from .stopping import StopWatch
from .validation import Validation

MOST_ROLLBACKS = 3
_REASONS = ("stop file", "SIGTERM", "SIGINT")
ENDLESS = 2**62
"""More samples than any run draws."""
_VALIDATION_SHARE = 20
"""Validation takes no more than one part in so many of a run's time."""

OnReport = Callable[[TrainingReport], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``reason`` is None at its end, else what stopped it (see StopWatch).

    A run that a signal stopped left a checkpoint and no bundle: whoever sends signals is in a
    hurry. A stop file means "enough": the bundle is written as at the end, where the stage that
    was stopped makes one. ``part`` and ``iteration``: see :class:`..loop.log.TrainingReport`.
    """

    iteration: int
    reason: str | None = None
    part: str = ""
    makes_model: bool = True

    @property
    def is_written(self) -> bool:
        """Whether there is a bundle."""
        return self.reason is None or (self.reason == "stop file" and self.makes_model)

    @property
    def exit_code(self) -> int:
        """0 where the bundle was written, else 128 and the signal's number, as shells have it; a
        stop file before there is anything to write counts as Ctrl-C."""
        if self.is_written:
            return 0
        return 128 + signal.Signals["SIGINT" if self.reason == "stop file" else str(self.reason)]

    def sentence(self, output: Path, how: str = "resume the run") -> str:
        """What stopped the run in ``output`` before its end, and ``how`` to go on; else nothing."""
        if self.reason is None:
            return ""
        by = f"the file {output / STOP_NAME}" if self.reason == "stop file" else self.reason
        left = (
            "the model so far is written" if self.is_written else f"the checkpoint is in {output}"
        )
        of = f" of {self.part}" if self.part else ""
        return f"stopped at iteration {self.iteration}{of} by {by}; {left}, {how} to go on."


class Run:
    """One stage of a run, from its state to its end or to where it is asked to stop."""

    def __init__(
        self,
        stage: Stage,
        execution: Execution,
        objective: Objective,
        state: RunState,
        identity: Identity,
        ranks: Ranks,
        stop: StopWatch,
        report: OnReport,
        validation: Validation | None = None,
    ) -> None:
        self.stage = stage
        self.execution = execution
        self.objective = objective
        self.state = state
        self.identity = identity
        self.ranks = ranks
        self.stop = stop
        self.report = report
        self.validation = validation
        self._said_obstructed = False
        self._alarms: set[str] = set()
        begun = stage.progress(state.iteration, state.seconds)
        self.last = TrainingReport("training", begun, part=stage.part)
        self.log = TrainingLog(stage.folder, stage.settings.log_seconds, objective.figures)
        self.stepper = Stepper(state, stage.settings, execution, objective, ranks, self._note)

    def to_the_end(self, samples: BatchSamples) -> Outcome:
        """Iterate until the end or a request to stop; leaves a checkpoint either way."""
        state = self.state
        self._start = time.monotonic() - state.seconds
        self._started_at = (state.iteration, state.seconds)
        self._saved = state.seconds
        self._validated = state.seconds
        self._validation_seconds = 0.0
        if self.ranks.is_main:
            self.log.cut(state.iteration)
            if self.validation is None:
                self._note("There are no validation cases: no validation loss, no montage.")
        while True:
            try:
                reason = self._iterate(samples)
                break
            except Diverged:
                self._roll_back()
            except LostProcess as error:
                if not self.ranks.is_main:
                    raise
                raise self._cut_short("Another process of this run is gone") from error
            except LostWorker as error:
                if reason := self.stop.reason:
                    # A signal to all processes of a job ended the workers too.
                    break
                words = "A process that makes batches was ended, perhaps for want of memory"
                raise self._cut_short(words) from error
        if self.ranks.is_main:
            self._save()
            if reason in (None, "stop file"):
                self._validate()
        return Outcome(state.iteration, reason, self.stage.part, self.stage.makes_model)

    def _cut_short(self, words: str) -> UserError:
        """Save; the weights are still those of the last finished iteration."""
        self._save()
        return UserError(
            f"{words}; iteration {self.state.iteration} is saved in {self.stage.folder}",
            "resume the run to go on",
            code="resume",
        )

    def _iterate(self, samples: BatchSamples) -> str | None:
        """Steps until the end or a request to stop, whose reason is returned."""
        device = self.execution.device
        with closing(Batches(samples, self.state.iteration, self.ranks, device)) as batches:
            try:
                for batch in batches:
                    total, seconds, reason = self._agree(self.objective.weight(batch))
                    progress = self.stage.limits.progress(self.state.iteration, seconds)
                    if progress >= 1 or reason:
                        return None if progress >= 1 else reason
                    self._step(batch, total, progress)
            except RuntimeError as error:
                if batches.has_lost_worker:
                    raise LostWorker from error
                raise
        raise AssertionError("The samples have no end.")

    def _step(self, batch: Batch, total: float, progress: float) -> None:
        learning_rate = self._learning_rate(progress)
        loss = self.stepper.step(batch, total, learning_rate, progress)
        self.state.seconds = self._now()
        if self.ranks.is_main:
            self.last = self._report("training", loss, learning_rate)
            self.log.add(self.last)
            self.report(self.last)
            self._raise_alarms()
            self._come_around()

    def _agree(self, weight: float) -> tuple[float, float, str | None]:
        """Over all processes: the batch's weight, the first one's clock, and why to stop."""
        reason = self.stop.reason
        if self.stop.is_obstructed and not self._said_obstructed:
            self._said_obstructed = True
            self._note(f"{self.stop.file} is no file: it does not stop the training.")
        facts = [weight, self._now() if self.ranks.is_main else 0.0]
        facts += [float(reason == known) for known in _REASONS]
        summed = self.ranks.all_reduce(torch.tensor(facts, dtype=torch.float64))
        total, seconds, *asked = summed.tolist()
        agreed = [known for known, count in zip(_REASONS, asked, strict=True) if count]
        return max(total, 1.0), seconds, agreed[-1] if agreed else None

    def _learning_rate(self, progress: float) -> float:
        """The learning rate: a linear start, then half a cosine."""
        start = min(1.0, (self.state.iteration + 1) / self.stage.settings.warmup)
        decay = 0.5 * (1 + math.cos(math.pi * progress))
        return self.stage.settings.learning_rate * self.state.rate_scale * start * decay

    def _come_around(self) -> None:
        """Validate and save where it is time to."""
        seconds = self.state.seconds
        pause = max(
            60 * self.stage.settings.validation_minutes,
            _VALIDATION_SHARE * self._validation_seconds,
        )
        if self.validation and seconds - self._validated > pause:
            self._validate()
        if self.state.seconds - self._saved > 60 * self.stage.settings.checkpoint_minutes:
            self._save()

    def _validate(self) -> None:
        """The validation loss into the log, the montage and the curve beside it."""
        start = self._now()
        if self.validation is not None:
            self.report(replace(self.last, stage="validating"))
            try:
                self.log.flush(validation_loss=self.validation.loss(self.state.average))
                self.validation.write_montage(self.stage.folder, self.state.average)
            except (MemoryError, RuntimeError, UserError) as error:
                if not is_out_of_memory(error) and getattr(error, "code", "") != "out-of-memory":
                    raise
                self._note("Out of memory in validation: it was left out this time.")
        self.log.draw()
        self._validated = self.state.seconds = self._now()
        self._validation_seconds = self._validated - start

    def _save(self) -> None:
        if self.ranks.is_main:
            self.log.flush()
            save_checkpoint(self.stage.folder, self.state, self.identity)
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
        load_checkpoint(self.stage.folder, state)
        state.rate_scale, state.rollbacks, state.seconds = scale, rollbacks, seconds
        state.micro_batch, state.recompute = micro_batch, recompute
        if self.ranks.is_main:
            self.log.cut(state.iteration)
            self._note(
                f"The loss became NaN or infinite at iteration {failed}: back to iteration "
                f"{state.iteration} with {scale:g} times the learning rate."
            )
        # All have read the checkpoint before the first replaces it.
        self.ranks.broadcast(None)
        self._save()

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _note(self, sentence: str) -> None:
        """Report and log a sentence about something out of the ordinary."""
        if self.ranks.is_main:
            self.report(replace(self.last, note=sentence))
            self.log.note(self.state.iteration, sentence)

    def _raise_alarms(self) -> None:
        """Say what the objective finds wrong, once."""
        for sentence in self.objective.alarms():
            if sentence not in self._alarms:
                self._alarms.add(sentence)
                self._note(sentence)

    def _report(self, stage: str, loss: float, learning_rate: float) -> TrainingReport:
        state = self.state
        before, then = self._started_at
        pace = (state.seconds - then) / max(1, state.iteration - before)
        at = state.iteration, state.seconds
        images = state.iteration * self.stage.settings.batch
        return TrainingReport(
            stage, self.stage.progress(*at), state.iteration, images, loss, learning_rate,
            state.seconds, self.stage.seconds_left(*at, pace), part=self.stage.part,
        )  # fmt: skip
