"""Synthesis: a label map in, volumes in the same geometry out. The one path that computes.

The command, the CLI modules and the Slicer module all come through :class:`Synthesizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bundles.bundle import Bundle
from ..compute.errors import UserError
from ..compute.execution import Execution
from ..diffusion.blocks import Place, denoise_in_blocks
from ..diffusion.denoiser import guide
from ..diffusion.samplers import SAMPLERS
from ..diffusion.schedules import trailing_times
from ..volumes.grids import GridSpec, fov_grid, labelled_box
from ..volumes.normalization import from_model_range
from ..volumes.resampling import resample
from ..volumes.volume import Grid, Kind, Volume

MAX_SEED = 2**31 - 1
MAX_SAMPLES = 1000
MAX_STEPS = 1000
MAX_GUIDANCE = 20.0


@dataclass(frozen=True)
class Settings:
    """What may be chosen for a synthesis; None takes the model's own default."""

    samples: int = 1
    seed: int = 0
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    native: bool = False
    """Leave the result on the model's own grid."""

    def resolved(self, bundle: Bundle) -> Settings:
        """The settings with the model's defaults filled in; raises UserError when out of range."""
        defaults = bundle.manifest.content["sampling"]
        steps = defaults["steps"] if self.steps is None else self.steps
        sampler = self.sampler or defaults["sampler"]
        guidance = defaults["guidance"] if self.guidance is None else self.guidance
        _check_range("samples", self.samples, 1, MAX_SAMPLES)
        check_seed(self.seed)
        _check_range("steps", steps, 1, MAX_STEPS)
        _check_range("guidance", guidance, 0, MAX_GUIDANCE)
        if sampler not in SAMPLERS:
            raise UserError(f"There is no sampler {sampler}", f"use one of {', '.join(SAMPLERS)}")
        if guidance != 1 and not bundle.manifest.content["label_dropout"]:
            raise UserError(
                f"{bundle.manifest.name} was trained without label dropout, so guidance has no "
                "meaning for it",
                "leave guidance at 1",
            )
        return Settings(self.samples, self.seed, steps, sampler, guidance, self.native)


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


@dataclass(frozen=True)
class Sample:
    """One finished sample: a volume per channel of the model, in the model's order."""

    index: int
    volumes: list[Volume]


OnStep = Callable[[Step], None]


class Synthesizer:
    """A loaded model, warm for any number of syntheses."""

    def __init__(self, bundle: Bundle, execution: Execution) -> None:
        self.bundle = bundle
        self.execution = execution
        self._denoiser = execution.prepare(bundle.denoiser)

    def synthesize(
        self,
        labels: Volume,
        settings: Settings,
        on_step: OnStep = lambda step: None,
        first: int = 0,
    ) -> Iterator[Sample]:
        """Make the samples one by one, from number ``first`` (0) on.

        ``labels`` carries the model's label values (``labels.match_labels``). Sample i depends on
        ``seed`` and i only. Intensities lie in each channel's output range; outside the field of
        view they take the range's lower end. ``on_step`` may raise (``errors.Cancelled``, say) to
        stop; then nothing more is made. Raises UserError for settings out of range.
        """
        settings = settings.resolved(self.bundle)
        manifest = self.bundle.manifest
        grid = region_grid(labels, manifest.grid, self.bundle.representation.factor)
        indices = self._label_indices(resample(labels, grid))
        values = labels.label_statistics.values
        present = torch.tensor([[label.value in values for label in manifest.labels]])
        target = grid if settings.native else labels.grid
        for index in range(first, settings.samples):

            def report(step: int, x0: Tensor, index: int = index) -> None:
                kept = x0
                total = settings.steps or 0
                on_step(Step(index, step, total, lambda: self._volumes(kept, grid, grid)))

            x0 = self._sample(indices, present, settings, index, report)
            yield Sample(index, self._volumes(x0, grid, target))

    @torch.inference_mode()
    def _sample(
        self,
        indices: Tensor,
        present: Tensor,
        settings: Settings,
        index: int,
        report: Callable[[int, Tensor], None],
    ) -> Tensor:
        representation, device = self.bundle.representation, self.execution.device
        factor = representation.factor
        block = [n // factor for n in self.bundle.manifest.grid.size]
        shape = (
            1,
            len(self.bundle.manifest.channels) * representation.channels,
            *(n // factor for n in indices.shape[1:]),
        )
        # On the CPU whatever the device, so that a seed means the same noise everywhere.
        generator = torch.Generator().manual_seed(settings.seed + index)

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            def denoise_block(part: Tensor, place: Place) -> Tensor:
                where = tuple(slice(s.start * factor, s.stop * factor) for s in place)
                labels = indices[(slice(None), *where)]
                return self._estimate(part, t, labels, present, settings.guidance or 0)

            return denoise_in_blocks(denoise_block, x, block)

        times = trailing_times(settings.steps or 1, self._denoiser.schedule)
        sampler = SAMPLERS[settings.sampler or ""]
        return sampler(denoise, noise(), times, self._denoiser.schedule, noise, report)

    def _estimate(
        self, x: Tensor, t: Tensor, labels: Tensor, present: Tensor, guidance: float
    ) -> Tensor:
        device = self.execution.device
        time = t.reshape(1).float().to(device)
        labels, known = labels.to(device), present.float().to(device)
        with self.execution.autocast():
            conditional = self._denoiser(x, time, labels, known)
            if guidance == 1:
                return conditional
            nothing = torch.zeros_like(labels), torch.zeros_like(known)
            return guide(conditional, self._denoiser(x, time, *nothing), guidance)

    def _label_indices(self, labels: Volume) -> Tensor:
        """``[1, X, Y, Z]`` int64: 0 is background, then the model's labels in its order."""
        indices = np.zeros(labels.array.shape, np.int64)
        for index, label in enumerate(self.bundle.manifest.labels, start=1):
            indices[labels.array == label.value] = index
        return torch.from_numpy(indices)[None]

    def _volumes(self, x0: Tensor, grid: Grid, target: Grid) -> list[Volume]:
        image = self.bundle.representation.decode(x0.float())[0].cpu().numpy()
        volumes = []
        for array, channel in zip(image, self.bundle.manifest.channels, strict=True):
            scaled = from_model_range(array, channel.range)
            volume = Volume(scaled, grid.affine, Kind.INTENSITY)
            volumes.append(resample(volume, target, background=channel.range[0]))
        return volumes


def region_grid(labels: Volume, spec: GridSpec, factor: int) -> Grid:
    """The grid to synthesize on: the model's FOV, enlarged where the labelled region exceeds it.

    An enlarged axis gets a margin of an eighth of the FOV on either side, and a length that is a
    multiple of the representation's ``factor``.
    """
    low, high = box = labelled_box(labels, spec)
    extent = np.ceil((high - low) / np.array(spec.spacing) - 1e-6).astype(int)
    size = []
    for needed, fov in zip(extent, spec.size, strict=True):
        enlarged = -(-(int(needed) + fov // 4) // factor) * factor
        size.append(fov if needed <= fov else enlarged)
    return fov_grid(labels, spec, (size[0], size[1], size[2]), box)


def check_seed(seed: int) -> None:
    """Raises UserError for a seed below 0 or above ``MAX_SEED``."""
    _check_range("seed", seed, 0, MAX_SEED)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} is {value:g}", f"it must lie between {low:g} and {high:g}")
