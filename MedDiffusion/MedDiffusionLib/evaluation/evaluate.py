"""The whole evaluation of a model: from a request to a folder with a page, its JSON and pictures.

Numbers of one case after the other (:mod:`.measuring`), then of pairs of cases, then figures of all
(:mod:`.summary`). One case's volumes are in memory at a time, two where cases are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import scipy
import torch

from ..bundles.manifest import Manifest
from ..compute.errors import Cancelled, UserError
from ..compute.files import atomic, write_json
from ..compute.locks import folder_lock
from ..compute.parsing import read_json
from ..compute.version import __version__
from ..synthesis.settings import ResolvedSettings
from ..synthesis.synthesis import Step
from ..synthesis.synthesizer import Synthesizer, load
from ..training.loop.log import TrainingReport
from ..training.loop.names import PRIVATE_NAME
from ..training.loop.stopping import StopWatch
from .cases import real_case
from .features import EXTRACTORS, Extractor
from .features.encoders import SegmenterFeatures
from .features.weights import read_weights
from .figure import Figure
from .figures.similarity import pairs_of
from .findings import findings_of, refuse_mixed
from .measuring import Plan, measured, measured_pair, medians
from .report.card import card
from .report.page import page
from .report.pictures import pictures
from .request import EvaluationData, EvaluationRequest, KnownCase, find_evaluation_data
from .results import Results
from .segmenters.segmenter import Segmenter
from .segmenters.training import (
    is_trained,
    remove_training_voxels,
    require_segmenter,
    trained_segmenter,
)
from .subjects import SUBJECTS
from .subjects.base import Tools
from .summary import summarize

JSON_NAME = "report.json"
PAGE_NAME = "report.html"
CARD_NAME = "card.json"
"""Figures as a model's card has them."""
PICTURES_NAME = "pictures"
CASES_NAME = "cases"
MARK_NAME = "evaluation.json"
"""Says whose folder it is; there before anything else."""
_FORMAT = 1
_MOST_PAIRS = 60
_OF_VOLUMES = ("architecture", "labels", "channels", "grid", "intensity")
"""What in a manifest volumes depend on; the rest is the model's card."""
_TRAINING_LOOK = 6
"""Training cases that held-out ones are compared with, as to whether they are of their contrast."""
_PRIVATE = """\
This folder is not to be passed on: its page, its pictures and the folder "cases" show patients'
scans, and its files hold the names of cases.
"""

OnProgress = Callable[[str], None]
"""Receives where the evaluation stands, in words."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is done: the report's content, and its figures."""

    content: dict[str, Any]
    figures: tuple[Figure, ...]
    missing: tuple[str, ...]
    findings: tuple[str, ...]
    folder: Path


def evaluate(
    request: EvaluationRequest,
    stop: StopWatch,
    on_progress: OnProgress = lambda text: None,
) -> Evaluation:
    """Judge a model, and write the report's folder.

    Raises UserError for what cannot be used, and Cancelled where it was asked to stop: what it had
    finished is found by the next evaluation of this folder.
    """
    request.check()
    for name in request.segmenters:
        require_segmenter(name)
    weights = [read_weights(path) for path in request.weights]
    on_progress("reading the model and the data")
    synthesizer = load(request.model, request.device)
    settings = request.settings.resolve(synthesizer.model.manifest)
    data = find_evaluation_data(request, synthesizer.model.manifest)
    with held_report(request.output):
        _check_cases(data.held_out, synthesizer, stop, on_progress)
        segmenters = _segmenters(request, synthesizer, data, stop, on_progress)
        tools = Tools(synthesizer, segmenters, [*_extractors(segmenters), *weights])
        content = _measure(request, settings, data, tools, stop, on_progress)
        on_progress("computing figures")
        evaluation = concluded(content, request.output)
        on_progress("writing the report")
        with _written(request.output):
            _write_report(evaluation, synthesizer.model.manifest, card(request, evaluation.figures))
    return evaluation


def concluded(content: dict[str, Any], folder: Path) -> Evaluation:
    """What was measured, with the figures of it; raises UserError where the data are mixed up."""
    results = Results(content)
    refuse_mixed(results)
    figures, missing = summarize(results, content["settings"]["subjects"])
    findings = findings_of(results)
    whole = {
        **content,
        "figures": [figure.to_json() for figure in figures],
        "missing": missing,
        "findings": findings,
    }
    # Numbers are those that the file holds.
    whole = json.loads(json.dumps(whole))
    return Evaluation(whole, tuple(figures), tuple(missing), tuple(findings), folder)


def _write_report(
    evaluation: Evaluation, manifest: Manifest, figures: list[dict[str, str]]
) -> None:
    """The page, ``figures`` for a card, and last the JSON, which vouches for all.

    Raises OSError.
    """
    folder = evaluation.folder
    shown = pictures(Results(evaluation.content), manifest, folder / CASES_NAME)
    (folder / PICTURES_NAME).mkdir(exist_ok=True)
    for case in shown:
        for name, png in (("real", case.real), ("synthetic", case.synthetic)):
            with atomic(folder / PICTURES_NAME / f"{case.words}-{name}.png") as temporary:
                temporary.write_bytes(png)
    with atomic(folder / PAGE_NAME) as temporary:
        text = page(evaluation.content, evaluation.figures, shown)
        temporary.write_text(text, "utf-8", newline="")
    write_json(folder / CARD_NAME, figures)
    write_json(folder / JSON_NAME, evaluation.content)


@contextlib.contextmanager
def held_report(folder: Path) -> Iterator[None]:
    """Hold a report's folder, made where there is none; raises UserError for one of others."""
    with _written(folder):
        if os.path.lexists(folder) and not _is_ours(folder):
            raise UserError(
                "holds something that is no evaluation",
                "choose a new or empty folder for the report",
                path=folder,
                code="output-foreign",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(folder):
            write_json(folder / MARK_NAME, {"meddiffusion_evaluation": _FORMAT})
            (folder / PRIVATE_NAME).write_text(_PRIVATE, "utf-8")
            (folder / CASES_NAME).mkdir(exist_ok=True)
            with folder_lock(folder / CASES_NAME):
                yield


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return read_json(folder / MARK_NAME)["meddiffusion_evaluation"] == _FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "choose a folder in which you may write, with room for the report",
            path=folder,
        ) from error


def _check_cases(
    cases: Sequence[KnownCase], synthesizer: Synthesizer, stop: StopWatch, on_progress: OnProgress
) -> None:
    """Raise UserError for the first case that cannot be used, before minutes are spent."""
    for number, case in enumerate(cases, start=1):
        _refuse_to_go_on(stop)
        on_progress(f"checking cases, {number}/{len(cases)}")
        real_case(case.files, synthesizer)


def _segmenters(
    request: EvaluationRequest,
    synthesizer: Synthesizer,
    data: EvaluationData,
    stop: StopWatch,
    on_progress: OnProgress,
) -> list[Segmenter]:
    """The segmenters that are wanted, trained where they are not yet."""
    manifest, digests = synthesizer.model.manifest, [case.digest for case in data.training]
    needed = any(SUBJECTS[name].needs_segmenters for name in request.subjects)
    if not needed or not manifest.labels:
        return []
    folder, effort = request.segmenters_in, request.effort(manifest)
    wanted = request.segmenters
    are_there = all(is_trained(name, manifest, digests, folder, effort) for name in wanted)

    def report(said: TrainingReport) -> None:
        left = "" if said.seconds_left is None else f", {said.seconds_left / 60:.1f} min left"
        on_progress(f"{said.words}, {said.progress:.0%}{left}")

    found = []
    for name in wanted:
        found.append(trained_segmenter(
            name, manifest, [case.files for case in data.training], digests, folder,
            synthesizer.execution, effort, stop, report,
        ))  # fmt: skip
    if not are_there:
        remove_training_voxels(folder)
    return found


def _extractors(segmenters: Sequence[Segmenter]) -> list[Extractor]:
    made: list[Extractor] = [make() for make in EXTRACTORS.values()]
    return [*made, *(SegmenterFeatures(segmenter) for segmenter in segmenters)]


def _measure(
    request: EvaluationRequest,
    settings: ResolvedSettings,
    data: EvaluationData,
    tools: Tools,
    stop: StopWatch,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """The content of the report before any figure is made of it."""
    manifest = tools.synthesizer.model.manifest
    inputs = {
        "model": manifest.name,
        "model_version": manifest.version,
        "weights_sha256": tools.synthesizer.model.sha256,
        "manifest_sha256": _sha256({name: manifest.to_json()[name] for name in _OF_VOLUMES}),
        "segmenters": {segmenter.name: segmenter.key for segmenter in tools.segmenters},
        "extractors": {
            extractor.name: getattr(extractor, "sha256", "") for extractor in tools.extractors
        },
    }
    chosen = {
        "seeds": list(request.seeds), "steps": settings.steps, "sampler": settings.sampler,
        "guidance": settings.guidance, "subjects": list(request.subjects),
    }  # fmt: skip
    identity = {"version": __version__, "format": _FORMAT, **inputs, **chosen}
    subjects = [SUBJECTS[name] for name in request.subjects]
    plan = Plan(subjects, request.settings, request.seeds, identity)
    folder = request.output / CASES_NAME
    with _written(folder):
        cases = [
            _case(case, number, data.held_out, plan, tools, folder, stop, on_progress)
            for number, case in enumerate(data.held_out)
        ]
        pairs = []
        wanted = pairs_of(len(cases), _MOST_PAIRS)
        for number, (one, other) in enumerate(wanted):
            _refuse_to_go_on(stop)
            on_progress(f"comparing cases, {number + 1}/{len(wanted)}")
            if cases[one]["patient"] != cases[other]["patient"]:
                found = measured_pair(cases[one], cases[other], plan, folder)
                pairs.append({"cases": [one, other], **found})
    return {
        "meddiffusion_evaluation": _FORMAT,
        "version": __version__,
        "inputs": inputs,
        "settings": {
            **chosen, "part": request.part, "half": request.half,
            "training_cases": len(data.training),
            "segmenter_iterations": request.effort(manifest).iterations,
        },
        "computed": {
            "device": tools.synthesizer.execution.device.type,
            "precision": tools.synthesizer.execution.precision,
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
        },
        "labels": [label.name for label in manifest.labels],
        "channels": [channel.name for channel in manifest.channels],
        "grid": {"spacing": list(manifest.grid.spacing), "size": list(manifest.grid.size)},
        "training_medians": [
            medians(real_case(case.files, tools.synthesizer))
            for case in data.training[:_TRAINING_LOOK]
        ],
        "cases": cases,
        "pairs": pairs,
    }  # fmt: skip


def _case(
    case: KnownCase,
    number: int,
    cases: Sequence[KnownCase],
    plan: Plan,
    tools: Tools,
    folder: Path,
    stop: StopWatch,
    on_progress: OnProgress,
) -> dict[str, Any]:
    where = f"case {number + 1}/{len(cases)}"

    def on_step(volume: int, step: Step) -> None:
        _refuse_to_go_on(stop)
        on_progress(
            f"{where}, volume {volume + 1}/{len(plan.seeds)}, step {step.step}/{step.steps}"
        )

    _refuse_to_go_on(stop)
    on_progress(where)
    return measured(case.files, case.digest, plan, tools, folder, on_step)


def _refuse_to_go_on(stop: StopWatch) -> None:
    if stop.reason:
        raise Cancelled


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
