"""Synthesis: a label map in, volumes in the same geometry out. The one path that computes.

Command, CLI modules, worker and scripts all :func:`load` a :class:`Synthesizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bundles.bundle import read_bundle
from ..bundles.catalog import DEFAULT_MODEL, find_model
from ..bundles.model import Model
from ..compute.devices import choose_device
from ..compute.errors import Cancelled
from ..compute.execution import Execution, choose_execution
from ..compute.memory import out_of_memory_as_user_error
from ..diffusion.blocks import Place, denoise_in_blocks
from ..diffusion.constraints import Constraint
from ..diffusion.denoiser import guide
from ..diffusion.samplers import SAMPLERS
from ..diffusion.schedules import lambda_spaced_times
from ..volumes.grids import GridSpec, fov_grid, labelled_box
from ..volumes.normalization import MODEL_RANGE, from_model_range, to_model_range
from ..volumes.reading import read_label_map
from ..volumes.resampling import resample
from ..volumes.volume import Grid, Kind, Volume
from .labels import left_out, match_labels
from .provenance import provenance_of, recipe_of
from .results import Sample, SyntheticVolume
from .settings import ResolvedSettings, Settings


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
IsCancelled = Callable[[], bool]


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
class _Region:
    """Where a synthesis takes place: its grid, label indices ``[1, X, Y, Z]`` (int64, 0 is
    background) and which labels are annotated ``[1, L]``."""

    grid: Grid
    indices: Tensor
    annotated: Tensor


class Synthesizer:
    """A loaded model on its device, warm for any number of syntheses."""

    def __init__(self, model: Model, execution: Execution) -> None:
        self.model = model
        self.execution = execution
        self._denoiser = execution.prepare(model.denoiser)
        self._representation = model.representation.to(execution.device)

    def synthesize(
        self,
        labels: str | PathLike[str] | Volume,
        *,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        native: bool = False,
        overrides: Mapping[int, str] | None = None,
        on_step: OnStep = lambda step: None,
        is_cancelled: IsCancelled = lambda: False,
    ) -> list[SyntheticVolume]:
        """Volumes from a label map or its file: of each sample, one per channel of the model.

        ``overrides`` says which label value is which label of the model, by name, or "background".
        None takes the model's own default. ``on_step`` is called after each step;
        ``is_cancelled`` is asked then, and Cancelled raised when it says so. Raises UserError for
        input that cannot be used. For one sample at a time, see :meth:`samples`.
        """
        settings = Settings(samples, seed, steps, sampler, guidance, native)
        if isinstance(labels, Volume):
            volume = labels
        else:
            volume = read_label_map(Path(labels), left_out(overrides or {}))
        name = "" if isinstance(labels, Volume) else Path(labels).name

        def step_done(step: Step) -> None:
            on_step(step)
            if is_cancelled():
                raise Cancelled

        made = self.samples(volume, settings, name=name, overrides=overrides, on_step=step_done)
        return [volume for sample in made for volume in sample.volumes]

    def samples(
        self,
        labels: Volume,
        settings: Settings,
        *,
        name: str = "",
        overrides: Mapping[int, str] | None = None,
        on_step: OnStep = lambda step: None,
        first: int = 0,
        editing: Editing | None = None,
    ) -> Iterator[Sample]:
        """Make the samples one by one, from number ``first`` (0) on.

        ``labels`` is a label map with values of its own (see :func:`.labels.match_labels`),
        ``name`` what provenance calls it. Sample i depends on ``seed`` and i only. Intensities lie
        in each channel's output range; outside the field of view they take the range's lower end.
        ``on_step`` may raise (``errors.Cancelled``, say) to stop; then nothing more is made. Raises
        UserError for labels that match nothing, settings out of range, and want of memory.
        """
        manifest = self.model.manifest
        resolved = settings.resolve(manifest)
        with out_of_memory_as_user_error():
            matched = match_labels(labels, manifest, overrides or {})
            region = self._region(matched)
            target = region.grid if resolved.native else labels.grid
            for index in range(first, resolved.samples):

                def report(step: int, x0: Tensor, index: int = index) -> None:
                    estimate = partial(self._volumes, x0, region.grid, region.grid)
                    on_step(Step(index, step, resolved.steps, estimate))

                x0 = self._sample(region, resolved, index, report, editing or Editing())
                volumes = [
                    SyntheticVolume(
                        volume.array,
                        volume.affine,
                        volume.kind,
                        channel=channel,
                        provenance=provenance_of(
                            recipe_of(name, resolved, manifest, index, channel.name),
                            self.execution,
                        ),
                    )
                    for volume, channel in zip(
                        self._volumes(x0, region.grid, target), manifest.channels, strict=True
                    )
                ]
                yield Sample(index, tuple(volumes), matched)

    def grid(self, labels: Volume) -> Grid:
        """The grid that a synthesis from a label map is made on, before it is resampled."""
        return region_grid(labels, self.model.manifest.grid, self._representation.factor)

    def latent(self, scan: Sequence[Volume], grid: Grid) -> Tensor:
        """A real scan, a volume per channel, as a latent ``[1, C, x, y, z]`` on a grid."""
        intensity = self.model.manifest.intensity
        parts = []
        for channel, volume in enumerate(scan):
            scaled = to_model_range(volume.array, intensity.limits(volume.array, channel))
            normalized = Volume(scaled, volume.affine, Kind.INTENSITY)
            parts.append(resample(normalized, grid, background=MODEL_RANGE[0]).array)
        image = torch.from_numpy(np.stack(parts)[None]).to(self.execution.device)
        with torch.inference_mode():
            return self._representation.encode(image)

    def _region(self, labels: Volume) -> _Region:
        """The region around the labels of a label map with the model's label values."""
        grid = self.grid(labels)
        known = self.model.labels
        on_grid = resample(labels, grid).array
        indices = np.zeros(on_grid.shape, np.int64)
        for index, label in enumerate(known, start=1):
            indices[on_grid == label.value] = index
        values = labels.label_statistics.values
        annotated = torch.tensor([[label.value in values for label in known]])
        return _Region(grid, torch.from_numpy(indices)[None], annotated)

    @torch.inference_mode()
    def _sample(
        self,
        region: _Region,
        settings: ResolvedSettings,
        index: int,
        report: Callable[[int, Tensor], None],
        editing: Editing,
    ) -> Tensor:
        """The latent of sample ``index``, ``[1, C, x, y, z]``."""
        device, factor = self.execution.device, self._representation.factor
        size = (n // factor for n in region.indices.shape[1:])
        shape = (1, self._representation.latent_channels, *size)
        # On the CPU whatever the device, so that a seed means the same noise everywhere.
        generator = torch.Generator().manual_seed(settings.seed + index)

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            def denoise_block(part: Tensor, place: Place) -> Tensor:
                where = tuple(slice(s.start * factor, s.stop * factor) for s in place)
                labels = region.indices[(slice(None), *where)]
                return self._estimate(part, t, labels, region.annotated, settings.guidance)

            x0 = denoise_in_blocks(denoise_block, x, self.model.latent_size)
            for constrain in editing.constraints:
                x0 = constrain(x0, t)
            return x0

        schedule = self._denoiser.schedule
        times = lambda_spaced_times(settings.steps, schedule, editing.start)
        x = noise()
        if editing.latent is not None:
            alpha, sigma = schedule(times[0])
            x = (alpha * editing.latent.to(x) + sigma * x).to(x.dtype)
        return SAMPLERS[settings.sampler](denoise, x, times, schedule, noise, report)

    def _estimate(
        self, x: Tensor, t: Tensor, labels: Tensor, annotated: Tensor, guidance: float
    ) -> Tensor:
        device = self.execution.device
        time = t.reshape(1).float().to(device)
        labels, known = labels.to(device), annotated.float().to(device)
        with self.execution.autocast():
            conditional: Tensor = self._denoiser(x, time, labels, known)
            if guidance == 1:
                return conditional
            nothing = torch.zeros_like(labels), torch.zeros_like(known)
            return guide(conditional, self._denoiser(x, time, *nothing), guidance)

    def _volumes(self, x0: Tensor, grid: Grid, target: Grid) -> list[Volume]:
        image = self._representation.decode(x0.float())[0].cpu().numpy()
        volumes = []
        for array, channel in zip(image, self.model.channels, strict=True):
            scaled = from_model_range(array, channel.range)
            volume = Volume(scaled, grid.affine, Kind.INTENSITY)
            volumes.append(resample(volume, target, background=channel.range[0]))
        return volumes


def load(model: str | PathLike[str] = DEFAULT_MODEL, device: str = "auto") -> Synthesizer:
    """Load a model by its name or its bundle's folder onto a device.

    Raises UserError where there is no such model or device, or the bundle is damaged.
    """
    loaded = read_bundle(find_model(str(model)))
    return Synthesizer(loaded, choose_execution(choose_device(device)))


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
