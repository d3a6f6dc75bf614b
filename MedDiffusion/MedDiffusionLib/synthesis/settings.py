"""What may be chosen for a synthesis, as asked for and as resolved. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ..bundles.manifest import Manifest, Sampling
from ..compute.errors import UserError
from ..compute.parsing import shortened
from ..diffusion.samplers import SAMPLERS

MAX_SEED = 2**31 - 1
MAX_SAMPLES = 1000
MAX_STEPS = 1000
MAX_GUIDANCE = 20.0
ALL_LEVELS = Sampling.guidance_range


@dataclass(frozen=True)
class Settings:
    """What is asked for; None takes the model's own default."""

    samples: int = 1
    seed: int = 0
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    native: bool = False
    """Leave the result on the model's own grid."""
    accept_costs: bool = False
    """Also where more memory is needed than there is, or more time than an hour."""
    guidance_range: tuple[float, float] | None = None
    """Noise levels, from 0 to 1, between which there is guidance."""

    def resolve(self, manifest: Manifest) -> ResolvedSettings:
        """The settings with the model's defaults filled in; raises UserError when out of range."""
        default = manifest.sampling
        steps = default.steps if self.steps is None else self.steps
        sampler = default.sampler if self.sampler is None else self.sampler
        guidance = default.guidance if self.guidance is None else self.guidance
        _check_range("samples", self.samples, 1, MAX_SAMPLES)
        check_seed(self.seed)
        _check_range("steps", steps, 1, most_steps(manifest))
        _check_range("guidance", guidance, 0, MAX_GUIDANCE)
        if sampler not in SAMPLERS:
            named = shortened(sampler) or "without a name"
            raise UserError(f"There is no sampler {named}", f"use one of {', '.join(SAMPLERS)}")
        if guidance != 1 and not manifest.labels:
            raise UserError(
                f"{manifest.name} takes no labels, so guidance has no meaning for it",
                "leave guidance at 1",
            )
        if guidance != 1 and not manifest.label_dropout:
            raise UserError(
                f"{manifest.name} was trained without label dropout, so guidance has no meaning "
                "for it",
                "leave guidance at 1",
            )
        levels = default.guidance_range if self.guidance_range is None else self.guidance_range
        # What makes no difference is not told apart either.
        low, high = ALL_LEVELS if guidance == 1 else levels
        if not 0 <= low < high <= 1:
            raise UserError(
                f"guidance_range is {low:g} to {high:g}",
                "it must end above its start, and lie between 0 and 1",
            )
        return ResolvedSettings(
            self.samples, self.seed, steps, sampler, guidance, self.native, (low, high)
        )


@dataclass(frozen=True)
class ResolvedSettings:
    """What a synthesis is made with, nothing left open."""

    samples: int
    seed: int
    steps: int
    sampler: str
    guidance: float
    native: bool
    guidance_range: tuple[float, float] = ALL_LEVELS

    def guidance_at(self, level: float) -> float:
        """The guidance at a noise level, which is the standard deviation of the noise."""
        low, high = self.guidance_range
        return self.guidance if low <= level <= high else 1.0


def most_steps(manifest: Manifest) -> int:
    """How many steps a synthesis may take: a schedule of whole steps has no more than these."""
    return int(manifest.architecture.schedule.options.get("steps", MAX_STEPS))


def check_seed(seed: int) -> None:
    """Raises UserError for a seed below 0 or above ``MAX_SEED``."""
    _check_range("seed", seed, 0, MAX_SEED)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        # A whole number may be larger than any that could be formatted as a fraction.
        raise UserError(
            f"{name} is {shortened(str(value))}", f"it must lie between {low:g} and {high:g}"
        )
