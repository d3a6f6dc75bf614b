"""Model bundles: a folder with ``model.json`` (the manifest) and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .denoiser import TARGETS, Denoiser
from .errors import UserError
from .files import atomic, write_json
from .grids import GridSpec
from .network import NETWORKS
from .representations import REPRESENTATIONS, Representation
from .schedules import SCHEDULES
from .schema import validate

BUNDLE_VERSION = 1
"""The newest manifest version that this code reads; raised when the format changes."""
MANIFEST_NAME = "model.json"
WEIGHTS_NAME = "weights.safetensors"
SCHEMA_PATH = Path(__file__).with_name("model.schema.json")


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
    def percentiles(self) -> tuple[float, float]:
        low, high = self.content["intensity"]["percentiles"]
        return low, high


def build_representation(content: dict[str, Any]) -> Representation:
    """The representation that a manifest names."""
    options = dict(content["architecture"]["representation"])
    return REPRESENTATIONS[options.pop("name")](**options)


def build_denoiser(content: dict[str, Any]) -> Denoiser:
    """The untrained denoiser that a manifest describes, float32 on the CPU."""
    architecture = content["architecture"]
    representation = build_representation(content)
    options = dict(architecture["network"])
    network = NETWORKS[options.pop("name")](
        latent_channels=len(content["channels"]) * representation.channels,
        label_count=len(content["labels"]),
        factor=representation.factor,
        **options,
    )
    schedule = SCHEDULES[architecture["schedule"]]
    return Denoiser(network, schedule, architecture["parameterization"])


def build_manifest(preset: dict[str, Any]) -> Manifest:
    """The manifest of a model that is yet to be trained, from a preset's ``manifest`` part."""
    return Manifest({"bundle_version": BUNDLE_VERSION, **preset})


@dataclass(frozen=True)
class Bundle:
    """A loaded model: manifest, denoiser (float32, evaluation mode), representation, its hash."""

    folder: Path
    manifest: Manifest
    denoiser: Denoiser
    representation: Representation

    @property
    def sha256(self) -> str:
        return self.manifest.content["weights"]["sha256"]


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``model.json``; raises UserError when it is missing or damaged."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UserError(f"{folder} is no model bundle: it has no {MANIFEST_NAME}.")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): copy the bundle anew.") from error
    version = content.get("bundle_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > BUNDLE_VERSION:
        raise UserError(
            f"{path} has bundle version {version}, newer than {BUNDLE_VERSION}, the newest that "
            "this MedDiffusion reads: update MedDiffusion."
        )
    problem = validate(content, json.loads(SCHEMA_PATH.read_text("utf-8")))
    if problem := problem or _unknown_part(content["architecture"]):
        raise UserError(f"{path} is damaged ({problem}): copy the bundle anew.")
    return Manifest(content)


def _unknown_part(architecture: dict[str, Any]) -> str | None:
    """What the architecture names that no registry holds, in words, or None."""
    named: dict[str, tuple[str, Container[str]]] = {
        "network": (architecture["network"]["name"], NETWORKS),
        "representation": (architecture["representation"]["name"], REPRESENTATIONS),
        "parameterization": (architecture["parameterization"], TARGETS),
        "schedule": (architecture["schedule"], SCHEDULES),
    }
    for part, (name, registry) in named.items():
        if name not in registry:
            return f"unknown {part} {name!r}"
    return None


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle; raises UserError unless manifest, hash and every tensor are as they should."""
    manifest = read_manifest(folder)
    expected = manifest.content["weights"]["sha256"]
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise UserError(f"{folder} has no {WEIGHTS_NAME}: copy the bundle anew.")
    if file_sha256(path) != expected:
        raise UserError(
            f"{path} does not match the SHA-256 in {MANIFEST_NAME}: the weights are damaged or of "
            "another model; copy the bundle anew."
        )
    try:
        denoiser = build_denoiser(manifest.content)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST_NAME} is damaged ({error}): copy the bundle anew."
        ) from error
    _load_tensors(denoiser, path)
    return Bundle(
        folder, manifest, denoiser.eval().requires_grad_(False),
        build_representation(manifest.content),
    )  # fmt: skip


def save_bundle(folder: Path, content: dict[str, Any], denoiser: Denoiser) -> None:
    """Write a bundle: fp16 weights first, then the manifest that vouches for them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().half().contiguous() for k, v in denoiser.state_dict().items()}
    path = folder / WEIGHTS_NAME
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors))
    parameters = sum(tensor.numel() for tensor in tensors.values())
    weights = {"sha256": file_sha256(path), "parameters": parameters, "dtype": "float16"}
    write_json(folder / MANIFEST_NAME, {**content, "weights": weights})


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load_tensors(denoiser: Denoiser, path: Path) -> None:
    wanted = denoiser.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            missing, extra = wanted.keys() - file.keys(), file.keys() - wanted.keys()
            if missing or extra:
                raise UserError(
                    f"{path} does not fit the architecture in {MANIFEST_NAME} ({len(missing)} "
                    f"tensors missing, {len(extra)} unknown): copy the bundle anew."
                )
            tensors = {key: file.get_tensor(key) for key in wanted}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): copy the bundle anew.") from error
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{path} does not fit the architecture in {MANIFEST_NAME} (tensor {key} is "
                f"{list(tensor.shape)}, not {list(wanted[key].shape)}): copy the bundle anew."
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path} has NaN or infinite weights in {key}: copy the bundle anew.")
    denoiser.load_state_dict(tensors)
