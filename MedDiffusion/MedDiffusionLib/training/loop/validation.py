"""Validation: a loss at fixed noise and times, and a picture of real beside synthetic volumes."""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...bundles.model import Model
from ...diffusion.denoiser import Denoiser
from ...diffusion.representations import Representation
from ...synthesis.settings import Settings
from ...synthesis.synthesizer import Synthesizer
from ..data.samples import Augmentation, TrainingSamples
from ..data.store import CaseStore
from ..objectives.denoising import Denoising, stack
from .chart import write_png
from .job import TrainingJob
from .names import MONTAGE_NAME

_CASES = 16
"""Cases that the loss is taken over."""
_PICTURED = 3
_PANEL = 160
"""Least height of a plane in pixels."""


class Validation:
    """Judges a run's averaged weights on the same cases, noise and times each time."""

    def __init__(
        self,
        job: TrainingJob,
        store: CaseStore,
        objective: Denoising,
        representation: Representation,
    ) -> None:
        files = job.validation[:_CASES]
        manifest, still = job.manifest, Augmentation(shift=0, far_shift=0.0, affine=0.0)
        cases = [store.prepared(case, manifest) for case in files]
        samples = TrainingSamples(
            cases, manifest.grid, [label.value for label in manifest.labels], still, 0.0,
            len(cases), job.seed, job.settings.outside_weight,
        )  # fmt: skip
        self._samples = objective.samples(samples, len(cases))
        # A model without label dropout makes nothing of a label map that lacks one of its labels.
        whole = [case.annotated.all() or manifest.label_dropout > 0 for case in cases]
        self._pictured = list(compress(zip(files, cases, strict=True), whole))[:_PICTURED]
        self._manifest = manifest
        self._store = store
        self._objective = objective
        self._representation = representation
        self._execution = job.execution

    @torch.inference_mode()
    def loss(self, ema: Denoiser) -> float:
        """The loss of the averaged weights; one sample at a time, so it needs little memory."""
        error, total = 0.0, 0.0
        for index in range(len(self._samples)):
            batch = stack([self._samples[index]])
            total += self._objective.weight(batch)
            with self._execution.autocast():
                moved = batch.to(self._execution.device)
                error += float(self._objective.loss_sum(ema, moved))
        return error / max(total, 1.0)

    def write_montage(self, folder: Path, ema: Denoiser) -> None:
        """Write ``montage.png``: a row per case and channel, planes of the real volume on the left.

        The three planes are those of the model's grid, through its middle; [-1, 1] is black to
        white. The synthetic volume comes from the case's label map by the model's sampler.
        """
        if not self._pictured:
            return
        manifest = self._manifest
        model = Model(manifest, ema, self._representation)
        synthesizer = Synthesizer(model, self._execution)
        rows = []
        for files, case in self._pictured:
            labels = self._store.label_map(files)
            unasked = Settings(guidance=1.0, native=True, accept_costs=True)
            (made,) = synthesizer.samples(labels, unasked)
            real = case.open().images_on(made.volumes[0].grid)
            for channel, shown, volume in zip(manifest.channels, real, made.volumes, strict=True):
                low, high = channel.range
                same_range = (volume.array - low) / max(high - low, 1e-12)
                rows.append(np.concatenate([_planes((shown + 1) / 2), _planes(same_range)], 1))
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]))) for row in rows]
        write_png(folder / MONTAGE_NAME, np.concatenate(padded))


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
