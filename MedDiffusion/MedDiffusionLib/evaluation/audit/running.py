"""The one way in: from a request to a report on the disk, and to the model's card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...bundles.auditing import write_audit
from ...bundles.catalog import find_model
from ...bundles.manifest import read_manifest
from ...compute.errors import UserError
from ...compute.files import atomic_together, json_bytes, refuse_existing
from ...compute.locks import folder_lock
from ...synthesis.synthesizer import load
from .audit import Audit, OnProgress
from .report import PAGE_NAME, page
from .request import AuditRequest, find_audited
from .results import JSON_NAME, card_of, read_report, report_content
from .work import FOLDER_NAME, remove_work


@dataclass(frozen=True)
class Audited:
    """A report that is written: its verdict, the reasons, and its page."""

    verdict: str
    sentences: tuple[str, ...]
    page: Path


def run_audit(
    request: AuditRequest,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Audited:
    """Audit a model and write ``audit.json`` and ``report.html`` into the output folder.

    What a stopped run has finished is kept there and taken up again. Raises UserError for input
    that cannot be used, and where there is a report already.
    """
    request.check()
    files = [request.output / name for name in (JSON_NAME, PAGE_NAME)]
    if not overwrite:
        refuse_existing(files)
    manifest = read_manifest(find_model(request.model))
    if not manifest.labels:
        raise UserError(
            f"{manifest.name} knows no labels, and an audit compares what is made of label maps",
            "audit a model that takes label maps",
            code="model-without-labels",
        )
    cases = find_audited(request, manifest)
    synthesizer = load(request.model, request.device)
    with _held(request.output):
        audit = Audit(request, cases, synthesizer, on_progress)
        measured = audit.measure()
        content, judged = report_content(
            request, cases, manifest, measured, synthesizer.execution.device.type
        )
        text = page(content, measured, judged)
        with atomic_together(files) as (numbers, shown):
            numbers.write_bytes(json_bytes(content))
            shown.write_text(text, "utf-8", newline="")
        # A report is there now, and pictures of patients stay in it alone.
        remove_work(request.output)
    return Audited(judged.verdict, judged.sentences, files[1])


def write_card(model: str, report: Path) -> str:
    """Write a report's verdict onto the card of the model that it is about; returns the verdict.

    ``report``: the report's folder, or its ``audit.json``. The figures are made anew from its
    numbers first. Raises UserError where they differ, or the model has other weights.
    """
    path = report / JSON_NAME if report.is_dir() else report
    content = read_report(path)
    write_audit(find_model(model), card_of(path, content))
    verdict: str = content["verdict"]
    return verdict


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Hold the output folder; raises UserError where another run does, or it cannot be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        work = output / FOLDER_NAME
        work.mkdir(exist_ok=True)
        try:
            with folder_lock(output), folder_lock(work):
                yield
        finally:
            # Where nothing was made nothing is left.
            for folder in (work, output):
                with suppress(OSError):
                    folder.rmdir()
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "choose a folder in which you may write, with room for it",
            path=output,
        ) from error
