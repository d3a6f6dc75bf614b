"""Live: the volume follows each stroke, at preview quality; what it asks for and what it says."""

from __future__ import annotations

from ...bundles.manifest import Manifest
from ...synthesis.settings import Settings
from ..wording import _
from .control import Control
from .fit import Fit
from .models import ChosenModel

STEPS = 3
"""So few steps show the anatomy; more would only make the wait longer."""
SAMPLER = "dpmpp-2m"
"""The best of the samplers where steps are few."""


class Live:
    """Off, or on: then waiting for a stroke, or making the volume of the last one."""

    def __init__(self) -> None:
        self.on = False
        self.sentence = ""
        """What is said beside the check box; empty: nothing."""
        self._made: object = None
        self._pictures = 0

    def control(self, model: ChosenModel, has_label_map: bool, working: bool) -> Control:
        """The check box; ``working``: a synthesis runs, which goes first."""
        no_labels = "" if has_label_map else _("Choose a label map, or make one, to draw in.")
        busy = _("A synthesis is running: wait for its end, or cancel it.") if working else ""
        tip = _(
            "Make the volume anew after each stroke, at preview quality: {steps} steps, on the "
            "model's own grid. Synthesize makes the real one."
        )
        if not model.takes_labels:
            no_labels = _("This model makes volumes without a label map.")
        refusal = "" if self.on else model.refusal or no_labels or busy
        return Control(tip.format(steps=STEPS), refusal)

    def turn(self, on: bool) -> None:
        """Switch it on or off."""
        self.on, self._made, self._pictures = on, None, 0
        self.sentence = _("Draw: the volume follows.") if on else ""

    def wants(self, fit: Fit, state: object) -> bool:
        """Whether to make the volume now.

        ``state`` is what it would be made from: nothing is made of the same twice in a row.
        """
        if not self.on or state == self._made:
            return False
        if not fit.ok:
            self.sentence = fit.sentence
            return False
        return True

    def started(self, state: object) -> None:
        """The volume is being made from this."""
        self._made = state
        if not self._pictures:
            self.sentence = _("Loading the model…")

    def skip(self, state: object) -> None:
        """A real volume is made from this, or shown: it needs no live one."""
        self._made = state

    def made(self) -> None:
        """A picture is shown."""
        self._pictures += 1
        self.sentence = _("Preview quality: press Synthesize for the real volume.")

    def failed(self, message: str) -> None:
        """It could not be made; the next stroke tries again."""
        self._made, self.sentence = None, message


def live_settings(manifest: Manifest, seed: int) -> Settings:
    """What one picture asks for: as little as shows what was drawn."""
    steps = min(STEPS, manifest.sampling.steps)
    return Settings(samples=1, seed=seed, steps=steps, sampler=SAMPLER, guidance=1.0, native=True)
