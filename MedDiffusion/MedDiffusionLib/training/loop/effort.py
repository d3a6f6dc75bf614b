"""What ends a stage for good: a file with the weights that it was for, and what they took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...compute.errors import UserError
from ...compute.files import atomic, open_regular
from ...compute.parsing import parse_json
from ...compute.schema import Schema, validate

_FACTS: Schema = {
    "type": "object",
    "required": ["iterations", "seconds"],
    "properties": {
        "iterations": {"type": "integer", "minimum": 0},
        "seconds": {"type": "number", "minimum": 0},
    },
}


@dataclass(frozen=True)
class Effort:
    """What a stage and those before it took: iterations, and seconds with all else that they do."""

    iterations: int
    seconds: float


def write_weights(path: Path, module: nn.Module, effort: Effort) -> None:
    """Keep what a stage has finished; raises OSError."""
    tensors = {name: t.contiguous() for name, t in module.state_dict().items()}
    path.parent.mkdir(exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, {"effort": json.dumps(asdict(effort))}))


def read_weights(path: Path, module: nn.Module) -> Effort:
    """Take the weights that a stage has finished; raises UserError where they are others."""
    try:
        open_regular(path).close()
        with safe_open(path, framework="pt") as file:
            effort: dict[str, Any] = parse_json((file.metadata() or {})["effort"])
            if problem := validate(effort, _FACTS, "its effort"):
                raise ValueError(problem)
            wanted = module.state_dict()
            if set(file.keys()) != wanted.keys():
                raise ValueError("it is of another network")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in wanted}
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("it has NaN or infinite numbers")
        module.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot be used ({' '.join(str(error).split())[:200]})",
            "bring back a copy, or start anew in another output folder",
            path=path,
        ) from error
    return Effort(effort["iterations"], effort["seconds"])
