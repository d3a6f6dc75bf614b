"""Model bundles: a folder with ``model.json`` (the manifest) and ``weights.safetensors``."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..compute.errors import UserError
from ..compute.files import atomic, write_json
from ..diffusion.denoiser import TARGETS, Denoiser
from ..diffusion.networks import NETWORKS
from ..diffusion.representations import REPRESENTATIONS, Representation
from ..diffusion.schedules import SCHEDULES
from .manifest import MANIFEST_NAME, Manifest, file_sha256, read_manifest

WEIGHTS_NAME = "weights.safetensors"


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


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle; raises UserError unless manifest, hash and every tensor are as they should."""
    manifest = read_manifest(folder)
    if problem := unknown_part(manifest.content["architecture"]):
        raise UserError(f"{folder / MANIFEST_NAME} is damaged ({problem})", "copy the bundle anew")
    expected = manifest.content["weights"]["sha256"]
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise UserError(f"has no {WEIGHTS_NAME}", "copy the bundle anew", path=folder)
    if file_sha256(path) != expected:
        raise UserError(
            f"does not match the SHA-256 in {MANIFEST_NAME}",
            "the weights are damaged or of another model; copy the bundle anew",
            path=path,
        )
    try:
        denoiser = build_denoiser(manifest.content)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST_NAME} is damaged ({error})", "copy the bundle anew"
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


def unknown_part(architecture: dict[str, Any]) -> str | None:
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


def _load_tensors(denoiser: Denoiser, path: Path) -> None:
    wanted = denoiser.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            missing, extra = wanted.keys() - file.keys(), file.keys() - wanted.keys()
            if missing or extra:
                raise UserError(
                    f"does not fit the architecture in {MANIFEST_NAME} ({len(missing)} tensors "
                    f"missing, {len(extra)} unknown)",
                    "copy the bundle anew",
                    path=path,
                )
            tensors = {key: file.get_tensor(key) for key in wanted}
    except SafetensorError as error:
        raise UserError(f"is damaged ({error})", "copy the bundle anew", path=path) from error
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"does not fit the architecture in {MANIFEST_NAME} (tensor {key} is "
                f"{list(tensor.shape)}, not {list(wanted[key].shape)})",
                "copy the bundle anew",
                path=path,
            )
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"has NaN or infinite weights in {key}", "copy the bundle anew", path=path
            )
    denoiser.load_state_dict(tensors)
