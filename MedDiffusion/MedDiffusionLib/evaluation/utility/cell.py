"""A cell: a segmenter trained on what its arm says, and tested on the held-out real cases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...compute.files import file_sha256, write_json
from ...compute.locks import remove_temporaries
from ...synthesis.region import region_grid
from ...training.data.cases import CaseFiles
from ...training.data.patches import PatchSamples
from ...training.data.samples import Sample, Samples
from ...training.loop.log import TrainingReport
from ...training.loop.run import ENDLESS
from ...training.loop.stopping import StopWatch
from ..figures.checks import Floats
from ..figures.dice import dice_per_label
from ..json_arrays import listed
from ..segmenters import SEGMENTERS
from ..segmenters.network import patch_of, strides_of
from ..segmenters.segmenter import Segmenter
from ..segmenters.training import (
    WEIGHTS_NAME,
    Effort,
    fit_segmenter,
    load_weights,
    settings_for,
)
from .arms import ARMS, steps_of
from .design import Cell
from .folder import read_known, refuse_to_go_on
from .preparation import Experiment, OnProgress
from .volumes import VolumesTask

RESULT_NAME = "result.json"


class CellTask:
    """Trains and tests a cell's segmenter."""

    def __init__(self, experiment: Experiment, cell: Cell, volumes: VolumesTask | None) -> None:
        self.experiment = experiment
        self.cell = cell
        self.draw = cell.draw
        self.volumes = volumes
        self.folder = experiment.place(cell.draw) / cell.name
        self.words = f"{cell.draw.words}: {cell.name}"

    def is_done(self) -> bool:
        return bool(self.result())

    def is_ready(self) -> bool:
        return self.volumes is None or self.volumes.is_done()

    def result(self) -> dict[str, Any]:
        """What a finished cell has; empty where it is not finished, or of other data."""
        known = read_known(self.folder / RESULT_NAME) or {}
        return known if known.get("key") == self._key else {}

    def do(self, stop: StopWatch, on_progress: OnProgress) -> None:
        """Train, or go on with it, and test; raises UserError and Cancelled."""
        experiment, start = self.experiment, time.monotonic()
        segmenter, steps = self._trained(stop, on_progress)
        dice: dict[str, Any] = {}
        for number, case in enumerate(experiment.held_out, start=1):
            refuse_to_go_on(stop)
            on_progress(f"testing, {number}/{len(experiment.held_out)}")
            dice[case.name] = listed(dice_of(segmenter, case, experiment))
        write_json(self.folder / RESULT_NAME, {
            "key": self._key,
            "seed": self.draw.seed,
            "cases": self.draw.size,
            "arm": self.cell.arm,
            "maps": self.cell.maps,
            "steps": steps,
            "weights_sha256": file_sha256(self.folder / WEIGHTS_NAME),
            "seconds": round(time.monotonic() - start, 1),
            "dice": dice,
            **self._made_of(),
        })  # fmt: skip

    @cached_property
    def _key(self) -> str:
        return self.experiment.key(self.draw, "cell", self.cell.arm, self.cell.maps)

    def _made_of(self) -> dict[str, Any]:
        """What generator and volumes a cell rests on."""
        if self.volumes is None:
            return {}
        made = self.volumes.made()
        generator = self.volumes.generator
        facts: Mapping[str, Any] = self.experiment.generator_facts
        if generator is not None:
            facts = generator.made()
        return {
            "generator": {k: v for k, v in facts.items() if k not in ("key", "seen")},
            "volumes": {"count": len(made["cases"]), "seconds": made["seconds"]},
        }

    def _trained(self, stop: StopWatch, on_progress: OnProgress) -> tuple[Segmenter, list[int]]:
        """The segmenter after all its arm's phases, and the steps of each."""
        experiment, seed = self.experiment, self.draw.seed
        manifest, name = experiment.manifest, experiment.request.segmenter
        patch, settings = patch_of(manifest.grid.size), settings_for(manifest)
        torch.manual_seed(seed)
        network = SEGMENTERS[name](
            len(manifest.channels), 1 + len(manifest.labels), strides_of(patch)
        )
        network = experiment.execution.prepare(network)
        real = experiment.stored(experiment.cases(self.draw))
        synthetic = self.volumes.stored() if self.volumes is not None else []
        phases = ARMS[self.cell.arm](experiment.request.shares)
        steps = steps_of(phases, experiment.effort.iterations)
        for number, (phase, count) in enumerate(zip(phases, steps, strict=True)):
            own = seed + 1000003 * number
            sources = [
                PatchSamples(
                    cases, manifest.grid, patch, experiment.label_values, settings.augmentation,
                    0.0, ENDLESS, own,
                ) if cases else None
                for cases in (real, synthetic)
            ]  # fmt: skip
            place = self._place(number, len(phases))
            key = f"{self._key} {number}"

            def report(said: TrainingReport, number: int = number) -> None:
                of = f" {number + 1}/{len(phases)}" if len(phases) > 1 else ""
                left = said.seconds_left
                more = "" if left is None else f", {left / 60:.1f} min left"
                on_progress(f"training{of}, {said.progress:.0%}{more}")

            if not (place / WEIGHTS_NAME).exists():
                place.mkdir(exist_ok=True)
                remove_temporaries(place)
                fit_segmenter(
                    network, MixedSamples(sources[0], sources[1], phase.synthetic, own), settings,
                    place, key, experiment.execution, Effort(count, seed), stop, report,
                )  # fmt: skip
            load_weights(network, place / WEIGHTS_NAME, key)
        return Segmenter(name, self._key, network, patch, experiment.execution), steps

    def _place(self, number: int, count: int) -> Path:
        """The folder of a phase: the last one's is the cell's own."""
        return self.folder if number == count - 1 else self.folder / f"phase{number + 1}"


class MixedSamples:
    """Real and synthetic samples, evenly mixed so that a ``share`` is synthetic.

    Sample i depends on the seed and on i alone; either kind comes in the order in which it comes
    without the other.
    """

    def __init__(
        self, real: Samples | None, synthetic: Samples | None, share: float, seed: int
    ) -> None:
        self.seed = seed
        self._real = real
        self._synthetic = synthetic
        self._share = share

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        before, after = int(index * self._share), int((index + 1) * self._share)
        source, number = (
            (self._synthetic, before) if after > before else (self._real, index - before)
        )
        assert source is not None
        return source[number]


def dice_of(segmenter: Segmenter, case: CaseFiles, experiment: Experiment) -> Floats:
    """Dice of each label ``[L]`` in a real case, in the voxels that were scanned; NaN for a label
    that nobody drew."""
    (stored,) = experiment.stored([case])
    labels = experiment.store.label_map(case)
    grid = region_grid(labels, experiment.manifest.grid, (1, 1, 1))
    opened = stored.open()
    found = segmenter.segment(opened.images_on(grid))
    dice = dice_per_label(
        found, opened.labels_on(grid), opened.validity(grid), len(experiment.manifest.labels)
    )
    return np.where(stored.annotated, dice, np.nan)
