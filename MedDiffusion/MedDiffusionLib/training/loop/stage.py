"""A run's stages: a representation where one is learned, the denoiser, guidance where asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..plan.settings import Limits, TrainingSettings


@dataclass(frozen=True)
class Stage:
    """A part of a run, with a folder for its checkpoint, log and pictures, and an end of its own.

    ``part`` is what it trains, in words; empty where a run has but one. ``iterations`` and
    ``seconds`` are those of the stages before; the last one ``makes_model``.
    """

    folder: Path
    settings: TrainingSettings
    limits: Limits
    whole: Limits
    """The end of the whole run."""
    part: str = ""
    iterations: int = 0
    seconds: float = 0.0
    makes_model: bool = True

    def progress(self, iteration: int, seconds: float) -> float:
        """How much of the whole run is done, from 0 to 1."""
        return self.whole.progress(self.iterations + iteration, self.seconds + seconds)

    def seconds_left(self, iteration: int, seconds: float, pace: float) -> float:
        """Of the whole run, where an iteration takes ``pace`` seconds."""
        if self.whole.minutes is not None:
            return max(0.0, 60 * self.whole.minutes - self.seconds - seconds)
        done = self.iterations + iteration
        return max(0, (self.whole.iterations or 0) - done) * pace


def split_limits(whole: Limits, share: float) -> Limits:
    """The end of what has the first ``share`` of a run."""
    if whole.iterations is not None:
        return Limits(iterations=max(1, round(share * whole.iterations)))
    return Limits(minutes=share * (whole.minutes or 0))


def next_stage(whole: Stage, iterations: int, seconds: float, part: str) -> Stage:
    """What comes after so much of a run, until its ``limits``; at least a step."""
    end = whole.limits
    if end.iterations is not None:
        limits = Limits(iterations=max(1, end.iterations - iterations))
    else:
        limits = Limits(minutes=max(1e-3, (end.minutes or 0) - seconds / 60))
    return replace(whole, limits=limits, iterations=iterations, seconds=seconds, part=part)
