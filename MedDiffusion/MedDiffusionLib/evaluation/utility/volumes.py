"""Generators and the volumes that they make: what the arms with synthetic volumes need."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...bundles.bundle import read_bundle
from ...bundles.catalog import find_model
from ...bundles.generators import load_generator
from ...bundles.manifest import read_manifest
from ...bundles.names import MANIFEST_NAME, WEIGHTS_NAME
from ...compute.errors import Cancelled, UserError
from ...compute.files import file_sha256, write_json
from ...compute.locks import remove_temporaries
from ...synthesis.region import make_region
from ...synthesis.synthesis import OnStep, Step
from ...synthesis.synthesizer import Synthesizer
from ...synthesis.variants import prepare_variation
from ...training.data.cases import CaseFiles
from ...training.data.loaded_cases import StoredCase
from ...training.data.store import FOLDER_NAME, CaseStore
from ...training.loop.job import TrainingJob
from ...training.loop.log import TrainingReport
from ...training.loop.names import CHECKPOINT_NAME
from ...training.loop.stopping import StopWatch
from ...training.loop.train import train
from ...volumes.variation import Variation
from ...volumes.volume import Kind, Volume
from ...volumes.writing import write_volume
from ..cases import noise_seed
from .design import Draw
from .folder import read_known, refuse_to_go_on
from .preparation import Experiment, OnProgress
from .request import RANDOM, SAME, VARIED

_MADE_NAME = "made.json"
GENERATOR_NAME = "generator"


class User(Protocol):
    """Who needs volumes."""

    def is_done(self) -> bool: ...


class GeneratorTask:
    """A generator trained on the real cases of a draw, and on no others."""

    def __init__(self, experiment: Experiment, draw: Draw) -> None:
        self.experiment = experiment
        self.draw = draw
        self.folder = experiment.place(draw) / GENERATOR_NAME
        self.words = f"{draw.words}: generator"

    def is_done(self) -> bool:
        return self.made().get("key") == self.experiment.key(self.draw, "generator")

    def made(self) -> dict[str, Any]:
        """What is known of the finished generator; empty where it is not finished."""
        return read_known(self.folder / _MADE_NAME) or {}

    def is_ready(self) -> bool:
        return True

    def do(self, stop: StopWatch, on_progress: OnProgress) -> None:
        """Train, or go on with it; raises UserError, and Cancelled with a checkpoint left."""
        experiment = self.experiment
        cases = tuple(experiment.cases(self.draw))
        if not (self.folder / MANIFEST_NAME).exists():
            training = {
                **experiment.plan["training"],
                "data": f"{len(cases)} of {len(experiment.training)} cases, seed {self.draw.seed}",
            }
            job = TrainingJob(
                cases, self.folder, {**experiment.plan, "training": training},
                experiment.request.limits, experiment.execution, seed=self.draw.seed,
                command="meddiffusion utility",
                resume=(self.folder / CHECKPOINT_NAME).exists(),
            )  # fmt: skip

            def report(said: TrainingReport) -> None:
                if not said.note:
                    left = said.seconds_left
                    more = "" if left is None else f", {left / 60:.1f} min left"
                    on_progress(f"{said.words}, {said.progress:.0%}{more}")

            outcome = train(job, stop=stop, on_report=report)
            if outcome.reason is not None:
                raise Cancelled
        manifest = read_manifest(self.folder)
        facts = manifest.training
        write_json(self.folder / _MADE_NAME, {
            "key": experiment.key(self.draw, "generator"),
            "weights_sha256": file_sha256(self.folder / WEIGHTS_NAME),
            "cases": [case.name for case in cases],
            "iterations": facts.iterations if facts else None,
            "minutes": facts.minutes if facts else None,
        })  # fmt: skip
        # It is several times as large as the model.
        (self.folder / CHECKPOINT_NAME).unlink(missing_ok=True)


class VolumesTask:
    """Synthetic volumes by a draw's generator, from one kind of label maps.

    They lie on the generator's grid, so that nothing is interpolated, in ``images`` and
    ``labels``. Volume i is of the draw's label map i, counted around, and of its own seed.
    """

    def __init__(self, experiment: Experiment, draw: Draw, maps: str) -> None:
        self.experiment = experiment
        self.draw = draw
        self.maps = maps
        self.folder = experiment.place(draw) / f"volumes-{maps}"
        self.words = f"{draw.words}: {maps} label maps"
        self.users: list[User] = []
        self.generator = None
        if experiment.request.generator is None:
            self.generator = GeneratorTask(experiment, draw)

    def is_done(self) -> bool:
        """Whether they are there, or nobody needs them any more."""
        if self.users and all(user.is_done() for user in self.users):
            return True
        return self.made().get("key") == self._key()

    def made(self) -> dict[str, Any]:
        """What is known of the finished volumes; empty where they are not finished."""
        return read_known(self.folder / _MADE_NAME) or {}

    def is_ready(self) -> bool:
        return self.generator is None or self.generator.is_done()

    def do(self, stop: StopWatch, on_progress: OnProgress) -> None:
        """Make what is missing; raises UserError and Cancelled."""
        experiment, start = self.experiment, time.monotonic()
        bundle = self.bundle()
        synthesizer = Synthesizer(read_bundle(bundle), experiment.execution)
        count = experiment.request.volumes
        for name in ("images", "labels"):
            (self.folder / name).mkdir(exist_ok=True)
            remove_temporaries(self.folder / name)
        maps = _LabelMaps(experiment, self.draw, self.maps, bundle)
        files = [self._files(number) for number in range(count)]
        for number, case in enumerate(files):
            refuse_to_go_on(stop)
            if all(path.exists() for path in case.files):
                continue

            def on_step(step: Step, number: int = number) -> None:
                refuse_to_go_on(stop)
                on_progress(f"volume {number + 1}/{count}, step {step.step}/{step.steps}")

            self._write(case, maps.map(number), number, synthesizer, on_step)
        store = CaseStore(self.folder)
        store.clear_half_written()
        for case in files:
            refuse_to_go_on(stop)
            store.prepare(case, experiment.manifest)
        store.save()
        write_json(self.folder / _MADE_NAME, {
            "key": self._key(),
            "cases": {case.name: store.record(case).digest for case in files},
            "seconds": round(time.monotonic() - start, 1),
        })  # fmt: skip

    def bundle(self) -> Path:
        """The generator's folder."""
        if self.generator is not None:
            return self.generator.folder
        assert self.experiment.request.generator is not None
        return find_model(self.experiment.request.generator)

    def stored(self) -> list[StoredCase]:
        """The volumes as samples are drawn from them; raises UserError where they are not there."""
        store, count = CaseStore(self.folder), self.experiment.request.volumes
        return [store.prepared(self._files(n), self.experiment.manifest) for n in range(count)]

    def remove_prepared(self) -> None:
        """Remove what can be made again of the volumes, and is larger than these."""
        (self.folder / _MADE_NAME).unlink(missing_ok=True)
        shutil.rmtree(self.folder / FOLDER_NAME, ignore_errors=True)

    def _key(self) -> str:
        return self.experiment.key(self.draw, "volumes", self.maps)

    def _files(self, number: int) -> CaseFiles:
        name = f"synthetic{number:05}"
        channels = range(len(self.experiment.manifest.channels))
        images = tuple(self.folder / "images" / f"{name}_{c:04}.nii.gz" for c in channels)
        return CaseFiles(name, images, self.folder / "labels" / f"{name}.nii.gz", name)

    def _write(
        self,
        case: CaseFiles,
        labels: Volume,
        number: int,
        synthesizer: Synthesizer,
        on_step: OnStep,
    ) -> None:
        seed = noise_seed(f"{self.maps} {self.draw.size} {number}", self.draw.seed)
        settings = replace(self.experiment.request.settings, seed=seed)
        synthesis = synthesizer.prepare(labels, settings, name=case.name)
        (sample,) = synthesis.samples(on_step=on_step)
        region = make_region(synthesis.labels, synthesis.grid, synthesizer.model.labels)
        by_index = np.array([0, *self.experiment.label_values], np.int32)
        values = by_index[region.indices[0].numpy()]
        assert case.labels is not None
        for path, volume in zip(case.images, sample.volumes, strict=True):
            write_volume(path, Volume(volume.array, volume.affine, Kind.INTENSITY))
        write_volume(case.labels, Volume(values, synthesis.grid.affine, Kind.LABEL))


class _LabelMaps:
    """The label maps that a draw's volumes are made from, by number."""

    def __init__(self, experiment: Experiment, draw: Draw, kind: str, bundle: Path) -> None:
        self._experiment = experiment
        self._cases = experiment.cases(draw)
        self._draw = draw
        self._kind = kind
        self._bundle = bundle
        self._variations: dict[int, Variation] = {}
        if kind == RANDOM:
            try:
                self._generator = load_generator(bundle, read_manifest(bundle))
            except UserError as error:
                raise UserError(
                    f"The generator of {draw.words} draws no label maps: {error.problem}",
                    f"leave {RANDOM} out of the kinds of label maps, or take larger numbers of "
                    "cases",
                    code="no-random-maps",
                ) from error

    def map(self, number: int) -> Volume:
        """Label map ``number``, a function of the draw and of it alone."""
        seed = noise_seed(f"{self._kind} map {self._draw.size} {number}", self._draw.seed)
        if self._kind == RANDOM:
            return self._generator.sample(seed)
        own = number % len(self._cases)
        labels = self._experiment.store.label_map(self._cases[own])
        if self._kind == SAME:
            return labels
        assert self._kind == VARIED
        if own not in self._variations:
            self._variations[own] = prepare_variation(labels, self._bundle)
        return self._variations[own].sample(self._experiment.request.strength, seed).labels
