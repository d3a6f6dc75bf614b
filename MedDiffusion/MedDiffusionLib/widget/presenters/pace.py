"""About how long a synthesis takes, by what the last ones took on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from ...synthesis.settings import ResolvedSettings
from ..wording import _

_WEIGHT = 0.5
"""Of the last run, against all before it."""


class Store(Protocol):
    """What is kept between sessions: a number by its name; None where there is none."""

    def read(self, name: str) -> float | None: ...

    def write(self, name: str, value: float) -> None: ...


def evaluations(settings: ResolvedSettings) -> int:
    """How often the network is asked for a volume: guidance asks it twice a step."""
    return settings.steps * (1 if settings.guidance == 1 else 2)


class Pace:
    """Seconds per evaluation of the network, by model and device.

    A label map of more blocks takes longer: what is said holds for one as large as the last.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._name = ""
        self._per_step = 1
        self._before: tuple[int, int, float] | None = None
        self._seconds = 0.0
        self._steps = 0

    def started(self, model: str, device: str, settings: ResolvedSettings) -> None:
        """A run has started."""
        self._name = _name(model, device)
        self._per_step = evaluations(settings) // settings.steps
        self._before, self._seconds, self._steps = None, 0.0, 0

    def stepped(self, sample: int, step: int) -> None:
        """A step is done: it is timed from the one before, in the same sample."""
        now = self._clock()
        if self._before is not None and self._before[0] == sample:
            self._seconds += now - self._before[2]
            self._steps += step - self._before[1]
        self._before = sample, step, now

    def ended(self) -> None:
        """The run is over: what was measured is kept, if anything was."""
        if self._steps > 0:
            measured = self._seconds / self._steps / self._per_step
            before = self._known(self._name)
            if before is not None:
                measured = _WEIGHT * measured + (1 - _WEIGHT) * before
            self._store.write(self._name, measured)
        self._before, self._seconds, self._steps = None, 0.0, 0

    def seconds(self, model: str, device: str, settings: ResolvedSettings) -> float | None:
        """For all volumes of a run; None where none has run here yet."""
        each = self._known(_name(model, device))
        return None if each is None else each * evaluations(settings) * settings.samples

    def _known(self, name: str) -> float | None:
        value = self._store.read(name)
        return value if value is not None and math.isfinite(value) and value > 0 else None


def _name(model: str, device: str) -> str:
    return f"{model}/{device}"


def about(seconds: float | None) -> str:
    """In words; empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return _("under a second")
    if seconds < 90:
        return _("about {seconds} s").format(seconds=_rounded(seconds))
    if seconds < 90 * 60:
        return _("about {minutes} min").format(minutes=_rounded(seconds / 60))
    return _("about {hours} h").format(hours=_rounded(seconds / 3600))


def _rounded(value: float) -> int:
    """To a number that promises no more than it can hold."""
    return round(value) if value < 10 else 5 * round(value / 5)
