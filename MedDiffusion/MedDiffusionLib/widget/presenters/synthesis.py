"""The section Synthesize: what its button does, what a run asks for and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from ...bundles.manifest import Manifest
from ...synthesis.settings import Settings, most_steps
from ..wording import _, joined
from .choices import Quality
from .control import Control
from .fit import Fit
from .models import ChosenModel


class Choices(Protocol):
    """What the user has chosen: the parameter node, as far as the settings need it."""

    samples: int
    seed: int
    quality: Quality
    sampler: Enum
    guidance: float


class Press(Enum):
    """What a press of the button does."""

    START = auto()
    CANCEL = auto()


class Synthesis:
    """One run at a time: ready, running, or running while it is being cancelled."""

    def __init__(self) -> None:
        self.running = False
        self.cancelling = False
        self.sentence = ""
        """What the section says; empty: nothing."""
        self.progress: float | None = None
        """From 0 to 1; None before anything is known."""
        self._samples = 1
        self._warnings: tuple[str, ...] = ()

    def button(self, model: ChosenModel, fit: Fit) -> Control:
        """The one button."""
        if self.running:
            waiting = _("The current step is being stopped.") if self.cancelling else ""
            return Control(_("Stop; volumes that are finished stay."), waiting, _("Cancel"))
        if not model.takes_labels:
            tip = _("Make a volume from nothing but the variant's number, and watch it appear.")
            return Control(tip, model.refusal, _("Generate"))
        refusal = model.refusal or ("" if fit.ok else fit.sentence)
        tip = _("Make a volume from the label map, and watch it appear.")
        return Control(tip, refusal, _("Synthesize"))

    def title(self, model: ChosenModel) -> str:
        """What the section is called."""
        return _("Synthesize") if model.takes_labels else _("Generate")

    def press(self) -> Press:
        """Note a press, and tell what it does."""
        if not self.running:
            self.sentence = ""
            return Press.START
        self.cancelling = True
        self.sentence = _("Stopping…")
        return Press.CANCEL

    def started(self, samples: int, warnings: Sequence[str]) -> None:
        """A run has started that makes so many samples; the warnings stay to be read."""
        self.running, self.progress = True, None
        self._samples, self._warnings = samples, tuple(warnings)
        self.sentence = joined(*self._warnings, _("Loading the model…"))

    def stepped(self, sample: int, step: int, steps: int) -> None:
        """A step of a sample (from 0) is done."""
        self.progress = (sample + step / steps) / self._samples
        if not self.cancelling:
            text = _("Volume {number} of {count}, step {step} of {steps}")
            self.sentence = text.format(
                number=sample + 1, count=self._samples, step=step, steps=steps
            )

    def ended(self, message: str = "") -> None:
        """The run is over, with a sentence where it did not end well."""
        self.sentence = joined(*self._warnings, message)
        self.running = self.cancelling = False
        self._warnings = ()


def settings(chosen: Choices, manifest: Manifest) -> Settings:
    """What a run asks for; what was not chosen is left to the model."""
    return Settings(
        samples=chosen.samples,
        seed=chosen.seed,
        steps=steps(chosen.quality, manifest),
        sampler=chosen.sampler.value or None,
        guidance=(chosen.guidance or None) if manifest.labels else None,
    )


def steps(quality: Quality, manifest: Manifest) -> int:
    """How many steps a run takes."""
    return min(quality.steps(manifest.sampling.steps), most_steps(manifest))


def quality_tip(quality: Quality, manifest: Manifest) -> str:
    text = _("More steps take longer and are more exact; this makes {steps}.")
    return text.format(steps=steps(quality, manifest))


def cancelled() -> str:
    return _("Cancelled.")
