"""Validation: a loss at fixed samples, and a picture of real beside made volumes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...bundles.model import Model
from ...compute.execution import Execution
from ...diffusion.denoiser import Denoiser
from ...diffusion.representations import Representation
from ...synthesis.region import Region
from ...synthesis.settings import Settings
from ...synthesis.synthesis import Editing
from ...synthesis.synthesizer import Synthesizer
from ...volumes.volume import Volume
from ..data.cases import CaseFiles
from ..data.loaded_cases import StoredCase
from ..data.patches import PatchSamples
from ..data.samples import Augmentation, TrainingSamples
from ..data.store import CaseStore
from ..objectives.base import Objective
from ..objectives.batch import BatchSamples, stack
from ..objectives.denoising import Denoising
from ..objectives.reconstruction import Reconstruction
from .chart import write_png
from .job import TrainingJob
from .names import MONTAGE_NAME

_CASES = 16
"""Cases that the loss is taken over."""
_PICTURED = 3
_PANEL = 160
"""Least height of a plane in pixels."""
_STILL = Augmentation(shift=0, far_shift=0.0, affine=0.0)


class Validation(ABC):
    """Judges a run's averaged weights on the same samples each time.

    ``pictured``: the cases of the montage.
    """

    def __init__(
        self,
        samples: BatchSamples,
        objective: Objective,
        job: TrainingJob,
        pictured: Sequence[tuple[CaseFiles, StoredCase]],
    ) -> None:
        self._samples = samples
        self._objective = objective
        self._manifest = job.manifest
        self._execution: Execution = job.execution
        self._pictured = pictured

    @torch.inference_mode()
    def loss(self, average: Any) -> float:
        """The loss of the averaged weights; one sample at a time, so it needs little memory."""
        error, total = 0.0, 0.0
        for index in range(len(self._samples)):
            batch = stack([self._samples[index]])
            total += self._objective.weight(batch)
            with self._execution.autocast():
                moved = batch.to(self._execution.device)
                error += float(self._objective.error_sum(average, moved))
        return error / max(total, 1.0)

    @torch.inference_mode()
    def write_montage(self, folder: Path, average: Any) -> None:
        """Write ``montage.png``: a row per case and channel, planes of the real volume on the left.

        The three planes are those of the model's grid, through its middle; [-1, 1] is black to
        white.
        """
        rows = []
        for number, (files, case) in enumerate(self._pictured):
            for real, made in zip(*self.pair(number, files, case, average), strict=True):
                rows.append(np.concatenate([_planes((real + 1) / 2), _planes((made + 1) / 2)], 1))
        if not rows:
            return
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]))) for row in rows]
        write_png(folder / MONTAGE_NAME, np.concatenate(padded))

    @abstractmethod
    def pair(
        self, number: int, files: CaseFiles, case: StoredCase, average: Any
    ) -> tuple[NDArray, NDArray]:
        """A case's real volumes and those that are made of it, both ``[C, X, Y, Z]`` in [-1, 1]."""


class SynthesisValidation(Validation):
    """Of a denoiser: a volume is made from the case's label map by the model's sampler."""

    def __init__(self, job: TrainingJob, store: CaseStore, model: Model) -> None:
        files = job.validation[:_CASES]
        manifest = job.manifest
        cases = [store.prepared(case, manifest) for case in files]
        samples = TrainingSamples(
            cases, manifest.grid, [label.value for label in manifest.labels], _STILL, 0.0,
            len(cases), job.seed, job.settings.outside_weight,
        )  # fmt: skip
        objective = Denoising(model)
        # A model without label dropout makes nothing of a label map that lacks one of its labels.
        whole = [case.annotated.all() or manifest.label_dropout > 0 for case in cases]
        pictured = list(compress(zip(files, cases, strict=True), whole))[:_PICTURED]
        super().__init__(objective.samples(samples, len(cases)), objective, job, pictured)
        self._store = store
        self._representation = model.representation

    def pair(
        self, number: int, files: CaseFiles, case: StoredCase, average: Denoiser
    ) -> tuple[NDArray, NDArray]:
        """See :meth:`Validation.pair`."""
        synthesizer = Synthesizer(
            Model(self._manifest, average, self._representation), self._execution
        )
        unasked = Settings(guidance=1.0, native=True, accept_costs=True)
        volumes: Sequence[Volume]
        if self._manifest.labels:
            (sample,) = synthesizer.samples(self._store.label_map(files), unasked)
            volumes = sample.volumes
        else:
            volumes = self._without_labels(synthesizer, case, replace(unasked, seed=number))
        made = []
        for channel, volume in zip(self._manifest.channels, volumes, strict=True):
            low, high = channel.range
            made.append(2 * (volume.array - low) / max(high - low, 1e-12) - 1)
        return case.open().images_on(volumes[0].grid), np.stack(made)

    def _without_labels(
        self, synthesizer: Synthesizer, case: StoredCase, settings: Settings
    ) -> list[Volume]:
        """Volumes on a case's field of view, of a model that knows no labels."""
        nothing = torch.zeros(1, *case.fov.size, dtype=torch.uint8)
        region = Region(case.fov, nothing, torch.ones(1, 0))
        resolved = settings.resolve(self._manifest)
        latent = synthesizer.sample(region, resolved, 0, lambda step, x0: None, Editing())
        return synthesizer.volumes(latent, region, case.fov)


class ReconstructionValidation(Validation):
    """Of a representation: what is encoded and decoded again, beside what it was."""

    def __init__(self, job: TrainingJob, store: CaseStore, objective: Reconstruction) -> None:
        files = job.validation[:_CASES]
        manifest, own = job.manifest, job.settings.representation
        assert own is not None
        cases = [store.prepared(case, manifest) for case in files]
        samples = PatchSamples(
            cases, manifest.grid, own.patch, [label.value for label in manifest.labels], _STILL,
            0.0, len(cases), job.seed, job.settings.outside_weight,
        )  # fmt: skip
        pictured = list(zip(files, cases, strict=True))[:_PICTURED]
        super().__init__(objective.samples(samples, len(cases)), objective, job, pictured)

    def pair(
        self, number: int, files: CaseFiles, case: StoredCase, average: Representation
    ) -> tuple[NDArray, NDArray]:
        """See :meth:`Validation.pair`."""
        opened, device = case.open(), self._execution.device
        real = opened.images_on(case.fov)
        labels = torch.from_numpy(opened.labels_on(case.fov).astype(np.int64))[None].to(device)
        annotated = torch.from_numpy(case.annotated.astype(np.float32))[None].to(device)
        with self._execution.autocast():
            image = torch.from_numpy(real)[None].to(device)
            latent = average.encode(image)
            made = average.decode(latent, labels, annotated)
        return real, made[0].float().cpu().numpy()


def _planes(array: NDArray) -> NDArray[np.uint8]:
    """The middle planes of an array in [0, 1] across its third, second and first axis, in a row."""
    scale = -(-_PANEL // max(array.shape))
    panels = []
    for axis in (2, 1, 0):
        plane = array.take(array.shape[axis] // 2, axis).T[::-1]
        gray = np.rint(255 * plane.clip(0, 1)).astype(np.uint8)
        panels.append(gray.repeat(scale, 0).repeat(scale, 1))
    height = max(panel.shape[0] for panel in panels)
    framed = [np.pad(p, ((0, height - p.shape[0]), (0, 4))) for p in panels]
    return np.concatenate(framed, 1)
