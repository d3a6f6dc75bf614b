"""Validation: a loss at fixed noise and times, and a picture of real beside synthetic volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...bundles.bundle import Bundle
from ...bundles.manifest import Manifest
from ...compute.execution import Execution
from ...diffusion.denoiser import Denoiser, total_weight
from ...diffusion.representations import Representation
from ...synthesis.synthesizer import Settings, Synthesizer
from ...volumes.reading import read_label_map
from ..data.cases import CaseFiles
from ..data.loaded_cases import Case
from ..data.samples import Augmentation, DiffusionSamples, TrainingSamples
from ..plan.settings import TrainingSettings
from .chart import write_png
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
        files: Sequence[CaseFiles],
        cases: Sequence[Case],
        manifest: Manifest,
        settings: TrainingSettings,
        representation: Representation,
        execution: Execution,
        seed: int,
    ) -> None:
        cases = list(cases)[:_CASES]
        still = Augmentation(shift=0, far_shift=0.0, affine=0.0)
        values = [label.value for label in manifest.labels]
        samples = TrainingSamples(
            cases, manifest.grid, values, still, 0.0, len(cases), seed, settings.outside_weight
        )
        shape = latent_shape(manifest, representation)
        self._samples = DiffusionSamples(samples, shape, representation.factor, len(cases))
        self._pictured = list(zip(files, cases, strict=False))[:_PICTURED]
        self._manifest = manifest
        self._representation = representation
        self._execution = execution

    @torch.inference_mode()
    def loss(self, average: Denoiser) -> float:
        """The loss of the averaged weights; one sample at a time, so it needs little memory."""
        error, total = 0.0, 0.0
        for index in range(len(self._samples)):
            sample = [tensor[None].to(self._execution.device) for tensor in self._samples[index]]
            images, labels, present, weight, time, noise = sample
            latent = self._representation.encode(images)
            with self._execution.autocast():
                error += float(
                    average.squared_error(latent, labels.long(), present, weight, time, noise)
                )
            total += total_weight(weight, latent.shape[1])
        return error / max(total, 1.0)

    def write_montage(self, folder: Path, average: Denoiser) -> None:
        """Write ``montage.png``: a row per case and channel, planes of the real volume on the left.

        The three planes are those of the model's grid, through its middle; [-1, 1] is black to
        white. The synthetic volume comes from the case's label map by the model's sampler.
        """
        manifest = self._manifest
        bundle = Bundle(folder, manifest, average, self._representation)
        synthesizer = Synthesizer(bundle, self._execution)
        rows = []
        for files, case in self._pictured:
            labels = read_label_map(files.labels)
            (made,) = synthesizer.synthesize(labels, Settings(guidance=1.0, native=True))
            real = case.images_on(made.volumes[0].grid)
            for channel, shown, volume in zip(manifest.channels, real, made.volumes, strict=True):
                low, high = channel.range
                same_range = (volume.array - low) / max(high - low, 1e-12)
                rows.append(np.concatenate([_planes((shown + 1) / 2), _planes(same_range)], 1))
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]))) for row in rows]
        write_png(folder / MONTAGE_NAME, np.concatenate(padded))


def latent_shape(manifest: Manifest, representation: Representation) -> tuple[int, ...]:
    """``(C, x, y, z)`` of a sample's latent."""
    channels = len(manifest.channels) * representation.channels
    return channels, *(n // representation.factor for n in manifest.grid.size)


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
