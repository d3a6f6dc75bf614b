"""Model bundles: a folder with ``model.json`` (the manifest) and ``weights.safetensors``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..compute.errors import UserError
from ..compute.files import atomic, file_sha256, write_json
from . import version_1
from .files import check_file
from .manifest import Manifest, Weights, damaged, read_manifest, unreadable
from .model import Model, build_model
from .names import MANIFEST_NAME, WEIGHTS_NAME
from .tensor_file import write_tensors

_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
"""What safetensors files call the types that a manifest may declare."""


def read_bundle(folder: Path) -> Model:
    """Load a bundle's model: float32, evaluation mode, on the CPU.

    Raises UserError unless manifest, hash and every tensor are as they should be.
    """
    manifest = read_manifest(folder)
    path = folder / WEIGHTS_NAME
    try:
        # For its shapes alone: no memory is taken before they are those of the file.
        with torch.device("meta"):
            wanted = build_model(manifest).state_dict()
    except (TypeError, ValueError, RuntimeError) as error:
        raise damaged(folder / MANIFEST_NAME, error) from error
    count = sum(tensor.numel() for tensor in wanted.values())
    if manifest.weights is None or count != manifest.weights.parameters:
        raise damaged(folder / MANIFEST_NAME, f"its network has {count:,} parameters")
    check_file(folder, WEIGHTS_NAME, manifest)
    tensors = _read_tensors(path, manifest, wanted)
    model = build_model(manifest, folder)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def write_bundle(folder: Path, model: Model, dtype: str = "float16") -> Manifest:
    """Write a bundle: the weights first, then the manifest that vouches for them, returned.

    Parameters are stored in ``dtype``, as a manifest names it; buffers (a latent's scale, say) as
    they are. Raises UserError for weights that would not be finite, and OSError where the folder
    cannot be written.
    """
    parameters = {name for name, _ in model.named_parameters()}
    tensors = model.state_dict()
    stored = {
        name: getattr(torch, dtype) if name in parameters else tensor.dtype
        for name, tensor in tensors.items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.detach().to(stored[name])).all():
            raise UserError(
                f"The weights {name} have NaN, or numbers that half precision does not hold",
                "train anew with a lower learning_rate in the plan",
            )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_NAME
    with atomic(path) as temporary, temporary.open("wb") as file:
        write_tensors(file, tensors, stored)
    count = sum(tensor.numel() for tensor in tensors.values())
    manifest = replace(model.manifest, weights=Weights(file_sha256(path), count, dtype))
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
            for name, tensor in wanted.items():
                stub = file.get_slice(stored[name])
                _check_tensor(path, manifest, name, stub.get_dtype(), stub.get_shape(), tensor)
            tensors = {name: file.get_tensor(stored[name]) for name in wanted}
    except SafetensorError as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise unreadable(path, error) from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"has NaN or infinite weights in {name}", "copy the bundle anew", path=path
            )
        if name.endswith(".latent_deviation") and (tensor <= 0).any():
            raise damaged(path, f"it has a {name} that is not above 0")
    return tensors


def _check_tensor(
    path: Path, manifest: Manifest, name: str, dtype: str, shape: list[int], wanted: Tensor
) -> None:
    """Raise UserError unless a tensor of the file is what the architecture has; it is not read."""
    if list(shape) != list(wanted.shape):
        raise UserError(
            f"does not fit the architecture in {MANIFEST_NAME} (tensor {name} is "
            f"{list(shape)}, not {list(wanted.shape)})",
            "copy the bundle anew",
            path=path,
        )
    declared = _DTYPES[manifest.weights.dtype] if manifest.weights else ""
    if dtype not in (declared, "F32"):
        raise damaged(path, f"tensor {name} is of the type {dtype}, and {declared} is declared")
