"""Numbers that this machine's Slicer keeps from session to session."""

from __future__ import annotations

import slicer

PREFIX = "MedDiffusion/SecondsPerEvaluation/"


class Seconds:
    """Slicer's user settings as the store of :class:`.presenters.pace.Pace`."""

    def read(self, name: str) -> float | None:
        try:
            return float(slicer.app.userSettings().value(PREFIX + name))
        except (TypeError, ValueError):  # There is none, or somebody has written another thing.
            return None

    def write(self, name: str, value: float) -> None:
        slicer.app.userSettings().setValue(PREFIX + name, value)
