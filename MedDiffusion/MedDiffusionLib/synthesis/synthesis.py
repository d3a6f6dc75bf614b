"""One synthesis: a label map in, or none, volumes in its geometry out, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from ..compute.memory import out_of_memory_as_user_error
from ..diffusion.constraints import Constraint
from ..volumes.volume import Grid, Volume
from .costs import Costs, check_memory, check_time, estimate_costs
from .provenance import LabelSource, Recipe, provenance_of, recipe_of
from .region import make_region
from .results import Sample, SyntheticVolume
from .settings import ResolvedSettings

if TYPE_CHECKING:
    from .synthesizer import Synthesizer

_MANY_EVALUATIONS = 200
"""From so many evaluations of the network on, it is measured how long one takes."""


@dataclass(frozen=True)
class Step:
    """What the progress callback receives after each step."""

    sample: int
    """Sample being made, from 0."""
    step: int
    """Steps done, from 1."""
    steps: int
    estimate: Callable[[], list[Volume]]
    """Makes the current estimate into volumes on the model's own grid, when called."""


OnStep = Callable[[Step], None]
OnCosts = Callable[[Costs], None]


@dataclass(frozen=True)
class Editing:
    """What is known of the result beforehand, for edits of a real scan.

    ``latent``: where to start from, ``[1, C, x, y, z]`` on the region's grid, as
    :meth:`Synthesizer.latent` makes it of a scan; ``start``: the time to start at, 1 for nothing
    but noise; ``constraints``: imposed in order on every estimate of x_0.
    """

    latent: Tensor | None = None
    start: float = 1.0
    constraints: Sequence[Constraint] = ()


@dataclass(frozen=True, eq=False)
class Synthesis:
    """A synthesis that is about to be computed: from what, where, and how.

    ``labels``: the label map (of a large one the part that counts) with the model's label values,
    None where there is none; ``grid``: the model's on it; ``target``: that of the volumes.
    """

    synthesizer: Synthesizer
    source: LabelSource
    labels: Volume | None
    grid: Grid
    target: Grid
    settings: ResolvedSettings
    accept_costs: bool

    def recipe(self, index: int, channel: str) -> Recipe:
        """The recipe of a channel of sample ``index`` (from 0)."""
        manifest = self.synthesizer.model.manifest
        return recipe_of(self.source, self.settings, manifest, index, channel)

    def costs(self, samples: int) -> Costs:
        """What so many samples take, without seconds."""
        made = self.synthesizer
        return estimate_costs(
            made.model, self.labels.grid if self.labels is not None else None, self.grid,
            self.target, self.settings, samples, made.network_bytes, made.execution.device,
        )  # fmt: skip

    def samples(
        self,
        *,
        only: Sequence[int] | None = None,
        on_step: OnStep = lambda step: None,
        on_costs: OnCosts = lambda costs: None,
        editing: Editing | None = None,
    ) -> Iterator[Sample]:
        """Make the samples one by one, all or ``only`` some (numbers from 0).

        Sample i depends on the seed and i only. Intensities lie in each channel's output range;
        outside the field of view they take the range's lower end. ``on_costs`` is told what is to
        come before anything is computed. ``on_step`` may raise (``errors.Cancelled``, say) to stop;
        then nothing more is made. Raises UserError where it would take more than there is or an
        hour and that was not accepted, for want of memory, and for results that are not finite.
        """
        made = self.synthesizer
        numbers = range(self.settings.samples) if only is None else only
        costs = self.costs(len(numbers))
        if not self.accept_costs:
            check_memory(costs, made.execution.device)
        if costs.evaluations >= _MANY_EVALUATIONS:
            seconds = costs.evaluations * made.seconds_per_evaluation
            costs = replace(costs, seconds=seconds)
        if not self.accept_costs:
            check_time(costs)
        on_costs(costs)
        with out_of_memory_as_user_error():
            region = make_region(self.labels, self.grid, made.model.labels)
            for index in numbers:

                def report(step: int, x0: Tensor, index: int = index) -> None:
                    estimate = partial(made.volumes, x0, region, self.grid)
                    on_step(Step(index, step, self.settings.steps, estimate))

                x0 = made.sample(region, self.settings, index, report, editing or Editing())
                volumes = made.volumes(x0, region, self.target)
                yield Sample(index, tuple(self._named(volumes, index)), self.labels)

    def _named(self, volumes: list[Volume], index: int) -> Iterator[SyntheticVolume]:
        """The volumes of a sample with their channels and provenance."""
        for volume, channel in zip(volumes, self.synthesizer.model.channels, strict=True):
            recipe = self.recipe(index, channel.name)
            yield SyntheticVolume(
                volume.array,
                volume.affine,
                volume.kind,
                channel=channel,
                provenance=provenance_of(recipe, self.synthesizer.execution),
            )
