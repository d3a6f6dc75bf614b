"""What is measured of a case: numbers for figures, and its volumes, small, for comparisons of two.

Each case is a pair of files in the report's folder, named by all that it depends on: an evaluation
that was interrupted finds what it had finished, and one with other settings finds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..compute.files import atomic, atomic_together, json_bytes
from ..compute.parsing import read_json
from ..synthesis.settings import Settings
from ..synthesis.synthesis import Step
from ..training.data.cases import CaseFiles
from ..volumes.volume import Grid
from .cases import Pair, real_case, synthetic
from .json_arrays import listed
from .subjects.base import Kept, Subject, Tools

_CODES = 255
OnStep = Callable[[int, Step], None]
"""Receives which of the case's volumes is being made, and the step."""


@dataclass(frozen=True)
class Plan:
    """How cases are measured. ``identity``: all that numbers depend on besides the case itself."""

    subjects: Sequence[Subject]
    settings: Settings
    seeds: Sequence[int]
    identity: Mapping[str, Any]

    def key(self, name: str, digest: str) -> str:
        """What the files of a case of this name and such contents are named by."""
        content = json.dumps([self.identity, name, digest], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]


def measured(
    files: CaseFiles, digest: str, plan: Plan, tools: Tools, folder: Path, on_step: OnStep
) -> dict[str, Any]:
    """What is known of a case, out of the folder or measured now and kept there.

    Raises UserError where the case cannot be used, what ``on_step`` raises, and OSError.
    """
    path = folder / f"{plan.key(files.name, digest)}.json"
    try:
        known: dict[str, Any] = read_json(path)
        if known["digest"] == digest and volumes_path(folder, known).is_file():
            return {**known, "name": files.name, "patient": files.group}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    pair = real_case(files, tools.synthesizer)
    found: dict[str, Any] = {
        "name": files.name,
        "patient": files.group,
        "digest": digest,
        "key": plan.key(files.name, digest),
        "size": list(pair.grid.size),
        "spacing": (pair.source.grid if pair.source else pair.grid).spacing.tolist(),
        "lacks": lacking(pair, tools),
        "medians": medians(pair),
        "real": _of_case(pair, plan, tools),
        "synthetic": [],
    }
    volumes = []
    for number, seed in enumerate(plan.seeds):

        def report(step: Step, number: int = number) -> None:
            on_step(number, step)

        image = synthetic(tools.synthesizer, pair, plan.settings, seed, report)
        found["synthetic"].append({"seed": seed, **_of_synthetic(image, pair, plan, tools)})
        volumes.append(_codes(image))
    with atomic_together([volumes_path(folder, found), path]) as (numbers, text):
        with numbers.open("wb") as file:
            np.savez_compressed(
                file, real=_codes(pair.real), synthetic=np.stack(volumes), labels=pair.labels,
                valid=pair.valid, affine=pair.grid.affine,
            )  # fmt: skip
        text.write_bytes(json_bytes(found))
    return found


def measured_pair(
    one: Mapping[str, Any], other: Mapping[str, Any], plan: Plan, folder: Path
) -> dict[str, Any]:
    """What is known of two cases together, out of the folder or measured now and kept there."""
    name = hashlib.sha256(f"{one['key']} {other['key']}".encode()).hexdigest()[:32]
    path = folder / f"{name}-pair.json"
    try:
        known: dict[str, Any] = read_json(path)
        if isinstance(known, dict):
            return known
    except (OSError, ValueError):
        pass
    first, second = (kept(folder, case) for case in (one, other))
    found: dict[str, Any] = {}
    for subject in plan.subjects:
        found |= subject.across(first, second)
    with atomic(path) as temporary:
        temporary.write_bytes(json_bytes(found))
    return found


def kept(folder: Path, case: Mapping[str, Any]) -> Kept:
    """The volumes of a measured case; raises UserError where their file is damaged."""
    path = volumes_path(folder, case)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            made = tuple(_volume(codes) for codes in arrays["synthetic"])
            labels = arrays["labels"]
            i, j, k = labels.shape
            grid = Grid((i, j, k), arrays["affine"])
            return Kept(_volume(arrays["real"]), made, labels, arrays["valid"], grid)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "is damaged", "remove it, so that its case is measured anew", path=path
        ) from error


def volumes_path(folder: Path, case: Mapping[str, Any]) -> Path:
    """Where the volumes of a measured case lie."""
    return folder / f"{case['key']}.npz"


def lacking(pair: Pair, tools: Tools) -> list[str]:
    """The names of the model's labels that a case's label map lacks."""
    labels = tools.synthesizer.model.labels
    return [label.name for label, known in zip(labels, pair.annotated, strict=True) if not known]


def medians(pair: Pair) -> list[list[float | None]]:
    """The median of each contrast in each label of a real volume, ``[C][L]``."""
    found = np.full((len(pair.real), len(pair.annotated)), np.nan)
    for label in np.flatnonzero(pair.annotated):
        where = pair.valid & (pair.labels == label + 1)
        if where.any():
            found[:, label] = np.median(pair.real[:, where], 1)
    rows: list[list[float | None]] = listed(found)
    return rows


def _of_case(pair: Pair, plan: Plan, tools: Tools) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for subject in plan.subjects:
        found |= subject.of_case(pair, tools)
        found |= subject.of_volume(pair.real, pair, tools)
    return found


def _of_synthetic(
    image: NDArray[np.float32], pair: Pair, plan: Plan, tools: Tools
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for subject in plan.subjects:
        found |= subject.of_volume(image, pair, tools)
        found |= subject.of_synthetic(image, pair, tools)
    return found


def _codes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A volume in [-1, 1] in 256 levels."""
    return np.rint((image.clip(-1, 1) + 1) / 2 * _CODES).astype(np.uint8)


def _volume(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return codes.astype(np.float32) * np.float32(2 / _CODES) - np.float32(1)
