"""The check before training: every problem found before any hour is spent.

It judges the cases' records (:mod:`.fingerprint`), which the store makes by one read of each file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import Cancelled
from ...volumes.volume import Grid
from .cases import CaseFiles, DataSet
from .findings import PERCENTILES, DataReport, Finding, Intensities, Severity
from .fingerprint import CaseRecord, Contents, thinned, triple
from .store import CaseStore

_MOST_VOXELS = 2_000_000
"""Of all cases together, for a contrast's intensity percentiles in a region."""
_RARE_SHARE, _RARE_CASES = 0.1, 3
"""A label value in a smaller share of the cases, and in fewer cases, is too rare to learn."""


def check(
    data: DataSet,
    store: CaseStore,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> DataReport:
    """Look at every case and report what is wrong with each and what they are like together.

    ``on_case`` receives how many cases are done, of how many. Raises Cancelled soon after
    ``is_stopped`` says so, and UserError where ``store`` cannot be written; problems of the data
    are findings and raise nothing. What was read is kept, however the check ends.
    """
    inspection = _Inspection(data, store)
    try:
        for done, case in enumerate(data.cases, start=1):
            if is_stopped():
                raise Cancelled
            inspection.add(case, store.record(case))
            on_case(done, len(data.cases))
    finally:
        store.save()
    return inspection.report()


class _Inspection:
    """Gathers findings and statistics case by case."""

    def __init__(self, data: DataSet, store: CaseStore) -> None:
        self.data = data
        self.store = store
        self.findings: list[Finding] = []
        self.good: list[CaseRecord] = []
        self.names: dict[int, str] = dict(data.label_names)
        self.whole_numbers = [True] * len(data.channels)
        self.seen: dict[tuple[str, str], Path] = {}
        """Kind of file and digest of its voxels -> the first file that held them."""

    def add(self, case: CaseFiles, record: CaseRecord) -> None:
        """Judge a case; its statistics count only where nothing is wrong with it."""
        before = len(self.findings)
        self._check_contrasts(case)
        if case.labels is not None:
            self._check_contents(case, case.labels, record.labels)
        for number, (path, image) in enumerate(zip(case.images, record.images, strict=True)):
            self._check_contents(case, path, image)
            if not image.problem:
                self._check_duplicate(case, path, image, "image")
            if image.grid is None or record.labels.grid is None:
                continue
            if problem := _difference(image.grid, record.labels.grid):
                other, what = case.labels, "label map"
                if other is None:
                    other, what = case.images[0], "other image"
                self._error(
                    case, other,
                    f"{other.name} and its image {path.name} differ in {problem}",
                    f"resample the {what} onto the image's grid, with 3D Slicer for example",
                )  # fmt: skip
            elif not image.whole_numbers:
                self.whole_numbers[number] = False
        if case.labels is not None and record.labels.grid is not None:
            self._check_duplicate(case, case.labels, record.labels, "label map")
            self._check_names(case, case.labels, record)
        if not any(found.severity is Severity.ERROR for found in self.findings[before:]):
            self.good.append(record)

    def report(self) -> DataReport:
        """What was gathered, with the findings on the data set as a whole in front."""
        report = DataReport(
            len(self.data.cases),
            tuple(self.findings),
            tuple(record.facts for record in self.good if record.facts),
            tuple(self._intensities(n) for n in range(len(self.data.channels)) if self.good),
            {value: self.names[value] for value in sorted(self.names)},
        )
        findings = (*_data_set_findings(self.data, report), *report.findings)
        return replace(report, findings=findings)

    def _check_contrasts(self, case: CaseFiles) -> None:
        wanted = self.data.channels
        if len(case.images) != len(wanted):
            has = ", ".join(path.name for path in case.images) or "no image"
            self._error(
                case, case.labels or Path(case.name),
                f"{case.name} has {len(case.images)} of the {len(wanted)} contrasts "
                f"{', '.join(wanted)} ({has})",
                "add the missing images, or leave the case or the contrast out",
            )  # fmt: skip

    def _check_contents(self, case: CaseFiles, path: Path, contents: Contents) -> None:
        if contents.problem:
            self._error(case, path, f"{path.name} {contents.problem}", contents.remedy)

    def _check_duplicate(self, case: CaseFiles, path: Path, contents: Contents, kind: str) -> None:
        first = self.seen.setdefault((kind, contents.voxels), path)
        if first != path:
            shown = first.name if first.name != path.name else str(first)
            self.findings.append(Finding(
                Severity.WARNING, case.name, str(path),
                f"{path.name} has the same voxels as the {kind} {shown}",
                "leave one of the two out: a case that comes twice makes validation look too good",
            ))  # fmt: skip

    def _check_names(self, case: CaseFiles, labels: Path, record: CaseRecord) -> None:
        """Names in the label maps themselves add to the data set's and must agree."""
        named = record.label_names
        for value in sorted(named.keys() - self.data.label_names.keys()):
            known = self.names.setdefault(value, named[value])
            if known.lower() != named[value].lower():
                self._error(
                    case, labels,
                    f"{labels.name} calls the label {value} {named[value]}, others call it "
                    f"{known}",
                    "give each label the same value in all label maps",
                )  # fmt: skip

    def _error(self, case: CaseFiles, path: Path, sentence: str, remedy: str) -> None:
        self.findings.append(Finding(Severity.ERROR, case.name, str(path), sentence, remedy))

    def _intensities(self, channel: int) -> Intensities:
        """Percentiles over the good cases, of equally many voxels each, of a bounded number."""
        most = max(1, _MOST_VOXELS // len(self.good))
        every, labelled = [], []
        for record in self.good:
            parts = self.store.samples(record, channel)
            every.append(thinned(parts[0], most))
            labelled.append(thinned(parts[1], most))
        return Intensities(
            self.data.channels[channel],
            triple(np.percentile(np.concatenate(every), PERCENTILES)),
            triple(np.percentile(np.concatenate(labelled), PERCENTILES)),
            self.whole_numbers[channel],
        )


def _difference(image: Grid, labels: Grid) -> str | None:
    """How two grids differ, in words with both values, or None."""
    if image.equals(labels):
        return None
    if image.size != labels.size:
        return f"size ({_triple(labels.size)} and {_triple(image.size)} voxels)"
    if not np.allclose(image.spacing, labels.spacing, rtol=1e-3):
        return f"spacing ({_triple(labels.spacing)} and {_triple(image.spacing)} mm)"
    if not np.allclose(image.direction, labels.direction, atol=1e-3):
        return "the direction of their axes"
    return f"position (origin {_triple(labels.origin)} and {_triple(image.origin)} mm, RAS)"


def _triple(values: NDArray | tuple[int, int, int]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _data_set_findings(data: DataSet, report: DataReport) -> list[Finding]:
    """Warnings on the data set as a whole."""
    findings: list[Finding] = []

    def warn(sentence: str, remedy: str, file: str = "") -> None:
        findings.append(Finding(Severity.WARNING, "", file, sentence, remedy))

    if len(report.facts) == 1:
        warn(
            "Only one case is usable, so nothing tells learning from memorizing",
            "add cases; a model of one case serves to try things out",
        )
    for path in data.unmatched:
        warn(
            f"{path.name} has no partner among the images and label maps and is left out",
            "rename or add its partner, or take the file away",
            str(path),
        )
    values = report.label_values
    if values and not report.label_names:
        warn(
            "The labels have no names",
            "name them in a plan file, in a dataset.json, or in .seg.nrrd label maps",
        )
    elif unnamed := [value for value in values if value not in report.label_names]:
        warn(
            f"The label values {_listed(unnamed)} occur and have no name",
            "name them, or set them to 0 in the label maps",
        )
    few = min(_RARE_CASES, _RARE_SHARE * len(report.facts))
    counts = {v: sum(v in facts.voxels for facts in report.facts) for v in values}
    if rare := [value for value, count in counts.items() if count < few]:
        warn(
            f"The label values {_listed(rare)} occur in fewer than {few:g} of "
            f"{len(report.facts)} cases",
            "expect them to be synthesized poorly; add cases, or set them to 0",
        )
    return findings


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:20])) + (" ..." if len(values) > 20 else "")
