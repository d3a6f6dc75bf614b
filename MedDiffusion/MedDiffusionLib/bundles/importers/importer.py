"""What an importer is, and how the tensors of a checkpoint become a model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...compute.archives import Archive, StoredTensor
from ...compute.parsing import shortened
from ...compute.schema import Schema
from ..manifest import Manifest, parse_plan_manifest
from ..model import Model, build_model


@dataclass(frozen=True)
class Importer:
    """How the checkpoints of one program become models.

    ``title``: the program; ``options``: JSON Schemas of what a user may say, by name;
    ``recognise(content)``: whether an archive's content is one of its checkpoints;
    ``name(content)``: the model's, where the user gives none; ``import_model(archive, options)``:
    the model, float32; it raises UserError, or ValueError with a clause that begins with "it" and
    has the file as subject; ``remedy``: what to do then.
    """

    title: str
    options: Mapping[str, Schema]
    recognise: Callable[[Any], bool]
    name: Callable[[Any], str]
    import_model: Callable[[Archive, Mapping[str, Any]], Model]
    remedy: str = "say by options what the file does not tell, or get it anew"


def load_model(manifest: Manifest, stored: Mapping[str, StoredTensor | Tensor]) -> Model:
    """The model of a manifest with the weights of a checkpoint, given by the model's own names.

    Each tensor is read once, and no more memory is taken than they need. Raises ValueError with a
    clause unless they are those of the model, of floating-point numbers, and finite.
    """
    # A user's options are in it.
    parse_plan_manifest(manifest.to_json())
    with torch.device("meta"):
        model = build_model(manifest)
    wanted = model.state_dict()
    for given, among, what in ((wanted, stored, "lacks"), (stored, wanted, "has")):
        odd = sorted(given.keys() - among.keys())
        if odd:
            more = f" and {len(odd) - 1} others" if len(odd) > 1 else ""
            raise ValueError(
                f"it {what} the tensor {shortened(odd[0], 80)}{more}"
                + (", which its network does not have" if what == "has" else "")
            )
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if tuple(tensor.shape) != tuple(wanted[name].shape):
            shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise ValueError(f"its tensor {shortened(name, 80)} is {shapes}")
        if not tensor.dtype.is_floating_point:
            raise ValueError(f"its tensor {shortened(name, 80)} has no floating-point numbers")
    for name, tensor in stored.items():
        numbers = tensor.load() if isinstance(tensor, StoredTensor) else tensor
        weights[name] = numbers.float()
        if not torch.isfinite(weights[name]).all():
            raise ValueError(f"its tensor {shortened(name, 80)} has NaN or infinite numbers")
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)
