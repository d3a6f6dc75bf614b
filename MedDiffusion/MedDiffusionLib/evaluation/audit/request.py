"""What an audit is asked for, and the cases that it is about."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.manifest import Manifest
from ...bundles.membership import TrainingImages, voxels_sha256
from ...compute.errors import UserError
from ...synthesis.settings import Settings, check_seed
from ...training.data.cases import CaseFiles, find_data
from ...training.data.fingerprint import digest_of, take_stamps
from ...training.plan.presets import Split, read_split
from ...volumes.reading import read_image
from ...volumes.variation import check_strength
from ..features.contrastive import EncoderSettings
from .detector import FEWEST_NEW

SAMPLES = 400
MOST_SAMPLES = 10_000
PLANTED = 60
"""Copies of each kind."""
FEWEST_PART = 10
"""Cases of either part that any of the tests needs."""
_FEWEST = 2 * FEWEST_NEW
_NEW = 1 / 3
"""Share of the patients that the encoder does not learn from, where there are enough."""
_SPLIT_NAME = "split.json"


@dataclass(frozen=True)
class AuditRequest:
    """Which model, by which cases, how. ``vary``: the strength of varied label maps for
    re-identification, from 0 to 1; ``varied``: a folder of them, named as the cases, instead."""

    model: str
    output: Path
    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    split: Path | None = None
    group_pattern: str | None = None
    samples: int = SAMPLES
    seed: int = 0
    device: str = "auto"
    reidentify: bool = False
    vary: float | None = None
    varied: Path | None = None
    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    @property
    def settings(self) -> Settings:
        """By which volumes are made: the model's own, which its users take."""
        return Settings(native=True, accept_costs=True)

    def check(self) -> None:
        """Raise UserError for what no audit can be."""
        check_seed(self.seed)
        if not 2 * FEWEST_PART <= self.samples <= MOST_SAMPLES:
            raise UserError(
                f"{self.samples} samples are asked for",
                f"give {2 * FEWEST_PART} to {MOST_SAMPLES:,}: half of them are made from training "
                "label maps, half from held-out ones",
            )
        if self.vary is not None:
            check_strength(self.vary)
        if self.vary is not None and self.varied is not None:
            raise UserError("Label maps are to be varied, and varied ones are given", "do one")
        if (self.varied is not None or self.vary is not None) and not self.reidentify:
            raise UserError("Varied label maps are for re-identification", "ask for it as well")


@dataclass(frozen=True, eq=False)
class AuditedCases:
    """The cases, training cases first. All arrays ``[n]``: ``digests`` are SHA-256 of the contents
    of a case's files; ``is_seen``: what the encoder learns from, the same share of each part."""

    files: tuple[CaseFiles, ...]
    digests: tuple[str, ...]
    is_member: NDArray[np.bool_]
    is_seen: NDArray[np.bool_]
    patients: NDArray[np.int64]

    @property
    def sha256(self) -> str:
        """Of the cases, their parts and their contents."""
        content = [
            [case.name, case.group, digest, bool(member)]
            for case, digest, member in zip(self.files, self.digests, self.is_member, strict=True)
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def find_audited(request: AuditRequest, manifest: Manifest) -> AuditedCases:
    """The cases of a request, each file hashed: by a split, or by the model's record of its images.

    Raises UserError where the data or the split cannot be used, there are too few cases, a case or
    a patient is in both parts, or the split is not as the model's record.
    """
    record = manifest.training.images if manifest.training else None
    path = request.split
    if path is None and request.data is not None and (request.data / _SPLIT_NAME).is_file():
        path = request.data / _SPLIT_NAME
    if path is None and record is None:
        raise UserError(
            "Which of the cases the model was trained on is not known",
            'give a split: a JSON file with their names under "train", and others, which it has '
            'never seen, under "validation"',
            code="no-split",
        )
    split = read_split(path) if path else None
    names = [*split.train, *split.validation] if split else None
    data = find_data(request.data, request.images, request.labels, request.group_pattern, names)
    files = data.cases
    if record is None:
        assert split is not None
        is_member = np.arange(len(files)) < len(split.train)
    else:
        is_member = np.array([_is_of(case, record) for case in files])
        if split is not None:
            _refuse_other_split(split, files, is_member, manifest.name)
        order = np.argsort(~is_member, kind="stable")
        files, is_member = tuple(files[n] for n in order), is_member[order]
    _refuse_too_few(int(is_member.sum()), int((~is_member).sum()))
    groups = sorted({case.group for case in files})
    patients = np.array([groups.index(case.group) for case in files])
    if both := set(patients[is_member]) & set(patients[~is_member]):
        raise UserError(
            f"{groups[min(both)]} is a patient in both parts of the split",
            "put all cases of a patient into one part, or leave them out",
            code="patient-in-both",
        )
    digests = tuple(digest_of(take_stamps(case)) for case in files)
    refuse_same([case.name for case in files], digests)
    seen = _seen(patients, is_member, request.seed)
    if (new := int((~seen).sum())) < FEWEST_NEW:
        raise UserError(
            f"Only {new} cases, of few patients, are left that the encoder does not learn from",
            f"give more patients: {FEWEST_NEW} such cases are needed for the threshold of a copy",
            code="too-few-cases",
        )
    return AuditedCases(files, digests, is_member, seen, patients)


def _is_of(case: CaseFiles, record: TrainingImages) -> bool:
    """Whether any image of a case is one that a model was trained on."""
    return any(record.has(voxels_sha256(read_image(path).array)) for path in case.images)


def _refuse_other_split(
    split: Split, files: Sequence[CaseFiles], is_member: NDArray[np.bool_], model: str
) -> None:
    """Raise UserError where a split says other than the model's record does."""
    trained = {case.name for case, member in zip(files, is_member, strict=True) if member}
    if wrong := sorted(trained & set(split.validation)):
        raise UserError(
            f"{model} was trained on {wrong[0]}, which the split has under validation",
            "correct the split, or leave it out: the model knows its images",
            code="not-held-out",
        )
    if wrong := sorted(set(split.train) - trained):
        raise UserError(
            f"{model} was not trained on {wrong[0]}, which the split has under train",
            "correct the split, or leave it out: the model knows its images",
            code="not-trained-on",
        )


def refuse_same(names: Sequence[str], contents: Sequence[str]) -> None:
    """Raise UserError where two cases have the same contents, given as hashes."""
    first: dict[str, str] = {}
    for name, content in zip(names, contents, strict=True):
        if content in first:
            raise UserError(
                f"{first[content]} and {name} are the same case",
                "leave one of them out, and see that none is in both parts of the split",
                code="same-case",
            )
        first[content] = name


def _refuse_too_few(trained: int, held_out: int) -> None:
    if min(trained, held_out) < FEWEST_PART or trained + held_out < _FEWEST:
        raise UserError(
            f"There are {trained} training and {held_out} held-out cases, too few for an audit",
            f"give at least {FEWEST_PART} of each for the gaps between them, and {_FEWEST} in all "
            f"for the threshold of a copy (half of them are new to the encoder, and 5 % of fewer "
            f"than {FEWEST_NEW} is less than one); with 180 and 40 the areas are known to about "
            "0.10, with 40 and 40 to 0.13",
            code="too-few-cases",
        )


def _seen(
    patients: NDArray[np.int64], is_member: NDArray[np.bool_], seed: int
) -> NDArray[np.bool_]:
    """What the encoder may learn from: of each part the same share of the patients, by chance.

    Two thirds, or as many as leave enough new ones for the threshold, half at least.
    """
    random = np.random.default_rng(seed)
    new = min(max(_NEW, (FEWEST_NEW + 1) / len(np.unique(patients))), 0.5)
    seen = np.zeros(len(patients), bool)
    for part in (is_member, ~is_member):
        own = random.permutation(np.unique(patients[part]))
        seen |= np.isin(patients, own[: len(own) - math.ceil(new * len(own))])
    return seen


def sample_plan(cases: AuditedCases, samples: int, seed: int) -> list[tuple[int, int]]:
    """The samples to make: the number of a case, and how many of it came before.

    Every second is from a held-out label map. More samples have fewer for their beginning.
    """
    random = np.random.default_rng(seed)
    parts = [random.permutation(np.flatnonzero(p)) for p in (cases.is_member, ~cases.is_member)]
    plan = []
    for number in range(samples):
        part = parts[number % 2]
        before, place = divmod(number // 2, len(part))
        plan.append((int(part[place]), before))
    return plan


def identity(request: AuditRequest, cases: AuditedCases, weights: str, version: str) -> Any:
    """All that what is measured of a case or a sample depends on besides its number."""
    return {
        "meddiffusion": version,
        "weights": weights,
        "data": cases.sha256,
        "seed": request.seed,
        "encoder": asdict(request.encoder),
    }
