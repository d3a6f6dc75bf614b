"""Whether a study is blind: what its files tell without a voxel, and what simple cues tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..statistics.area import Area, area
from ..volumes.reading import read_image
from .cues import CUES
from .facts import NUMBERS, ORDERS, TEXT, facts_of, shown, strays
from .key import Arm, Key
from .study import Study

_RIDGE = 1e-3
_LEAST = 3
"""Volumes of each arm from which on cues are taken together."""
TOGETHER = "all of these together"


@dataclass(frozen=True)
class Finding:
    """What was found of one fact of the files: whether it may stay so, and in words why.

    ``area``: how well it tells the arms apart, where it differs and the key was given.
    """

    fact: str
    is_blind: bool
    said: str
    area: Area | None = None


@dataclass(frozen=True)
class Check:
    """What a check found. ``cues``: empty without the key."""

    findings: tuple[Finding, ...]
    cues: Mapping[str, Area]

    @property
    def is_blind(self) -> bool:
        """Whether no fact but voxels tells, or may tell, an arm."""
        return all(finding.is_blind for finding in self.findings)

    @property
    def warnings(self) -> list[str]:
        """A sentence for each cue that a reader could use."""
        sentences = []
        for cue, found in self.cues.items():
            if not found.tells:
                continue
            if cue == TOGETHER:
                sentences.append(
                    f"Taken together, the cues tell a real from a synthetic volume in "
                    f"{found.estimate:.0%} of pairs."
                )
                continue
            more, share = ("real", found.estimate)
            if found.estimate < 0.5:
                more, share = ("synthetic", 1 - found.estimate)
            sentences.append(
                f"A reader could use the {cue}: of a real and a synthetic volume the {more} one "
                f"has more in {share:.0%} of pairs."
            )
        return sentences

    def describe(self) -> str:
        """The check as a text of several lines."""
        lines = ["Files, without their voxels:"]
        lines += [f"  {'ok  ' if f.is_blind else 'LEAK'} {f.fact}: {f.said}" for f in self.findings]
        if self.cues:
            lines.append("Voxels: how often a real volume has more of it than a synthetic one:")
            lines += [f"  {'!   ' if a.tells else '    '} {cue}: {_said(a)}"
                      for cue, a in self.cues.items()]  # fmt: skip
            lines += [
                *self.warnings,
                "Intervals are of 95 %: of cues that tell nothing one in twenty is marked.",
            ]
        else:
            lines.append("Voxels: give the key to learn what they tell.")
        if not self.is_blind:
            lines.append("The study is not blind.")
        else:
            voxels = ", but voxels do, as said above" if self.warnings else ""
            lines.append(f"Nothing but voxels tells the arms apart{voxels}.")
        return "\n".join(lines)


def check_study(
    study: Study, key: Key | None, on_progress: Callable[[int, int], None] = lambda *_: None
) -> Check:
    """Check a study; with its key, also whether what differs tells the arms apart.

    ``on_progress``: volumes read, of how many. Raises UserError for a file that cannot be read.
    """
    paths = [path for case in study.cases for path in case.files]
    training = [path for each in study.training for path in each.case.files]
    facts = {path: facts_of(study, path) for path in [*paths, *training]}
    arms = _arms(study, key)
    findings = [_strays(study)]
    findings += [_text(fact, {p: f[fact] for p, f in facts.items()}) for fact in TEXT]
    findings += [_number(fact, {p: f[fact] for p, f in facts.items()}, arms) for fact in NUMBERS]
    if key is not None:
        findings += [_order(fact, {p: facts[p][fact] for p in paths}, arms) for fact in ORDERS]
    cues: dict[str, Area] = {}
    if key is not None:
        measured = np.empty((len(paths), len(CUES)))
        for row, path in enumerate(paths):
            on_progress(row + 1, len(paths))
            array = read_image(path).array
            measured[row] = [cue(array) for cue in CUES.values()]
        cues = areas_of_cues(measured, [arms[path] for path in paths])
    return Check(tuple(findings), cues)


def areas_of_cues(measured: NDArray[np.float64], arms: Sequence[Arm]) -> dict[str, Area]:
    """How well each of :data:`CUES`, and all together, tell the arms apart; ``measured`` ``[N, C]``
    holds a volume's cues in a row, ``arms`` ``[N]`` what it is."""
    areas = {cue: _area(measured[:, n], arms) for n, cue in enumerate(CUES)}
    if min(arms.count("real"), arms.count("synthetic")) >= _LEAST:
        areas[TOGETHER] = _area(_left_out(measured, np.array(arms) == "real"), arms)
    return areas


def _arms(study: Study, key: Key | None) -> dict[Path, Arm]:
    if key is None:
        return {}
    return {path: truth.arm for case in study.cases
            for path, truth in zip(case.files, key.truths[case.id], strict=True)}  # fmt: skip


def _strays(study: Study) -> Finding:
    found = strays(study)
    said = f"{', '.join(found[:3])} should not be there" if found else "none"
    return Finding("other files in the folder", not found, said)


def _text(fact: str, values: Mapping[Path, str | float]) -> Finding:
    if len(set(values.values())) == 1:
        return Finding(fact, True, "identical")
    return Finding(fact, False, f"differs ({shown(values)})")


def _number(fact: str, values: Mapping[Path, str | float], arms: Mapping[Path, Arm]) -> Finding:
    if len(set(values.values())) == 1:
        return Finding(fact, True, "identical")
    # A choice has a volume at each place, and which is the real one only the key tells.
    if not arms and fact == "place in the case":
        return Finding(fact, True, "one of each, as it must be")
    if not arms:
        return Finding(fact, False, f"differs ({shown(values)})")
    return _order(fact, {path: value for path, value in values.items() if path in arms}, arms)


def _order(fact: str, values: Mapping[Path, str | float], arms: Mapping[Path, Arm]) -> Finding:
    found = _area([float(value) for value in values.values()], [arms[path] for path in values])
    what = "tells the arms apart" if found.tells else "differs, but tells nothing"
    return Finding(fact, not found.tells, f"{what} ({_said(found)})", found)


def _area(values: Sequence[float] | NDArray, arms: Sequence[Arm]) -> Area:
    rows = list(zip(values, arms, strict=True))
    return area([v for v, arm in rows if arm == "real"], [v for v, arm in rows if arm != "real"])


def _left_out(measured: NDArray[np.float64], is_real: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How real each volume looks by all cues ``[N, C]``, by Fisher's discriminant of the others."""
    spread = measured.std(0)
    scaled = (measured - measured.mean(0))[:, spread > 0] / spread[spread > 0]
    scores = np.zeros(len(scaled))
    for left in range(len(scaled)):
        kept = np.arange(len(scaled)) != left
        first, second = scaled[kept & is_real], scaled[kept & ~is_real]
        means = first.mean(0), second.mean(0)
        within = np.concatenate([first - means[0], second - means[1]])
        scatter = within.T @ within / len(within) + _RIDGE * np.eye(scaled.shape[1])
        direction = np.linalg.solve(scatter, means[0] - means[1])
        scores[left] = (scaled[left] - (means[0] + means[1]) / 2) @ direction
    return scores


def _said(found: Area) -> str:
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
