"""Manifests: what a bundle's ``model.json`` says of its model. Needs neither torch nor weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.schema import validate
from ..volumes.grids import GridSpec

BUNDLE_VERSION = 1
"""The newest manifest version that this code reads; raised when the format changes."""
MANIFEST_NAME = "model.json"
SHAPE_MODEL_NAME = "shape.safetensors"
"""The label maps' shapes, beside the manifest of a model that has learned them."""
SCHEMA_PATH = Path(__file__).with_name("manifest.schema.json")


@dataclass(frozen=True)
class Label:
    """A label that the model knows: its value, name, display color (RGB, 0-255) and code."""

    value: int
    name: str
    color: tuple[int, int, int]
    code: str


@dataclass(frozen=True)
class Channel:
    """A contrast that the model makes, and the intensities that [-1, 1] stands for."""

    name: str
    units: str
    range: tuple[float, float]


@dataclass(frozen=True)
class Manifest:
    """The checked content of a ``model.json``; ``content`` is the JSON object itself."""

    content: dict[str, Any]

    @property
    def name(self) -> str:
        return self.content["name"]

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(
            Label(entry["value"], entry["name"], tuple(entry["color"]), entry["code"])
            for entry in self.content["labels"]
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(
            Channel(entry["name"], entry["units"], tuple(entry["range"]))
            for entry in self.content["channels"]
        )

    @property
    def grid(self) -> GridSpec:
        grid = self.content["grid"]
        return GridSpec(grid["orientation"], tuple(grid["spacing"]), tuple(grid["size"]))

    @property
    def intensity(self) -> dict[str, Any]:
        """What :func:`.normalization.intensity_limits` takes."""
        return self.content["intensity"]


def build_manifest(preset: dict[str, Any]) -> Manifest:
    """The manifest of a model that is yet to be trained, from a preset's ``manifest`` part."""
    return Manifest({"bundle_version": BUNDLE_VERSION, **preset})


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``model.json``; raises UserError when it is missing or damaged."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UserError(
            f"is no model bundle (it has no {MANIFEST_NAME})", "give the folder of one", path=folder
        )
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"is damaged ({error})", "copy the bundle anew", path=path) from error
    version = content.get("bundle_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > BUNDLE_VERSION:
        raise UserError(
            f"has bundle version {version}, newer than {BUNDLE_VERSION}, the newest that this "
            "MedDiffusion reads",
            "update MedDiffusion",
            path=path,
        )
    problem = validate(content, json.loads(SCHEMA_PATH.read_text("utf-8")))
    if problem := problem or intensity_problem(content):
        raise UserError(f"is damaged ({problem})", "copy the bundle anew", path=path)
    return Manifest(content)


def intensity_problem(content: dict[str, Any]) -> str | None:
    """What is wrong with a manifest's intensity that its schema cannot say, or None."""
    intensity, channels = content["intensity"], len(content["channels"])
    if len(intensity) != 1:
        return "its intensity needs percentiles or a window, one of them"
    windows = intensity.get("window", [[0, 1]] * channels)
    if len(windows) != channels:
        return f"its intensity has {len(windows)} windows for {channels} channels"
    if any(low >= high for low, high in windows):
        return "a window of its intensity ends before it starts"
    return None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
