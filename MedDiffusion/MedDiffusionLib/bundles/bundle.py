"""Model bundles: a folder with ``model.json`` (the manifest) and ``weights.safetensors``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..compute.errors import UserError
from ..compute.files import atomic, write_json
from . import version_1
from .files import check_file, file_sha256
from .manifest import Manifest, Weights, damaged, read_manifest
from .model import Model, build_model
from .names import MANIFEST_NAME, WEIGHTS_NAME


def read_bundle(folder: Path) -> Model:
    """Load a bundle's model: float32, evaluation mode, on the CPU.

    Raises UserError unless manifest, hash and every tensor are as they should be.
    """
    manifest = read_manifest(folder)
    path = folder / WEIGHTS_NAME
    check_file(folder, WEIGHTS_NAME, manifest)
    try:
        model = build_model(manifest, folder)
    except (TypeError, ValueError) as error:
        raise damaged(folder / MANIFEST_NAME, error) from error
    model.load_state_dict(_read_tensors(path, manifest, model.state_dict()))
    return model.eval().requires_grad_(False)


def write_bundle(folder: Path, model: Model) -> Manifest:
    """Write a bundle: the weights first, then the manifest that vouches for them, returned.

    Parameters are stored in half precision, buffers (a latent's scale, say) as they are. Raises
    OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {name for name, _ in model.named_parameters()}
    tensors = {
        name: (tensor.detach().half() if name in parameters else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    path = folder / WEIGHTS_NAME
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors))
    count = sum(tensor.numel() for tensor in tensors.values())
    manifest = replace(model.manifest, weights=Weights(file_sha256(path), count, "float16"))
    write_json(folder / MANIFEST_NAME, manifest.to_json())
    return manifest


def _read_tensors(path: Path, manifest: Manifest, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the model's names; raises UserError unless all are right."""
    name_of = version_1.weight_name if manifest.read_version == 1 else str
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name_of(key): key for key in file.keys()}  # noqa: SIM118
            missing, extra = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
            if missing or extra:
                raise UserError(
                    f"does not fit the architecture in {MANIFEST_NAME} ({len(missing)} tensors "
                    f"missing, {len(extra)} unknown)",
                    "copy the bundle anew",
                    path=path,
                )
            tensors = {name: file.get_tensor(stored[name]) for name in wanted}
    except SafetensorError as error:
        raise damaged(path, error) from error
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"does not fit the architecture in {MANIFEST_NAME} (tensor {name} is "
                f"{list(tensor.shape)}, not {list(wanted[name].shape)})",
                "copy the bundle anew",
                path=path,
            )
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"has NaN or infinite weights in {name}", "copy the bundle anew", path=path
            )
    return tensors
