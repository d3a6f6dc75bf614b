"""From what a user asks for to a training run: find the data, check them, plan, split, train.

The one way in: the command and the Slicer module both fill a :class:`TrainingRequest`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..bundles.names import MANIFEST_NAME
from ..compute.devices import choose_device
from ..compute.distributed import choose_local_device, process_group
from ..compute.errors import UserError
from ..compute.execution import Execution, choose_execution
from ..compute.files import write_json
from ..compute.parsing import shortened
from ..synthesis.settings import check_seed
from .data.cases import CaseFiles, DataSet, find_data
from .data.findings import DataReport, Finding, Severity
from .data.fingerprint import files_of
from .data.latents import view_bytes
from .data.loaded_cases import disk_needed
from .data.preflight import check
from .data.store import CaseStore
from .loop.checkpoint import read_identity
from .loop.job import TrainingJob
from .loop.log import TrainingReport
from .loop.run import OnReport, Outcome
from .loop.stopping import StopWatch
from .loop.train import check_folder, train
from .output import check_output, held_output, refuse_own_inputs
from .plan.estimates import check_memory
from .plan.planning import (
    describe_plan,
    estimate,
    make_plan,
    merge,
    model_name,
    split_groups,
    why_not_learned,
    why_representation,
)
from .plan.presets import check_card, is_complete, label_names, preset_path, read_preset, read_split
from .plan.reuse import (
    check_representation,
    check_start,
    is_learned,
    with_model,
    with_representation_of,
)
from .plan.settings import (
    Limits,
    RepresentationSettings,
    check_distillation,
    check_manifest,
    read_settings,
    with_defaults,
)

_MOST_NAMED = 5
_LONGEST_COMMAND = 2000


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on, how, for how long, and where the model goes; None: not given."""

    output: Path
    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    preset: str | None = None
    start_from: str | None = None
    split: Path | None = None
    group_pattern: str | None = None
    skip_bad: bool = False
    minutes: float | None = None
    iterations: int | None = None
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    name: str | None = None
    license: str | None = None
    attribution: str | None = None

    @property
    def command(self) -> str:
        """The command that does this, as the model card quotes it: no machine's folders."""
        words = ["meddiffusion train"]
        for option in ("data", "images", "labels", "split", "output"):
            path = getattr(self, option)
            words += [f"--{option} {path.name}"] if path else []
        words += [f"--preset {Path(self.preset).name}"] if self.preset else []
        words += [f"--start-from {Path(self.start_from).name}"] if self.start_from else []
        words += [f"--group-pattern {self.group_pattern!r}"] if self.group_pattern else []
        words += ["--skip-bad"] if self.skip_bad else []
        words += [f"--minutes {self.minutes:g}"] if self.minutes else []
        words += [f"--iterations {self.iterations}"] if self.iterations else []
        return shortened(" ".join([*words, f"--seed {self.seed}"]), _LONGEST_COMMAND)


@dataclass(frozen=True)
class Checked:
    """What a check found, and what a run would do: ``plan`` is empty where no case is good."""

    findings: DataReport
    plan: str
    usable: bool
    """Whether a run could be started."""

    def describe(self) -> str:
        """All of it as text."""
        plan = ["", "Plan", self.plan] if self.plan else []
        return "\n".join([self.findings.describe(), *plan])

    def write(self, path: Path) -> None:
        """Write all of it as JSON; raises UserError where that is not possible."""
        content = {**self.findings.to_json(), "plan": self.plan, "usable": self.usable}
        try:
            write_json(path, content)
        except OSError as error:
            raise UserError(
                f"cannot be written ({error.strerror})",
                "choose a folder in which you may write",
                path=path,
            ) from error


def check_request(request: TrainingRequest, on_report: OnReport = lambda report: None) -> Checked:
    """Look at every file and plan a run, without starting it.

    What was read is kept in the output folder, where the run will take it from; but no voxels are
    left in one that holds a model already. Raises UserError where there is no data set, the output
    cannot be written, or the request itself cannot be used.
    """
    device = choose_device(request.device)
    check_output(request.output)
    data = _find(request)
    with held_output(request.output):
        try:
            findings = _check(request, data, on_report)
        finally:
            if (request.output / MANIFEST_NAME).exists():
                CaseStore(request.output).remove_voxels()
        return _checked(request, data, findings, device)


def _checked(
    request: TrainingRequest, data: DataSet, findings: DataReport, device: torch.device
) -> Checked:
    if not findings.facts:
        return Checked(findings, "", False)
    usable = findings.usable(data)
    plan = _plan(request, usable, findings, device)
    cases, validation = _parts(request, usable)
    costs = estimate(plan, device.type, len(cases), measure=True)
    parts = f"{len(cases)} cases to train on, {len(validation)} to validate with"
    manifest = check_manifest(plan["manifest"])
    disk_bytes = disk_needed(findings.facts, manifest)
    if own := plan["training"].get("representation"):
        views = own.get("views", RepresentationSettings.views)
        disk_bytes += len(findings.facts) * views * view_bytes(manifest)
    reason = ""
    if not request.preset and not request.resume:
        refusal = why_not_learned(len(findings.facts), device.type, request.minutes)
        reason = why_representation(plan["manifest"], device.type, refusal)
    text = f"{describe_plan(plan, costs, disk_bytes, reason)}\n{parts}"
    return Checked(findings, text, not _stopping(request, findings))


def start_training(request: TrainingRequest, on_report: OnReport = lambda report: None) -> Outcome:
    """Check the data and train; see :func:`.loop.train.train`.

    Under torchrun every process calls this, and the first settles everything for all of them.
    Raises UserError for anything that cannot be used, with the check's first problem in it, and
    Cancelled where it is stopped before training began.
    """
    limits = Limits(request.iterations, request.minutes)
    choose_local_device()
    device = choose_device(request.device)
    with ExitStack() as stack:
        stop = stack.enter_context(StopWatch())
        ranks = stack.enter_context(process_group(device))
        settled = None
        if ranks.is_main:
            check_folder(request.output, request.resume)
            data = _find(request)
            stack.enter_context(held_output(request.output))
            stack.enter_context(stop.file_in(request.output))
            settled = _settle(request, data, device, stop, on_report)
        settled = ranks.broadcast(settled)
        by_name = {case.name: case for case in _find(request).cases}
        cases, validation = (
            tuple(by_name[name] for name in settled[part]) for part in ("train", "validation")
        )
        job = TrainingJob(
            cases, request.output, settled["plan"], limits,
            Execution(device, **settled["execution"]), validation, request.seed, request.command,
            request.resume,
        )  # fmt: skip
        return train(job, ranks=ranks, stop=stop, on_report=on_report)


def _settle(
    request: TrainingRequest,
    data: DataSet,
    device: torch.device,
    stop: StopWatch,
    on_report: OnReport,
) -> dict[str, Any]:
    """What the main process tells the others: the plan, the cases by name, the precision."""
    findings = _check(request, data, on_report, lambda: stop.reason is not None)
    if stopping := _stopping(request, findings):
        more = f", and {len(stopping) - 1} more problems" if len(stopping) > 1 else ""
        first = stopping[0]
        raise UserError(
            f"The data cannot be trained on: {first.sentence} ({first.remedy}){more}",
            "check the data to see all problems, or leave the bad cases out",
            code="data-unusable",
        )
    for warning in _warnings(findings):
        on_report(TrainingReport("checking", 1.0, note=f"warning: {warning}"))
    usable = findings.usable(data)
    plan = _plan(request, usable, findings, device)
    cases, validation = _parts(request, usable)
    check_memory(check_manifest(plan["manifest"]), device)
    execution = choose_execution(device)
    return {
        "plan": plan,
        "train": [case.name for case in cases],
        "validation": [case.name for case in validation],
        "execution": {"bf16": execution.bf16, "channels_last": execution.channels_last},
    }


def _find(request: TrainingRequest) -> DataSet:
    """The data set, with the names that the preset gives to labels; no voxel is read.

    Whatever can be wrong with the request itself is found here as well.
    """
    check_seed(request.seed)
    check_card({name: getattr(request, name) for name in ("name", "license", "attribution")})
    preset = read_preset(request.preset) if request.preset else {}
    split = read_split(request.split) if request.split else None
    data = find_data(
        request.data, request.images, request.labels, request.group_pattern,
        [*split.train, *split.validation] if split else None,
    )  # fmt: skip
    refuse_own_inputs(request.output, _read_by(request, data), resume=request.resume)
    return replace(data, label_names={**data.label_names, **label_names(preset)})


def _read_by(request: TrainingRequest, data: DataSet) -> Iterator[Path]:
    """All files and folders that a run reads."""
    given = (request.data, request.images, request.labels, request.split)
    yield from (path for path in given if path is not None)
    if request.preset:
        yield preset_path(request.preset)
    for case in data.cases:
        for path in case.files:
            yield path
            yield from files_of(path)


def _check(
    request: TrainingRequest,
    data: DataSet,
    on_report: OnReport,
    is_stopped: Callable[[], bool] = lambda: False,
) -> DataReport:
    def on_case(done: int, total: int) -> None:
        on_report(TrainingReport("checking", done / total))

    return check(data, CaseStore(request.output), on_case, is_stopped)


def _stopping(request: TrainingRequest, findings: DataReport) -> list[Finding]:
    """The errors that forbid training: those of single cases only where none may be left out."""
    return [error for error in findings.errors if not (request.skip_bad and error.case)]


def _warnings(findings: DataReport) -> list[str]:
    """What a run should not start without saying, in sentences; the check has all of it."""
    warnings = []
    if bad := findings.bad_cases:
        named = ", ".join(bad[:_MOST_NAMED]) + (" and more" if len(bad) > _MOST_NAMED else "")
        warnings.append(f"{len(bad)} of {findings.case_count} cases are left out: {named}.")
    general = [f for f in findings.findings if f.severity is Severity.WARNING and not f.case]
    warnings += [f"{f.sentence}: {f.remedy}." for f in general[:_MOST_NAMED]]
    if len(general) > _MOST_NAMED:
        warnings.append(f"{len(general) - _MOST_NAMED} more like these: the check lists them.")
    return warnings


def _plan(
    request: TrainingRequest, usable: DataSet, findings: DataReport, device: torch.device
) -> dict[str, Any]:
    """The plan: that of the run to be resumed, a complete preset, or one made from the data.

    A plan made anew might differ where there is less free memory than when the run was started.
    Raises UserError where it cannot be used, whoever wrote it.
    """
    given = read_preset(request.preset) if request.preset else {}
    before = read_identity(request.output)["plan"] if request.resume else None
    start = request.start_from or given.get("training", {}).get("start_from")
    if is_complete(given):
        plan = {
            **given,
            "training": {**given["training"], **({"start_from": start} if start else {})},
        }
    elif before and not given:
        plan = before
    else:
        name = before["manifest"]["title"] if before and not request.name else _name(request)
        disk = shutil.disk_usage(request.output).free
        made = make_plan(
            usable, findings, device.type, name, minutes=request.minutes, disk_bytes=disk
        )
        own = given.get("training", {}).get("representation", {})
        if own.get("from"):
            made = with_representation_of(made, own["from"])
        if start:
            made = with_model(made, start)
        made["training"] = with_defaults(made["training"])
        plan = merge(made, given, request.preset or "")
        if not own and not is_learned(check_manifest(plan["manifest"])):
            del plan["training"]["representation"]
    # The folder's name may have changed since a run was started; what its card says has not.
    known = before["manifest"] if before else {}
    card = {
        name: getattr(request, name) or known.get(name)
        for name in ("name", "license", "attribution")
    }
    manifest = {**plan["manifest"], **{k: v for k, v in card.items() if v is not None}}
    settings = read_settings(plan["training"])
    checked = check_manifest(manifest)
    if checked.labels and not findings.label_values:
        raise UserError(
            "The plan has labels, and nothing is labelled in the data",
            "give label maps, or take the labels out of the plan",
        )
    if not request.resume:
        check_representation(checked, settings.representation)
        check_start(checked, settings.start_from)
        check_distillation(checked, settings)
    return {"manifest": manifest, "training": plan["training"]}


def _name(request: TrainingRequest) -> str:
    """The model's name: as given, else the output folder's as far as a name may be like it."""
    return request.name or model_name(request.output.resolve().name) or "model"


def _parts(
    request: TrainingRequest, usable: DataSet
) -> tuple[tuple[CaseFiles, ...], tuple[CaseFiles, ...]]:
    """The cases to train on and those to validate with."""
    if request.split is None:
        training, validating = split_groups(usable, request.seed)
        return training.cases, validating.cases
    split = read_split(request.split)
    by_name = {case.name: case for case in usable.cases}
    cases, validation = (
        tuple(by_name[name] for name in names if name in by_name)
        for names in (split.train, split.validation)
    )
    if not cases:
        raise UserError(
            f"None of the cases under train in {request.split} is usable",
            "see the check's findings",
        )
    return cases, validation
