"""The whole experiment: its tasks, shared with other processes, and the report of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy
import torch

from ...compute.errors import UserError
from ...compute.files import atomic, write_json
from ...compute.version import __version__
from ...training.data.cases import CaseFiles
from ...training.loop.stopping import StopWatch
from ..figures.checks import Floats
from ..json_arrays import array
from ..subjects.label_fidelity import ALL, nanmean
from .arms import REAL
from .cell import CellTask
from .design import Draw
from .folder import FORMAT, free, held, pause, refuse_to_go_on, written
from .gains import Gain, gain, with_holm
from .page import page, sentences
from .preparation import Experiment, OnProgress, prepare
from .request import UtilityRequest
from .volumes import VolumesTask

JSON_NAME = "utility.json"
PAGE_NAME = "utility.html"


class Task(Protocol):
    """A part of the work with a folder of its own, which whoever does it holds."""

    draw: Draw
    folder: Path
    words: str

    def is_done(self) -> bool: ...

    def is_ready(self) -> bool:
        """Whether all that it needs is there."""

    def do(self, stop: StopWatch, on_progress: OnProgress) -> None: ...


@dataclass(frozen=True)
class Utility:
    """An experiment as far as it is finished."""

    content: dict[str, Any]
    gains: tuple[Gain, ...]
    folder: Path
    open_cells: int

    @property
    def sentences(self) -> list[str]:
        """What was found, in words."""
        return sentences(self.content, self.gains)


def utility(
    request: UtilityRequest,
    stop: StopWatch,
    on_progress: OnProgress = lambda text: None,
    *,
    only_report: bool = False,
) -> Utility:
    """Do what is not done of an experiment, and write its report.

    Other processes may do the same meanwhile. ``only_report``: of what is finished; nothing is
    trained. Raises UserError for what cannot be used, and Cancelled where it was asked to stop:
    what it had finished, and checkpoints, are found the next time.
    """
    with written(request.output):
        experiment = prepare(request, stop, on_progress)
        cells, others = _tasks(experiment)
        if not only_report:
            work([*others, *cells], cells, stop, on_progress)
        results = [result for cell in cells if (result := cell.result())]
        if not results:
            raise UserError(
                "No cell of the experiment is finished",
                "let it run",
                path=request.output,
                code="nothing-finished",
            )
        content = _content(experiment, results)
        gains = _gains(experiment, results)
        found = Utility(
            {**content, "gains": [each.to_json() for each in gains]},
            tuple(gains),
            request.output,
            len(cells) - len(results),
        )
        with held(request.output, stop):
            _write(found)
            if not found.open_cells:
                # Patients' voxels, and what can be made again.
                experiment.store.remove_voxels()
                for task in cells:
                    if task.volumes is not None:
                        task.volumes.remove_prepared()
    return found


def _tasks(experiment: Experiment) -> tuple[list[CellTask], list[Task]]:
    """The cells, and what those that are not done need first."""
    cells: list[CellTask] = []
    volumes: dict[tuple[Draw, str], VolumesTask] = {}
    for cell in experiment.cells:
        place = cell.draw, cell.maps
        if cell.maps and place not in volumes:
            volumes[place] = VolumesTask(experiment, *place)
        task = CellTask(experiment, cell, volumes.get(place))
        cells.append(task)
        if task.volumes is not None:
            task.volumes.users.append(task)
    needed = {
        (task.draw, task.cell.maps): task.volumes
        for task in cells
        if task.volumes is not None and not task.is_done()
    }
    generators = {task.draw: task.generator for task in needed.values() if task.generator}
    return cells, [*generators.values(), *needed.values()]


def work(
    tasks: Sequence[Task], cells: Sequence[CellTask], stop: StopWatch, on_progress: OnProgress
) -> None:
    """Do all tasks, but those that other processes do; returns when all are done."""
    draws = list(dict.fromkeys(task.draw for task in [*cells, *tasks]))
    order = sorted(tasks, key=lambda task: draws.index(task.draw))
    while True:
        has_worked, is_open = False, False
        for task in order:
            refuse_to_go_on(stop)
            if task.is_done():
                continue
            is_open = True
            if not task.is_ready():
                continue
            with free(task.folder) as is_free:
                if not is_free or task.is_done():
                    continue
                done = sum(cell.is_done() for cell in cells)

                def report(
                    text: str, words: str = f"{done}/{len(cells)} cells, {task.words}"
                ) -> None:
                    on_progress(f"{words}: {text}")

                task.do(stop, report)
                has_worked = True
        if not is_open:
            return
        if not has_worked:
            on_progress("waiting for other processes")
            pause(stop)


def _content(experiment: Experiment, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    request, manifest = experiment.request, experiment.manifest
    sampling = request.settings.resolve(manifest)
    return {
        "meddiffusion_utility": FORMAT,
        "version": __version__,
        "settings": {
            **request.fixed(),
            "segmenter_iterations": experiment.effort.iterations,
            "sizes": list(experiment.sizes),
            "seeds": list(request.seeds),
            "arms": list(request.all_arms),
            "maps": list(request.maps) if request.is_synthetic else [],
            "steps": sampling.steps, "sampler": sampling.sampler, "guidance": sampling.guidance,
        },
        "computed": {
            "device": experiment.execution.device.type,
            "precision": experiment.execution.precision,
            "torch": str(torch.__version__),
            "scipy": scipy.__version__,
        },
        "labels": [label.name for label in manifest.labels],
        "training cases": {
            case.name: experiment.digests[case.name] for case in experiment.training
        },
        "held-out cases": {
            case.name: {"patient": case.group, "sha256": experiment.digests[case.name]}
            for case in experiment.held_out
        },
        "draws": [
            {"seed": draw.seed, "cases": draw.size,
             "names": [case.name for case in experiment.cases(draw)]}
            for draw in dict.fromkeys(cell.draw for cell in experiment.cells)
        ],
        "generator": dict(experiment.generator_facts) or None,
        "open cells": len(experiment.cells) - len(results),
        "findings": findings_of(experiment),
        "cells": [dict(result) for result in results],
    }  # fmt: skip


def findings_of(experiment: Experiment) -> list[str]:
    """Sentences about the data that whoever reads the figures must know."""
    said = []
    held_out = {case.name for case in experiment.held_out}
    for name, labels in experiment.lacks.items():
        if labels and name in held_out:
            said.append(
                f"{name}, to test with, lacks {', '.join(labels)}: it counts for the others."
            )
        elif labels:
            said.append(
                f"{name}, to train on, lacks {', '.join(labels)}: segmenters learn that nothing of "
                "it is there."
            )
    facts = experiment.generator_facts
    if facts and facts["seen"] is None:
        said.append(
            f"{facts['name']} has no record of the images that it was trained on: whether it saw "
            "more cases than the segmenters beside it, or those to test with, is not known."
        )
    elif facts and facts["images"] > min(experiment.sizes) * len(experiment.manifest.channels):
        said.append(
            f"{facts['name']} was trained on {facts['images']} images, more than the segmenters of "
            "fewer cases: what its volumes add may come from cases that these never had."
        )
    return said


def _gains(experiment: Experiment, results: Sequence[Mapping[str, Any]]) -> list[Gain]:
    """The gains of all arms, of all labels together first; seeds that lack a cell do not count."""
    by_cell = {
        (each["cases"], each["arm"], each["maps"], each["seed"]): _dice(experiment, each)
        for each in results
    }
    labels = [ALL, *(label.name for label in experiment.manifest.labels)]
    rows = dict.fromkeys((cell.draw.size, cell.arm, cell.maps) for cell in experiment.cells)
    gains: list[Gain] = []
    for number, label in enumerate(labels):
        found = []
        for size, arm, maps in rows:
            seeds = [
                seed
                for seed in experiment.request.seeds
                if (size, arm, maps, seed) in by_cell and (size, REAL, "", seed) in by_cell
            ]
            if arm == REAL or not seeds:
                continue
            own, real = (
                np.stack([_of_label(by_cell[(*row, seed)], number) for seed in seeds])
                for row in ((size, arm, maps), (size, REAL, ""))
            )
            if one := gain(size, arm, maps, label, own, real):
                found.append(one)
        gains += with_holm(found)
    return gains


def _of_label(dice: Floats, number: int) -> Floats:
    """Dice of each patient ``[P]``: of label ``number``, or the mean over labels for 0."""
    return nanmean(dice, -1) if number == 0 else dice[:, number - 1]


def _dice(experiment: Experiment, result: Mapping[str, Any]) -> Floats:
    """A cell's Dice ``[patients, L]``, the mean over each patient's cases."""
    patients: dict[str, list[CaseFiles]] = {}
    for case in experiment.held_out:
        patients.setdefault(case.group, []).append(case)
    return np.stack([
        nanmean(np.stack([array(result["dice"][case.name]) for case in cases]), 0)
        for cases in patients.values()
    ])  # fmt: skip


def _write(found: Utility) -> None:
    """The page, and last the JSON, which vouches for it; raises OSError."""
    with atomic(found.folder / PAGE_NAME) as temporary:
        temporary.write_text(page(found.content, found.gains), "utf-8", newline="")
    write_json(found.folder / JSON_NAME, found.content)
