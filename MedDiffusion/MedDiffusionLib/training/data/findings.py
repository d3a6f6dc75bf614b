"""What the preflight check found: problems by file with their remedy, and the data's statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from .cases import DataSet

PERCENTILES = (0.5, 50.0, 99.5)
"""Of the intensities, in the statistics."""
_MANY = 20
"""More findings of the same words than this are counted instead of listed in the text."""


class Severity(str, Enum):
    """Whether a finding stops the training (until its case is left out) or only deserves a look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One problem. ``case`` and ``file`` are empty where it concerns the whole data set.

    ``sentence`` names the file by its name and says what is wrong, ``remedy`` what to do.
    """

    severity: Severity
    case: str
    file: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class CaseFacts:
    """What one usable case is like; triples are along the RAS axes, whatever the file's order.

    ``spacing``, ``extent`` of the scan and ``box`` around all labels in mm, ``size`` in voxels;
    ``voxels`` counts those of each label value but 0. Without any the box is the scan's.
    """

    name: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    extent: tuple[float, float, float]
    box: tuple[float, float, float]
    voxels: Mapping[int, int]


@dataclass(frozen=True)
class Intensities:
    """Intensities of one contrast over all usable cases, each case with equal weight.

    ``whole`` and ``labelled`` are the :data:`PERCENTILES` of all voxels and of the labelled ones;
    ``whole_numbers`` says whether every value is an integer, as Hounsfield units are.
    """

    channel: str
    whole: tuple[float, float, float]
    labelled: tuple[float, float, float]
    whole_numbers: bool


@dataclass(frozen=True)
class DataReport:
    """The result of a preflight check; statistics are those of the usable cases alone.

    ``label_names`` are those of the data set and those that the label maps themselves hold.
    """

    case_count: int
    findings: tuple[Finding, ...]
    facts: tuple[CaseFacts, ...]
    intensities: tuple[Intensities, ...]
    label_names: Mapping[int, str]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def bad_cases(self) -> tuple[str, ...]:
        """Names of the cases that cannot be trained on, in order."""
        return tuple(dict.fromkeys(f.case for f in self.errors if f.case))

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label values that occur, 0 excluded, sorted."""
        return tuple(sorted({value for facts in self.facts for value in facts.voxels}))

    def usable(self, data: DataSet) -> DataSet:
        """The data set without its bad cases; raises UserError where none is left."""
        bad = set(self.bad_cases)
        cases = tuple(case for case in data.cases if case.name not in bad)
        if not cases:
            first = self.errors[0]
            raise UserError(
                f"None of the {len(data.cases)} cases is usable; the first problem: "
                f"{first.sentence}",
                first.remedy,
            )
        return replace(data, cases=cases)

    def to_json(self) -> dict[str, Any]:
        """Findings and statistics as JSON holds them."""
        return {
            "cases": self.case_count,
            "bad_cases": list(self.bad_cases),
            "findings": [{**asdict(f), "severity": f.severity.value} for f in self.findings],
            "labels": self._labels(),
            "scans": self._scans() if self.facts else {},
            "intensities": [asdict(channel) for channel in self.intensities],
        }

    def describe(self) -> str:
        """Findings and statistics as text."""
        bad = len(self.bad_cases)
        lines = [f"{self.case_count} cases, {self.case_count - bad} of them usable"]
        for severity in Severity:
            lines += _listed([f for f in self.findings if f.severity is severity])
        if self.facts:
            lines += ["", "Labels", "  value   cases       voxels  name"]
            lines += [
                f"  {entry['value']:>5}  {entry['cases']:>6}  {entry['voxels']:>11,}  "
                f"{entry['name'] or '(no name)'}"
                for entry in self._labels()
            ]
            lines += ["", "Scans, along right-left, front-back, up-down: least, median, most"]
            for name, rows in self._scans().items():
                shown = (" x ".join(f"{number:g}" for number in row) for row in rows)
                lines.append(f"  {name:<19} {',  '.join(shown)}")
            lines += ["", f"Intensities: percentiles {', '.join(f'{p:g}' for p in PERCENTILES)}"]
            for channel in self.intensities:
                for name, row in (("all", channel.whole), ("labelled", channel.labelled)):
                    numbers = ", ".join(f"{number:g}" for number in row)
                    lines.append(f"  {channel.channel}, {name}: {numbers}")
        return "\n".join(lines)

    def _labels(self) -> list[dict[str, Any]]:
        return [
            {
                "value": value,
                "name": self.label_names.get(value, ""),
                "cases": sum(value in facts.voxels for facts in self.facts),
                "voxels": sum(facts.voxels.get(value, 0) for facts in self.facts),
            }
            for value in self.label_values
        ]

    def _scans(self) -> dict[str, list[list[float]]]:
        """Rows of least, median and most over the cases, each along the three RAS axes."""
        kinds = {
            "size (voxels)": [facts.size for facts in self.facts],
            "spacing (mm)": [facts.spacing for facts in self.facts],
            "scan (mm)": [facts.extent for facts in self.facts],
            "labelled box (mm)": [facts.box for facts in self.facts],
        }
        return {name: _spread(np.array(rows, float)) for name, rows in kinds.items()}


def _spread(rows: NDArray[np.float64]) -> list[list[float]]:
    return [np.round(f(rows, axis=0), 3).tolist() for f in (np.min, np.median, np.max)]


def _listed(findings: Iterable[Finding]) -> list[str]:
    """Findings as lines, by file; of many with the same remedy only the first ones."""
    by_remedy: dict[str, list[Finding]] = {}
    for finding in findings:
        by_remedy.setdefault(finding.remedy, []).append(finding)
    lines: list[str] = []
    for remedy, same in by_remedy.items():
        severity = same[0].severity.value
        lines += ["", *(f"{severity}: {finding.sentence}" for finding in same[:_MANY])]
        if len(same) > _MANY:
            lines.append(f"  and {len(same) - _MANY} more like these")
        lines.append(f"  -> {remedy}")
    return lines
