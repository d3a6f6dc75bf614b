"""What an evaluation is asked for, and the cases that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..bundles.manifest import Manifest
from ..bundles.membership import TrainingImages, voxels_sha256
from ..compute.errors import UserError
from ..synthesis.settings import Settings, check_seed
from ..training.data.cases import LAYOUTS, CaseFiles, find_data
from ..training.data.fingerprint import FileStamp, digest_of, take_stamps
from ..training.plan.presets import read_split
from ..volumes.reading import read_image
from .cases import half_of
from .segmenters import SEGMENTERS
from .segmenters.training import Effort, installed_segmenters, usual_effort
from .subjects import SUBJECTS
from .summary import fewest_sentence

PARTS = ("validation", "train", "all")
HALVES = ("all", "first", "second")
FEWEST = 2
"""Held-out cases without which there is no figure at all."""
_MOST_SEEDS = 100


@dataclass(frozen=True)
class EvaluationRequest:
    """What to judge, by which cases and how. ``part`` of the split and ``half`` of its patients;
    ``cases``: at most so many; ``subjects`` and ``segmenters`` by name."""

    model: str
    output: Path
    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    split: Path | None = None
    part: str = "validation"
    half: str = "all"
    cases: int | None = None
    seeds: tuple[int, ...] = (0, 1)
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    subjects: tuple[str, ...] = tuple(SUBJECTS)
    segmenters: tuple[str, ...] = field(default_factory=installed_segmenters)
    segmenter_folder: Path | None = None
    segmenter_iterations: int | None = None
    weights: tuple[Path, ...] = ()
    group_pattern: str | None = None
    device: str = "auto"

    @property
    def settings(self) -> Settings:
        """By which volumes are made."""
        return Settings(steps=self.steps, sampler=self.sampler, guidance=self.guidance)

    def effort(self, manifest: Manifest) -> Effort:
        """How long segmenters are trained."""
        if self.segmenter_iterations is None:
            return usual_effort(manifest)
        return Effort(self.segmenter_iterations)

    @property
    def segmenters_in(self) -> Path:
        """Where segmenters are kept: beside the report, for others of the same data."""
        return self.segmenter_folder or self.output.parent / "segmenters"

    def check(self) -> None:
        """Raise UserError for what no evaluation can be."""
        for name, known, words in (
            (self.subjects, SUBJECTS, "figures"), (self.segmenters, SEGMENTERS, "segmenter"),
            ((self.part,), PARTS, "part"), ((self.half,), HALVES, "half"),
        ):  # fmt: skip
            if unknown := [each for each in name if each not in known]:
                raise UserError(f"There is no {words} {unknown[0]}", f"use {', '.join(known)}")
        if not 1 <= len(self.seeds) <= _MOST_SEEDS or len(set(self.seeds)) < len(self.seeds):
            raise UserError("Seeds are needed, each once", f"give 1 to {_MOST_SEEDS} of them")
        for seed in self.seeds:
            check_seed(seed)
        if self.cases is not None and self.cases < FEWEST:
            raise _too_few(self.cases)


@dataclass(frozen=True)
class KnownCase:
    """A case with the stamps of its files, hashed once."""

    files: CaseFiles
    stamps: tuple[FileStamp, ...]

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def digest(self) -> str:
        """SHA-256 over the contents of its files, whatever their names."""
        return digest_of(self.stamps)

    @property
    def image_digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's file."""
        own = 1 if self.files.labels is not None else 0
        return tuple(stamp.sha256 for stamp in self.stamps[: len(self.stamps) - own])


@dataclass(frozen=True)
class EvaluationData:
    """The cases that a model is judged by, and those that segmenters are trained on."""

    held_out: tuple[KnownCase, ...]
    training: tuple[KnownCase, ...]


def find_evaluation_data(request: EvaluationRequest, manifest: Manifest) -> EvaluationData:
    """The cases of a request, each file hashed: by a split, or by the model's record of its images.

    Raises UserError where the data cannot be found, are too few, or a case that is held out is one
    that the model was trained on.
    """
    split = read_split(request.split) if request.split else None
    names = [*split.train, *split.validation] if split else None
    if request.data is None and request.labels is None and manifest.labels:
        raise UserError("The label maps are missing", LAYOUTS)
    data = find_data(request.data, request.images, request.labels, request.group_pattern, names)
    by_name = {case.name: case for case in data.cases}
    record = manifest.training.images if manifest.training else None
    if split is None:
        if record is None:
            raise UserError(
                f"{manifest.name} has no record of the images that it was trained on",
                'give a split: a JSON file with the names of these cases under "train", and the '
                'others under "validation"',
                code="no-split",
            )
        train = tuple(name for name, case in by_name.items() if _is_of(case, record))
        validation = tuple(name for name in by_name if name not in train)
    else:
        train, validation = split.train, split.validation
    chosen = {"train": train, "validation": validation, "all": tuple(by_name)}[request.part]
    held_out = half_of([by_name[name] for name in chosen], request.half)[: request.cases]
    if len(held_out) < FEWEST:
        raise _too_few(len(held_out))
    wanted = dict.fromkeys([*train, *(case.name for case in held_out)])
    known = {name: KnownCase(by_name[name], take_stamps(by_name[name])) for name in wanted}
    found = EvaluationData(
        tuple(known[case.name] for case in held_out), tuple(known[name] for name in train)
    )
    if request.part == "validation":
        _refuse_training_images(found)
        if record is not None and split is not None:
            _refuse_recorded(held_out, record, manifest.name)
    return found


def _is_of(case: CaseFiles, record: TrainingImages) -> bool:
    """Whether any image of a case is one that a model was trained on."""
    return any(record.has(voxels_sha256(read_image(path).array)) for path in case.images)


def _refuse_recorded(cases: Sequence[CaseFiles], record: TrainingImages, model: str) -> None:
    twice = [case.name for case in cases if _is_of(case, record)]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise UserError(
            f"{model} was trained on {twice[0]}{more}, which is to be held out",
            "leave it out: a model is not judged by what it was trained on",
            code="not-held-out",
        )


def _refuse_training_images(data: EvaluationData) -> None:
    """Raise UserError for an image under another name that is to train on."""
    training = {digest: case.name for case in data.training for digest in case.image_digests}
    twice = [
        (case.name, training[digest])
        for case in data.held_out
        for digest in case.image_digests
        if digest and digest in training
    ]
    if twice:
        more = f", and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise UserError(
            f"{twice[0][0]} is to be held out and has the image of the training case "
            f"{twice[0][1]}{more}",
            "leave it out: a model is not judged by what it was trained on",
            code="not-held-out",
        )


def _too_few(count: int) -> UserError:
    return UserError(
        f"{count} {'case is' if count == 1 else 'cases are'} too few for any figure",
        f"give more: at least {fewest_sentence()}",
        code="too-few-cases",
    )
