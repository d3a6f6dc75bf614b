"""Manifests: what a bundle's ``model.json`` says of its model. Needs neither torch nor weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..compute.errors import UserError
from ..compute.files import read_regular
from ..compute.parsing import parse_json, read_json, shortened
from ..compute.registry import Component
from ..compute.schema import Schema, validate
from ..volumes.grids import GridSpec
from ..volumes.normalization import Intensity
from . import version_1
from .membership import TrainingImages
from .names import MANIFEST_NAME

BUNDLE_VERSION = 2
"""The newest manifest version that this code reads, and that it writes."""
MOST_MANIFEST_BYTES = 2**20
DEFAULT_KIND = "shape"
"""The kind of label map generator of a manifest that names none."""
SCHEMA_PATH = Path(__file__).with_name("manifest.schema.json")


@dataclass(frozen=True)
class Label:
    """A label that the model knows: its value, name, display color (RGB, 0-255) and code."""

    value: int
    name: str
    color: tuple[int, int, int]
    code: str
    optional: bool = False
    """Whether a label map may lack it, of a model that was trained with such label maps."""

    def to_json(self) -> dict[str, Any]:
        """As in a manifest."""
        content = asdict(self)
        if not self.optional:
            del content["optional"]
        return content


@dataclass(frozen=True)
class Channel:
    """A contrast that the model makes, and the intensities that [-1, 1] stands for."""

    name: str
    units: str
    range: tuple[float, float]


@dataclass(frozen=True)
class Architecture:
    """The parts of the denoiser and of what it sees, by their names in the registries."""

    network: Component
    representation: Component
    schedule: Component
    parameterization: str

    def to_json(self) -> dict[str, Any]:
        """As in a manifest."""
        return {
            "network": self.network.to_json(),
            "representation": self.representation.to_json(),
            "schedule": self.schedule.to_json(),
            "parameterization": self.parameterization,
        }


@dataclass(frozen=True)
class Sampling:
    """How the model's author recommends to sample."""

    sampler: str
    steps: int
    guidance: float
    guidance_range: tuple[float, float] = (0.0, 1.0)
    """Noise levels between which there is guidance (Kynkäänniemi et al. 2024, eq. 5); here the
    standard deviation of the noise, from 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        """As in a manifest, which says a range where it is not all there is."""
        content = asdict(self)
        if self.guidance_range == Sampling.guidance_range:
            del content["guidance_range"]
        return content


@dataclass(frozen=True)
class TrainingFacts:
    """What a model was trained on, how long, and by which command."""

    data: str
    cases: int
    iterations: int
    command: str
    minutes: float | None = None
    images: TrainingImages | None = None
    """Which images these were; None of models that do not say so."""

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrainingFacts:
        """As a manifest holds it."""
        images = content.get("images")
        known = None if images is None else TrainingImages.from_json(images)
        return TrainingFacts(**{**content, "images": known})


@dataclass(frozen=True)
class Figure:
    """A measured figure, with the command in the repository that reproduces it."""

    name: str
    value: str
    command: str


@dataclass(frozen=True)
class Source:
    """The file of another program that a model was imported from: name, SHA-256, its importer."""

    file: str
    sha256: str
    importer: str


@dataclass(frozen=True)
class Audit:
    """What an audit for memorization found: its verdict and day, and SHA-256 (in hexadecimal) of
    the weights that it was about, of its cases and of its ``audit.json``."""

    verdict: str
    date: str
    weights_sha256: str
    data_sha256: str
    report_sha256: str


@dataclass(frozen=True)
class Weights:
    """The weights that a manifest vouches for: SHA-256 in hexadecimal, count, stored type."""

    sha256: str
    parameters: int
    dtype: str


@dataclass(frozen=True)
class Manifest:
    """The checked content of a ``model.json``.

    A plan's manifest, of a model that is yet to be trained, has no ``training`` facts and no
    ``weights``; an imported model has a ``source`` instead of these facts. ``read_version`` is the
    bundle version of the file that it was read from.
    """

    name: str
    version: str
    title: str
    description: str
    architecture: Architecture
    labels: tuple[Label, ...]
    label_dropout: float
    channels: tuple[Channel, ...]
    grid: GridSpec
    intensity: Intensity
    sampling: Sampling
    license: str
    attribution: str
    training: TrainingFacts | None = None
    figures: tuple[Figure, ...] = ()
    weights: Weights | None = None
    source: Source | None = None
    shape_model_sha256: str | None = None
    audit: Audit | None = None
    shape_model_kind: str = DEFAULT_KIND
    read_version: int = BUNDLE_VERSION

    @property
    def valid_audit(self) -> Audit | None:
        """The audit, if it was about these weights."""
        if self.audit and self.weights and self.audit.weights_sha256 == self.weights.sha256:
            return self.audit
        return None

    def to_json(self) -> dict[str, Any]:
        """As ``model.json`` holds it, in the newest version; without what is None."""
        content: dict[str, Any] = {
            "bundle_version": BUNDLE_VERSION,
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "description": self.description,
            "architecture": self.architecture.to_json(),
            "labels": [label.to_json() for label in self.labels],
            "label_dropout": self.label_dropout,
            "channels": [asdict(channel) for channel in self.channels],
            "grid": asdict(self.grid),
            "intensity": _without_none(asdict(self.intensity)),
            "sampling": self.sampling.to_json(),
            "license": self.license,
            "attribution": self.attribution,
            "figures": [asdict(figure) for figure in self.figures],
        }
        if self.training is not None:
            content["training"] = _without_none(asdict(self.training))
        if self.weights is not None:
            content["weights"] = asdict(self.weights)
        if self.source is not None:
            content["source"] = asdict(self.source)
        if self.shape_model_sha256 is not None:
            content["shape_model"] = {"sha256": self.shape_model_sha256}
            # Not said of the first kind: manifests stay as they are, and older programs read them.
            if self.shape_model_kind != DEFAULT_KIND:
                content["shape_model"]["kind"] = self.shape_model_kind
        if self.audit is not None:
            content["audit"] = asdict(self.audit)
        # Tuples become lists, as reading the file would give them.
        return json.loads(json.dumps(content))


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``model.json``; raises UserError when it is missing or damaged.

    A manifest of version 1 is taken for what it would be in version 2.
    """
    path = folder / MANIFEST_NAME
    try:
        content = read_regular(path, MOST_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"is no model bundle (it has no {MANIFEST_NAME})", "give the folder of one", path=folder
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    return parse_manifest(content, path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """The manifest of the content of ``path``; raises UserError as :func:`read_manifest` does."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise damaged(path, error) from error
    version = content.get("bundle_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > BUNDLE_VERSION:
        raise UserError(
            f"has bundle version {version}, newer than {BUNDLE_VERSION}, the newest that this "
            "MedDiffusion reads",
            "update MedDiffusion",
            path=path,
        )
    upgraded = version_1.upgrade(content)
    if problem := _problem(upgraded, manifest_schema()):
        raise damaged(path, problem)
    return _from_json(upgraded, int(content["bundle_version"]))


def parse_plan_manifest(content: Mapping[str, Any]) -> Manifest:
    """The manifest of a model that is yet to be trained, from a plan's or preset's ``manifest``.

    Raises ValueError with a clause where it could not become a bundle's.
    """
    schema = manifest_schema()
    made = {"bundle_version", "training", "figures", "weights"}
    required = [name for name in schema["required"] if name not in made]
    upgraded = version_1.upgrade(dict(content))
    if problem := _problem(upgraded, {**schema, "required": required}, "manifest"):
        raise ValueError(problem)
    return _from_json(upgraded, BUNDLE_VERSION)


def damaged(path: Path, problem: object) -> UserError:
    """The error for a bundle's file that is not as it was written."""
    return UserError(f"is damaged ({problem})", "copy the bundle anew", path=path)


def unreadable(path: Path, error: OSError) -> UserError:
    """The error for a bundle's file that cannot be read."""
    return UserError(
        f"cannot be read ({error.strerror or error})", "see to the file and its folder", path=path
    )


@cache
def manifest_schema() -> Schema:
    """The JSON Schema of a manifest."""
    schema: Schema = read_json(SCHEMA_PATH)
    return schema


def _problem(content: Any, schema: Schema, where: str = MANIFEST_NAME) -> str | None:
    """What is wrong with a manifest's content, in words, or None."""
    if problem := validate(content, schema, where):
        return problem
    names = [label["name"].lower() for label in content["labels"]]
    values = [label["value"] for label in content["labels"]]
    channels = [channel["name"].lower() for channel in content["channels"]]
    for what, given in (("label", names), ("label value", values), ("channel", channels)):
        twice = [item for item, count in Counter(given).items() if count > 1]
        if twice:
            return f"it has the {what} {shortened(str(twice[0]))} twice"
    # A plan's has neither weights nor training facts.
    if "weights" in content and not {"training", "source"} & content.keys():
        return f"{where} lacks 'training'"
    intensity = content["intensity"]
    if len(intensity) != 1:
        return "its intensity needs percentiles or a window, one of them"
    windows = intensity.get("window", [[0, 1]] * len(channels))
    if len(windows) != len(channels):
        return f"its intensity has {len(windows)} windows for {len(channels)} channels"
    ranges = [channel["range"] for channel in content["channels"]]
    ends = {"a channel's range": ranges, "a window of its intensity": windows}
    ends |= {"the percentiles of its intensity": [intensity.get("percentiles", [0, 1])]}
    ends |= {"its guidance_range": [content["sampling"].get("guidance_range", [0, 1])]}
    for words, pairs in ends.items():
        # What computes with them has float32.
        if any(np.float32(low) >= np.float32(high) for low, high in pairs):
            return f"{words} does not end above its start"
    return None


def _from_json(content: Mapping[str, Any], read_version: int) -> Manifest:
    """The manifest of content that was checked."""
    architecture, grid, intensity = content["architecture"], content["grid"], content["intensity"]
    training, weights = content.get("training"), content.get("weights")
    source = content.get("source")
    return Manifest(
        name=content["name"],
        version=content["version"],
        title=content["title"],
        description=content["description"],
        architecture=Architecture(
            Component.from_json(architecture["network"]),
            Component.from_json(architecture["representation"]),
            Component.from_json(architecture["schedule"]),
            architecture["parameterization"],
        ),
        labels=tuple(
            Label(
                entry["value"],
                entry["name"],
                tuple(entry["color"]),
                entry["code"],
                entry.get("optional", False),
            )
            for entry in content["labels"]
        ),
        label_dropout=content["label_dropout"],
        channels=tuple(
            Channel(entry["name"], entry["units"], tuple(entry["range"]))
            for entry in content["channels"]
        ),
        grid=GridSpec(grid["orientation"], tuple(grid["spacing"]), tuple(grid["size"])),
        intensity=Intensity(
            tuple(intensity["percentiles"]) if "percentiles" in intensity else None,
            tuple(map(tuple, intensity["window"])) if "window" in intensity else None,
        ),
        sampling=_sampling(content["sampling"]),
        license=content["license"],
        attribution=content["attribution"],
        training=TrainingFacts.from_json(training) if training else None,
        figures=tuple(Figure(**figure) for figure in content.get("figures", [])),
        weights=Weights(**weights) if weights else None,
        source=Source(**source) if source else None,
        shape_model_sha256=content.get("shape_model", {}).get("sha256"),
        audit=Audit(**content["audit"]) if "audit" in content else None,
        shape_model_kind=content.get("shape_model", {}).get("kind", DEFAULT_KIND),
        read_version=read_version,
    )


def _sampling(content: Mapping[str, Any]) -> Sampling:
    low, high = content.get("guidance_range", Sampling.guidance_range)
    return Sampling(content["sampler"], content["steps"], content["guidance"], (low, high))


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None}
