"""The check before training: every case read once, every problem found before any hour is spent.

Cases are read one at a time and let go, so that memory holds one of them, however many there are.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import Cancelled, UserError
from ...volumes.grids import GridSpec, labelled_box
from ...volumes.reading import read_image, read_label_map
from ...volumes.volume import Grid, Volume
from .cases import CaseFiles, DataSet
from .findings import PERCENTILES, CaseFacts, Finding, Intensities, Report, Severity
from .label_tables import read_label_table

_VOXELS_A_CASE = 10_000
"""Of each case, contrast and region, for the intensity percentiles; as many as nnU-Net takes."""
_RARE_SHARE, _RARE_CASES = 0.1, 3
"""A label value in a smaller share of the cases, and in fewer cases, is too rare to learn."""
_RAS = GridSpec("RAS", (1.0, 1.0, 1.0), (1, 1, 1))


def check(
    data: DataSet,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Read every case and report what is wrong with each and what they are like together.

    ``on_case`` receives how many cases are done, of how many. Raises Cancelled soon after
    ``is_stopped`` says so; problems of the data are findings and raise nothing.
    """
    inspection = _Inspection(data)
    for done, case in enumerate(data.cases, start=1):
        if is_stopped():
            raise Cancelled
        inspection.add(case)
        on_case(done, len(data.cases))
    return inspection.report()


class _Inspection:
    """Gathers findings and statistics case by case."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.findings: list[Finding] = []
        self.facts: list[CaseFacts] = []
        self.names: dict[int, str] = dict(data.label_names)
        self.samples: list[list[tuple[NDArray, NDArray]]] = []
        """Of each case and contrast: intensities of any voxels, and of labelled ones."""
        self.whole_numbers = [True] * len(data.channels)
        self.seen: dict[str, Path] = {}
        """Content hash of voxels -> the first file that held them."""

    def add(self, case: CaseFiles) -> None:
        """Read a case; its statistics count only where nothing is wrong with it."""
        before = len(self.findings)
        self._check_contrasts(case)
        labels = self._read(case, case.labels, read_label_map)
        samples: list[tuple[NDArray, NDArray]] = []
        for number, path in enumerate(case.images):
            image = self._read(case, path, read_image)
            if image is None:
                continue
            self._check_image(case, path, image)
            if labels is None:
                continue
            if problem := _difference(image.grid, labels.grid):
                self._error(
                    case, case.labels,
                    f"{case.labels.name} and its image {path.name} differ in {problem}",
                    "resample the label map onto the image's grid, with 3D Slicer for example",
                )  # fmt: skip
                continue
            samples.append(_samples(image.array, labels.array))
            if not (image.array == np.rint(image.array)).all():
                self.whole_numbers[number] = False
        if labels is not None:
            self._check_duplicate(case, case.labels, labels, "label map")
            self._check_names(case, labels)
        found = self.findings[before:]
        if labels is not None and not any(f.severity is Severity.ERROR for f in found):
            self.facts.append(_facts(case.name, labels))
            self.samples.append(samples)

    def report(self) -> Report:
        """What was gathered, with the findings on the data set as a whole in front."""
        names = {value: self.names[value] for value in sorted(self.names)}
        intensities = tuple(
            _intensities(channel, [case[number] for case in self.samples], whole_numbers)
            for number, (channel, whole_numbers) in enumerate(
                zip(self.data.channels, self.whole_numbers, strict=True)
            )
            if self.samples
        )
        report = Report(
            len(self.data.cases), tuple(self.findings), tuple(self.facts), intensities, names
        )
        findings = (*_data_set_findings(self.data, report), *report.findings)
        return replace(report, findings=findings)

    def _read(self, case: CaseFiles, path: Path, read: Callable[[Path], Volume]) -> Volume | None:
        try:
            return read(path)
        except UserError as error:
            # The readers' sentences are "FILE what is wrong: what to do."
            problem, _, remedy = str(error).removeprefix(str(path)).partition(": ")
            self._error(case, path, f"{path.name}{problem}", remedy.rstrip("."))
        return None

    def _check_contrasts(self, case: CaseFiles) -> None:
        wanted = self.data.channels
        if len(case.images) != len(wanted):
            has = ", ".join(path.name for path in case.images) or "no image"
            self._error(
                case, case.labels,
                f"{case.name} has {len(case.images)} of the {len(wanted)} contrasts "
                f"{', '.join(wanted)} ({has})",
                "add the missing images, or leave the case or the contrast out",
            )  # fmt: skip

    def _check_image(self, case: CaseFiles, path: Path, image: Volume) -> None:
        if image.array.min() == image.array.max():
            self._error(
                case, path,
                f"{path.name} has the value {image.array.flat[0]:g} everywhere",
                "replace it with the scan",
            )  # fmt: skip
            return
        self._check_duplicate(case, path, image, "image")

    def _check_duplicate(self, case: CaseFiles, path: Path, volume: Volume, kind: str) -> None:
        content = np.ascontiguousarray(volume.array)
        digest = hashlib.sha256(f"{kind} {content.shape}".encode())
        digest.update(content.data)
        first = self.seen.setdefault(digest.hexdigest(), path)
        if first != path:
            shown = first.name if first.name != path.name else str(first)
            self.findings.append(Finding(
                Severity.WARNING, case.name, str(path),
                f"{path.name} has the same voxels as the {kind} {shown}",
                "leave one of the two out: a case that comes twice makes validation look too good",
            ))  # fmt: skip

    def _check_names(self, case: CaseFiles, labels: Volume) -> None:
        """Names in the label maps themselves add to the data set's and must agree."""
        named = {segment.value: segment.name for segment in labels.segments}
        named = named or read_label_table(case.labels)
        for value in sorted(named.keys() - self.data.label_names.keys()):
            known = self.names.setdefault(value, named[value])
            if known.lower() != named[value].lower():
                self._error(
                    case, case.labels,
                    f"{case.labels.name} calls the label {value} {named[value]}, others call it "
                    f"{known}",
                    "give each label the same value in all label maps",
                )  # fmt: skip

    def _error(self, case: CaseFiles, path: Path, sentence: str, remedy: str) -> None:
        self.findings.append(Finding(Severity.ERROR, case.name, str(path), sentence, remedy))


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


def _facts(name: str, labels: Volume) -> CaseFacts:
    grid = labels.grid
    order = _ras_order(grid.direction)
    size, spacing = np.array(grid.size)[order], grid.spacing[order]
    low, high = labelled_box(labels, _RAS)
    values, counts = np.unique(labels.array, return_counts=True)
    return CaseFacts(
        name,
        (int(size[0]), int(size[1]), int(size[2])),
        _floats(spacing),
        _floats(size * spacing),
        _floats(high - low),
        {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0},
    )


def _ras_order(direction: NDArray[np.float64]) -> list[int]:
    """Which voxel axis runs most nearly along x, y and z (RAS), each used once."""
    best = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(direction[row, axis]) for row, axis in enumerate(axes)),
    )
    return list(best)


def _floats(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _samples(image: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """Evenly chosen intensities, at most so many: of all voxels, and of the labelled ones."""
    return _thinned(image.ravel()), _thinned(image[labels != 0])


def _thinned(values: NDArray) -> NDArray:
    count = min(values.size, _VOXELS_A_CASE)
    # Copied, or the few values would keep the whole volume in memory.
    return values[np.arange(count) * values.size // count].copy()


def _intensities(
    channel: str, samples: list[tuple[NDArray, NDArray]], whole_numbers: bool
) -> Intensities:
    whole, labelled = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    return Intensities(
        channel,
        _floats(np.percentile(whole, PERCENTILES)),
        _floats(np.percentile(labelled, PERCENTILES)),
        whole_numbers,
    )


def _data_set_findings(data: DataSet, report: Report) -> list[Finding]:
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
