"""Before any training: the data looked at, the plan made, and what the experiment is written down.

Held-out cases are used for nothing but tests. The plan is made of the cases to train on alone; from
all of them where no preset says everything, which tells a generator of few cases no more than
spacing, size and labels of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...bundles.catalog import find_model
from ...bundles.manifest import Manifest, read_manifest
from ...bundles.membership import TrainingImages
from ...bundles.names import WEIGHTS_NAME
from ...compute.devices import choose_device
from ...compute.errors import UserError
from ...compute.execution import Execution, choose_execution
from ...compute.files import file_sha256
from ...compute.parsing import shortened
from ...compute.version import __version__
from ...training.data.cases import CaseFiles, DataSet, find_data
from ...training.data.loaded_cases import StoredCase
from ...training.data.store import CaseStore
from ...training.loop.log import TrainingReport
from ...training.loop.stopping import StopWatch
from ...training.plan.presets import read_preset, read_split
from ...training.plan.settings import check_manifest
from ...training.request import TrainingRequest, settle
from ..request import FEWEST
from ..segmenters.training import Effort, usual_effort
from .design import Cell, Draw, cells_of, nested, sizes_of
from .folder import held, read_mark, refuse_to_go_on, write_mark
from .request import RANDOM, UtilityRequest

OnProgress = Callable[[str], None]
"""Receives where the experiment stands, in words."""
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Experiment:
    """An experiment whose data are prepared.

    ``plan`` is that of generators, empty where one is given. ``digests``: of each case by its name;
    ``lacks``: which labels a case has not.
    """

    request: UtilityRequest
    manifest: Manifest
    plan: dict[str, Any]
    training: tuple[CaseFiles, ...]
    held_out: tuple[CaseFiles, ...]
    digests: Mapping[str, str]
    lacks: Mapping[str, tuple[str, ...]]
    generator_facts: Mapping[str, Any]
    execution: Execution

    @property
    def folder(self) -> Path:
        return self.request.output

    @cached_property
    def store(self) -> CaseStore:
        """The real cases, prepared."""
        return CaseStore(self.folder)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return sizes_of(self.request, len(self.training))

    @cached_property
    def cells(self) -> list[Cell]:
        return cells_of(self.request, self.sizes)

    @property
    def effort(self) -> Effort:
        """Optimizer steps of each segmenter."""
        steps = self.request.segmenter_iterations
        return usual_effort(self.manifest) if steps is None else Effort(steps)

    @property
    def label_values(self) -> list[int]:
        return [label.value for label in self.manifest.labels]

    def place(self, draw: Draw) -> Path:
        """The folder of a draw."""
        return self.folder / draw.folder

    def cases(self, draw: Draw) -> list[CaseFiles]:
        """The real cases of a draw."""
        return nested(self.training, draw.seed)[: draw.size]

    def stored(self, cases: Sequence[CaseFiles]) -> list[StoredCase]:
        """Cases as samples are drawn from them; raises UserError where they are not there."""
        return [self.store.prepared(case, self.manifest) for case in cases]

    def key(self, draw: Draw, *parts: str) -> str:
        """SHA-256 of all that something made of a draw depends on."""
        grid, sampling = self.manifest.grid, self.request.settings.resolve(self.manifest)
        content = {
            "fixed": self.request.fixed(),
            "version": __version__,
            "plan": self.plan,
            "grid": [grid.orientation, grid.spacing, grid.size],
            "labels": self.label_values,
            "intensity": asdict(self.manifest.intensity),
            "sampling": [sampling.sampler, sampling.steps, sampling.guidance],
            "generator": dict(self.generator_facts),
            "seed": draw.seed,
            "cases": [[case.name, self.digests[case.name]] for case in self.cases(draw)],
            "held_out": sorted(self.digests[case.name] for case in self.held_out),
            "parts": list(parts),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prepare(request: UtilityRequest, stop: StopWatch, on_progress: OnProgress) -> Experiment:
    """Look at all data, and begin an experiment or go on with it; other processes wait meanwhile.

    Raises UserError for what cannot be used and where data or settings changed, and Cancelled.
    """
    request.check()
    assert request.split is not None
    execution = choose_execution(choose_device(request.device))
    split = read_split(request.split)
    if not split.validation:
        raise UserError(
            "names no cases under validation, by which segmenters are tested",
            "name held-out ones there",
            path=request.split,
        )
    names = [*split.train, *split.validation]
    data = find_data(request.data, request.images, request.labels, request.group_pattern, names)
    by_name = {case.name: case for case in data.cases}
    training = tuple(by_name[name] for name in split.train)
    held_out = tuple(by_name[name] for name in split.validation)
    _refuse_few(held_out)
    _refuse_shared(training, held_out)
    sizes_of(request, len(training))
    on_progress("waiting for another process")
    with held(request.output, stop):
        before = read_mark(request.output)
        manifest, plan = _plan(
            request, replace(data, cases=training), before, execution, stop, on_progress
        )
        request.settings.resolve(manifest)
        experiment = _read(
            Experiment(request, manifest, plan, training, held_out, {}, {}, {}, execution),
            stop, on_progress,
        )  # fmt: skip
        now = _identity(experiment)
        if change := _change(before.get("identity"), now):
            raise UserError(
                "cannot be gone on with",
                f"{change}; bring back what it was begun with, or choose another folder",
                path=request.output,
                code="other-experiment",
            )
        write_mark(request.output, {"identity": now, "plan": plan})
    return experiment


def _plan(
    request: UtilityRequest,
    data: DataSet,
    before: Mapping[str, Any],
    execution: Execution,
    stop: StopWatch,
    on_progress: OnProgress,
) -> tuple[Manifest, dict[str, Any]]:
    """The manifest whose grid, labels and intensities all cells share, and generators' plan."""
    if request.generator is not None:
        manifest = read_manifest(find_model(request.generator))
        if not manifest.labels:
            raise UserError(
                f"{manifest.name} takes no label maps, so its volumes teach no segmenter",
                "give another model",
            )
        if RANDOM in request.maps and manifest.shape_model_sha256 is None:
            raise UserError(
                f"{manifest.name} draws no label maps",
                f"leave {RANDOM} out of the kinds of label maps, or fit it by meddiffusion "
                "labelmap --fit",
                code="no-random-maps",
            )
        return manifest, {}
    plan: dict[str, Any] = before.get("plan") or {}
    if not plan:
        asked = TrainingRequest(
            request.output, request.data, request.images, request.labels, request.preset,
            split=request.split, group_pattern=request.group_pattern,
            minutes=request.generator_minutes, iterations=request.generator_iterations,
            device=request.device,
        )  # fmt: skip

        def report(said: TrainingReport) -> None:
            on_progress(f"{said.words}, {said.progress:.0%}")

        plan = settle(asked, data, execution.device, stop, report)["plan"]
    manifest = check_manifest(plan["manifest"])
    if not manifest.labels:
        raise UserError("The plan has no labels, so there is nothing to segment", "give label maps")
    return manifest, plan


def _read(experiment: Experiment, stop: StopWatch, on_progress: OnProgress) -> Experiment:
    """Prepare all cases, and see that they fit; raises UserError."""
    manifest, store = experiment.manifest, experiment.store
    cases = [*experiment.training, *experiment.held_out]
    digests, lacks = {}, {}
    for number, case in enumerate(cases, start=1):
        refuse_to_go_on(stop)
        on_progress(f"reading, {number}/{len(cases)}")
        if experiment.request.generator is not None:
            _refuse_other(case, store, manifest)
        prepared = store.prepare(case, manifest)
        digests[case.name] = store.record(case).digest
        lacks[case.name] = tuple(
            label.name
            for label, known in zip(manifest.labels, prepared.annotated, strict=True)
            if not known
        )
    store.save()
    _refuse_twins(experiment, digests)
    facts = _generator_facts(experiment) if experiment.request.generator is not None else {}
    return replace(experiment, digests=digests, lacks=lacks, generator_facts=facts)


def _refuse_other(case: CaseFiles, store: CaseStore, manifest: Manifest) -> None:
    """Raise UserError where a case has labels or contrasts that the given generator knows not."""
    if len(case.images) != len(manifest.channels):
        names = _listed([channel.name for channel in manifest.channels])
        raise UserError(
            f"{manifest.name} makes {len(manifest.channels)} contrasts ({names}), and {case.name} "
            f"has {len(case.images)} images",
            "give a generator of your contrasts",
            code="other-contrasts",
        )
    record = store.record(case)
    values = record.facts.voxels if record.facts else {}
    known = {label.value: label.name for label in manifest.labels}
    if unknown := sorted(set(values) - set(known)):
        words = _listed([f"{value} {name}" for value, name in known.items()])
        raise UserError(
            f"{manifest.name} makes the labels {words}, and {case.name} has "
            f"{_listed([str(value) for value in unknown])}",
            "give a generator of your labels",
            code="other-labels",
        )


def _generator_facts(experiment: Experiment) -> dict[str, Any]:
    """What is known of a given generator: its hash, and which cases it was trained on.

    Raises UserError where it was trained on one that is to test with.
    """
    assert experiment.request.generator is not None
    folder = find_model(experiment.request.generator)
    manifest = experiment.manifest
    record: TrainingImages | None = manifest.training.images if manifest.training else None
    seen = None
    if record is not None:
        store = experiment.store
        for case in experiment.held_out:
            if any(map(record.has, store.images([case]))):
                raise UserError(
                    f"{manifest.name} was trained on {case.name}, which is to test with",
                    "leave it out: nothing is judged by what it was trained on",
                    code="not-held-out",
                )
        seen = [
            case.name for case in experiment.training if any(map(record.has, store.images([case])))
        ]
    images = len(record.hashes) if record is not None else None
    return {
        "name": manifest.name,
        "version": manifest.version,
        "weights_sha256": file_sha256(folder / WEIGHTS_NAME),
        "images": images,
        "seen": seen,
    }


def _refuse_few(held_out: Sequence[CaseFiles]) -> None:
    patients = len({case.group for case in held_out})
    if patients < FEWEST:
        raise UserError(
            f"{patients} patient under validation is too few to test with",
            f"give at least {FEWEST}; 40 tell differences of Dice of about 0.01",
            code="too-few-cases",
        )


def _refuse_shared(training: Sequence[CaseFiles], held_out: Sequence[CaseFiles]) -> None:
    if both := sorted({case.group for case in training} & {case.group for case in held_out}):
        raise UserError(
            f"The patient {both[0]} has cases to train on and to test with",
            "put all of a patient's cases on one side of the split",
            code="not-held-out",
        )


def _refuse_twins(experiment: Experiment, digests: Mapping[str, str]) -> None:
    """Raise UserError where an image that is to test with is among those to train on."""
    store = experiment.store
    known = {image: case.name for case in experiment.training for image in store.images([case])}
    for case in experiment.held_out:
        for image in store.images([case]):
            if image in known:
                raise UserError(
                    f"{case.name} is to test with and has the image of the training case "
                    f"{known[image]}",
                    "leave it out: nothing is judged by what it was trained on",
                    code="not-held-out",
                )


def _identity(experiment: Experiment) -> dict[str, Any]:
    request = experiment.request
    return {
        "version": __version__,
        "settings": request.fixed(),
        "preset": read_preset(request.preset) if request.preset else None,
        "generator": dict(experiment.generator_facts),
        "training cases": {
            case.name: experiment.digests[case.name] for case in experiment.training
        },
        "held-out cases": {
            case.name: experiment.digests[case.name] for case in experiment.held_out
        },
    }


def _change(before: Any, now: Mapping[str, Any]) -> str:
    """What is not as it was when an experiment was begun, as a clause; empty where all is."""
    if before is None or before == json.loads(json.dumps(now)):
        return ""
    for part in ("training cases", "held-out cases"):
        old, new = before[part], now[part]
        if changed := [name for name in new if name in old and old[name] != new[name]]:
            return f"the files of {len(changed)} {part} changed, the first is {changed[0]}"
        if moved := sorted(old.keys() ^ new.keys()):
            return f"{moved[0]} is not among both the {part} of then and of now"
    for name, value in now["settings"].items():
        if before["settings"].get(name) != value:
            was = shortened(str(before["settings"].get(name)))
            return f"{name.replace('_', ' ')} was {was} and is now {shortened(str(value))}"
    if before["version"] != now["version"]:
        return f"it was begun by MedDiffusion {before['version']}, and this is {now['version']}"
    part = next(name for name in ("preset", "generator") if before[name] != now[name])
    return f"the {part} is another"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
