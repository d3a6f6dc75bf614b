"""The synthesizer: a loaded model on its device, warm for any number of syntheses.

Command, CLI modules, worker and scripts all :func:`load` one, the one way to compute.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bundles.bundle import read_bundle
from ..bundles.catalog import DEFAULT_MODEL, find_model
from ..bundles.model import Model
from ..compute.devices import choose_device
from ..compute.errors import Cancelled, UserError
from ..compute.execution import Execution, choose_execution
from ..compute.memory import out_of_memory_as_user_error
from ..diffusion.blocks import Place, denoise_in_blocks
from ..diffusion.denoiser import guide
from ..diffusion.representations import voxels_of
from ..diffusion.samplers import SAMPLERS
from ..volumes.grids import in_patient_order
from ..volumes.normalization import MODEL_RANGE, from_model_range, to_model_range
from ..volumes.reading import read_label_map
from ..volumes.resampling import resample
from ..volumes.volume import Grid, Kind, Volume
from .costs import network_bytes
from .labels import checked_assignment, left_out, refuse_no_label_map, replace_labels
from .provenance import NO_LABELS, label_source
from .region import Region, labelled_part, region_grid
from .results import Sample, SyntheticVolume
from .settings import ResolvedSettings, Settings
from .synthesis import Editing, OnStep, Step, Synthesis

IsCancelled = Callable[[], bool]


class Synthesizer:
    """A loaded model on its device, warm for any number of syntheses."""

    def __init__(self, model: Model, execution: Execution) -> None:
        self.model = model
        self.execution = execution
        self._denoiser = execution.prepare(model.denoiser)
        self._representation = execution.prepare(model.representation)

    def synthesize(
        self,
        labels: str | PathLike[str] | Volume,
        *,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        guidance_range: tuple[float, float] | None = None,
        native: bool = False,
        accept_costs: bool = False,
        overrides: Mapping[int, str] | None = None,
        on_step: OnStep = lambda step: None,
        is_cancelled: IsCancelled = lambda: False,
    ) -> list[SyntheticVolume]:
        """Volumes from a label map or its file: of each sample, one per channel of the model.

        ``overrides`` says which label value is which label of the model, by name, or "background".
        None takes the model's own default. ``accept_costs``: also where it takes more memory than
        there is, or more than an hour. ``on_step`` is called after each step;
        ``is_cancelled`` is asked then, and Cancelled raised when it says so. Raises UserError for
        input that cannot be used. For one sample at a time, see :meth:`samples`.
        """
        settings = Settings(
            samples, seed, steps, sampler, guidance, native, accept_costs, guidance_range
        )
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
        editing: Editing | None = None,
    ) -> Iterator[Sample]:
        """Make the samples one by one; see :meth:`prepare` and :meth:`Synthesis.samples`."""
        prepared = self.prepare(labels, settings, name=name, overrides=overrides)
        return prepared.samples(on_step=on_step, editing=editing)

    def generate(
        self,
        *,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        accept_costs: bool = False,
        on_step: OnStep = lambda step: None,
    ) -> list[SyntheticVolume]:
        """Volumes without a label map, as :meth:`synthesize` makes them from one."""
        settings = Settings(samples, seed, steps, sampler, accept_costs=accept_costs)
        made = self.prepare_without_labels(settings).samples(on_step=on_step)
        return [volume for sample in made for volume in sample.volumes]

    def prepare(
        self,
        labels: Volume,
        settings: Settings,
        *,
        name: str = "",
        overrides: Mapping[int, str] | None = None,
    ) -> Synthesis:
        """All that is known of a synthesis before it is computed.

        ``labels`` is a label map with values of its own (see :func:`.labels.match_labels`),
        ``name`` what provenance calls it. Raises UserError for labels that match nothing and
        settings out of range.
        """
        manifest = self.model.manifest
        resolved = settings.resolve(manifest)
        with out_of_memory_as_user_error():
            assigned = checked_assignment(labels, manifest, overrides or {})
            source = label_source(name, labels, assigned)
            matched = replace_labels(labelled_part(labels), manifest, assigned)
            grid = region_grid(matched, manifest.grid, self._representation.factors, labels)
        target = grid if resolved.native else labels.grid
        return Synthesis(self, source, matched, grid, target, resolved, settings.accept_costs)

    def prepare_without_labels(self, settings: Settings) -> Synthesis:
        """All that is known of a synthesis from no label map, of the model's field of view.

        Its center is RAS (0, 0, 0), and i, j, k of the volumes run along the patient's axes.
        Guidance makes no difference there. Raises UserError for settings out of range, and for a
        model that always needs its labels.
        """
        manifest = self.model.manifest
        refuse_no_label_map(manifest)
        resolved = replace(settings, guidance=1.0, native=False).resolve(manifest)
        grid = manifest.grid.centered()
        target = in_patient_order(grid)
        return Synthesis(self, NO_LABELS, None, grid, target, resolved, settings.accept_costs)

    def grid(self, labels: Volume) -> Grid:
        """The grid that a synthesis from a label map is made on, before it is resampled."""
        return region_grid(labels, self.model.manifest.grid, self._representation.factors)

    def latent(self, scan: Sequence[Volume], grid: Grid) -> Tensor:
        """A real scan, a volume per channel, as a latent ``[1, C, x, y, z]`` on a grid."""
        intensity = self.model.manifest.intensity
        parts = []
        for channel, volume in enumerate(scan):
            scaled = to_model_range(volume.array, intensity.limits(volume.array, channel))
            normalized = Volume(scaled, volume.affine, Kind.INTENSITY)
            parts.append(resample(normalized, grid, background=MODEL_RANGE[0]).array)
        image = torch.from_numpy(np.stack(parts)[None]).to(self.execution.device)
        with torch.inference_mode(), self.execution.autocast():
            return self._representation.encode(image)

    @cached_property
    def network_bytes(self) -> int:
        """What the network takes on one block."""
        return network_bytes(self.model)

    @cached_property
    @torch.inference_mode()
    def seconds_per_evaluation(self) -> float:
        """How long the network takes for one block here, measured once."""
        size = (1, self._representation.latent_channels, *self.model.latent_size)
        x, t = torch.zeros(size, device=self.execution.device), torch.ones(1)
        labels = torch.zeros(1, *self.model.manifest.grid.size, dtype=torch.uint8)
        annotated = torch.ones(1, len(self.model.labels))
        seconds = math.inf
        # The first time is longer: buffers are made, kernels chosen.
        for _ in range(3):
            start = time.perf_counter()
            # Reading a value back waits for the device to finish.
            float(self._estimate(x, t, labels, annotated, 1.0).sum())
            seconds = min(seconds, time.perf_counter() - start)
        return seconds

    @torch.inference_mode()
    def sample(
        self,
        region: Region,
        settings: ResolvedSettings,
        index: int,
        report: Callable[[int, Tensor], None],
        editing: Editing,
    ) -> Tensor:
        """The latent of sample ``index``, ``[1, C, x, y, z]``; ``report``: step and estimate."""
        device, factors = self.execution.device, self._representation.factors
        schedule = self._denoiser.schedule
        size = self._representation.latent_size(region.indices.shape[1:])
        shape = (1, self._representation.latent_channels, *size)
        # On the CPU whatever the device, so that a seed means the same noise everywhere.
        generator = torch.Generator().manual_seed(settings.seed + index)

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            guidance = settings.guidance_at(float(schedule(t)[1]))

            def denoise_block(part: Tensor, place: Place) -> Tensor:
                where = voxels_of(place, factors)
                labels = region.indices[(slice(None), *where)]
                return self._estimate(part, t, labels, region.annotated, guidance)

            x0 = denoise_in_blocks(denoise_block, x, self.model.latent_size)
            for constrain in editing.constraints:
                x0 = constrain(x0, t)
            return x0

        times = schedule.times(settings.steps, editing.start)
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
        labels, known = labels.to(device).long(), annotated.float().to(device)
        with self.execution.autocast():
            conditional: Tensor = self._denoiser(x, time, labels, known)
            if guidance == 1:
                return conditional
            nothing = torch.zeros_like(labels), torch.zeros_like(known)
            return guide(conditional, self._denoiser(x, time, *nothing), guidance)

    def volumes(self, x0: Tensor, region: Region, target: Grid) -> list[Volume]:
        """The latent of a region as volumes on a grid, a channel each.

        Raises UserError where they are not finite.
        """
        device = self.execution.device
        labels, annotated = region.indices.to(device), region.annotated.to(device)
        with torch.inference_mode(), self.execution.autocast():
            decoded = self._representation.decode(x0.float(), labels, annotated)
        image = decoded[0].float().cpu().numpy()
        volumes = []
        for array, channel in zip(image, self.model.channels, strict=True):
            scaled = from_model_range(array, channel.range, clip=self._representation.clips)
            # Both ends of the way: what is huge here would be clipped, what is huge there written.
            if not (np.isfinite(array).all() and np.isfinite(scaled).all()):
                raise UserError(
                    f"{self.model.manifest.name} made a volume with NaN or infinite intensities, "
                    "which is not kept",
                    "its weights or its range of intensities cannot be used; take another model",
                    code="not-finite",
                )
            volume = Volume(scaled, region.grid.affine, Kind.INTENSITY)
            volumes.append(resample(volume, target, background=channel.range[0]))
        return volumes


def load(model: str | PathLike[str] = DEFAULT_MODEL, device: str = "auto") -> Synthesizer:
    """Load a model by its name or its bundle's folder onto a device.

    Raises UserError where there is no such model or device, or the bundle is damaged.
    """
    loaded = read_bundle(find_model(str(model)))
    return Synthesizer(loaded, choose_execution(choose_device(device)))
