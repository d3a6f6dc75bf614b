"""Checkpoints: everything that a resumed run needs, in one safetensors file, whole or not at all.

No random state is among it: samples, noise and times are functions of the seed and of the
sample's number, so the number of iterations says where all of them stand.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...bundles import version_1
from ...compute.errors import UserError
from ...compute.files import atomic, open_regular
from ...compute.parsing import parse_json
from ...compute.schema import Schema, validate
from ..data.fingerprint import CaseRecord
from .names import CHECKPOINT_NAME
from .state import RunState, Trained

_COUNT = {"type": "integer", "minimum": 0}
_FACTS: dict[str, Schema] = {
    "iteration": _COUNT,
    "seconds": {"type": "number", "minimum": 0},
    "rate_scale": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "rollbacks": _COUNT,
    "micro_batch": {"type": "integer", "minimum": 1},
    "recompute": {"type": "boolean"},
}
_RUN: Schema = {"type": "object", "required": [*_FACTS], "properties": _FACTS}
_IDENTITY: Schema = {
    "type": "object",
    "required": ["plan", "seed", "cases", "validation"],
    "properties": {
        "plan": {
            "type": "object",
            "required": ["manifest", "training"],
            "properties": {"manifest": {"type": "object"}, "training": {"type": "object"}},
        },
        "seed": {"type": "integer"},
        "cases": {"type": "object"},
        "validation": {"type": "object"},
    },
}
_MOST_COPIES = 5
"""Of the weights in a checkpoint: the model, its average, two moments, and what counts steps."""


Identity = dict[str, Any]
"""What must not change when a run is resumed: plan, seed, and a digest per case."""


def identify(
    plan: dict[str, Any],
    seed: int,
    cases: Iterable[CaseRecord],
    validation: Iterable[CaseRecord],
) -> Identity:
    """The identity of a run; cases count by name and by their files' contents, not by place."""
    return {
        "plan": _upgraded(plan),
        "seed": seed,
        "cases": {case.name: case.digest for case in cases},
        "validation": {case.name: case.digest for case in validation},
    }


def save_checkpoint(folder: Path, state: RunState, identity: Identity) -> None:
    """Write the checkpoint; raises UserError where there is no room, or where a number in it is NaN
    or infinite, the last one then intact."""
    tensors: dict[str, Tensor] = {}
    for number, trained in enumerate(state.trained):
        tensors |= _tensors(trained, _prefix(number, trained))
    path = folder / CHECKPOINT_NAME
    if name := _not_finite(tensors):
        raise UserError(
            f"The training has NaN or infinite numbers in {name} at iteration {state.iteration}, "
            "and is not saved",
            "go on from the last checkpoint with a lower learning_rate in the plan, and look at "
            "the images' intensities",
        )
    facts = {name: getattr(state, name) for name in _FACTS}
    metadata = {"run": json.dumps(facts), "identity": json.dumps(identity)}
    metadata["sha256"] = _digest(metadata, tensors)
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))
    except OSError as error:
        kept = "; the last one is intact" if path.exists() else ""
        raise UserError(
            f"cannot be written ({_reason(error)}{kept})",
            "make room or give write permission, then resume the run",
            path=path,
            code="resume",
        ) from error


def load_checkpoint(folder: Path, state: RunState) -> None:
    """Bring a run back to its last checkpoint; raises UserError where it cannot be read."""
    path = folder / CHECKPOINT_NAME
    metadata = _metadata(path)
    try:
        facts = _checked(metadata, "run", _RUN)
        tensors = _read_tensors(path, state)
        # Checkpoints of versions before 1.1 have none.
        if metadata.get("sha256") not in (None, _digest(metadata, tensors)):
            raise ValueError("it is damaged: its SHA-256 is another")
        if name := _not_finite(tensors):
            raise ValueError(f"it has NaN or infinite numbers in {name}")
        for number, trained in enumerate(state.trained):
            _load(trained, tensors, _prefix(number, trained))
        for name in _FACTS:
            setattr(state, name, facts[name])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _prefix(number: int, trained: Trained) -> str:
    """What a player's tensors begin with: nothing for the first, the only one of most runs."""
    return f"{trained.name}." if number else ""


def _tensors(trained: Trained, prefix: str) -> dict[str, Tensor]:
    """A player's weights, their average and the optimizer's numbers, by name."""
    modules = {"model": trained.module, "average": trained.average}
    tensors = {
        f"{prefix}{part}.{name}": tensor.contiguous()
        for part, module in modules.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    for index, values in trained.optimizer.state_dict()["state"].items():
        tensors |= {f"{prefix}optimizer.{index}.{k}": v.contiguous() for k, v in values.items()}
    return tensors


def _load(trained: Trained, tensors: dict[str, Tensor], prefix: str) -> None:
    """The inverse of :func:`_tensors`; raises ValueError, KeyError or RuntimeError."""
    trained.module.load_state_dict(_weights(tensors, f"{prefix}model."))
    if trained.average is not None:
        trained.average.load_state_dict(_weights(tensors, f"{prefix}average."))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under(tensors, f"{prefix}optimizer.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = tensor
    _check_slots(slots, list(trained.module.parameters()))
    groups = trained.optimizer.state_dict()["param_groups"]
    trained.optimizer.load_state_dict({"state": slots, "param_groups": groups})


def read_identity(folder: Path) -> Identity:
    """What the run in a folder was started with; raises UserError without a readable checkpoint."""
    path = folder / CHECKPOINT_NAME
    metadata = _metadata(path)
    try:
        identity: Identity = _checked(metadata, "identity", _IDENTITY)
        known = {name: identity[name] for name in ("seed", "cases", "validation")}
        return {"plan": _upgraded(identity["plan"]), **known}
    except (KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def check_same_run(folder: Path, now: Identity) -> None:
    """Raises UserError that names what changed since the run in ``folder`` was started."""
    before = read_identity(folder)
    change = _change(before, json.loads(json.dumps(now)))
    if change:
        raise UserError(
            "cannot be resumed",
            f"{change}; bring back what it was started with, or start anew in another output "
            "folder",
            path=folder,
        )


def _change(before: Identity, now: Identity) -> str | None:
    if before["seed"] != now["seed"]:
        return f"the seed was {before['seed']} and is now {now['seed']}"
    for part, words in (("cases", "training"), ("validation", "validation")):
        old, new = before[part], now[part]
        if gone := sorted(old.keys() - new.keys()):
            return f"{len(gone)} {words} cases are gone, the first is {gone[0]}"
        if added := sorted(new.keys() - old.keys()):
            return f"{len(added)} {words} cases are new, the first is {added[0]}"
        if changed := sorted(name for name in old if old[name] != new[name]):
            return f"the files of {len(changed)} {words} cases changed, the first is {changed[0]}"
        if list(old) != list(new):
            return f"the {words} cases come in another order"
    return _plan_change(before["plan"], now["plan"], "")


def _plan_change(before: Any, now: Any, where: str) -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{where}.{key}" if where else key
            if found := _plan_change(before.get(key), now.get(key), inner):
                return found
        return None
    if before == now:
        return None
    return f"the plan's {where} was {_short(before)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def no_checkpoint(folder: Path) -> UserError:
    """What is wrong with a folder that holds no run to be resumed."""
    return UserError(
        f"has no {CHECKPOINT_NAME}", "start a new run", path=folder, code="no-checkpoint"
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of a run."""
    try:
        return {"run", "identity"} <= _metadata(path).keys()
    except UserError:
        return False


def _checked(metadata: dict[str, str], name: str, schema: Schema) -> dict[str, Any]:
    """An entry of the metadata; raises KeyError, or ValueError with a clause."""
    content: dict[str, Any] = parse_json(metadata[name])
    if problem := validate(content, schema, f"its {name}"):
        raise ValueError(problem)
    return content


def _read_tensors(path: Path, state: RunState) -> dict[str, Tensor]:
    """All tensors; raises ValueError, before memory is taken, where they are too large."""
    modules = [trained.module for trained in state.trained]
    weights = sum(t.numel() for module in modules for t in module.state_dict().values())
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        shapes = [file.get_slice(name).get_shape() for name in names]
        if sum(map(math.prod, shapes)) > _MOST_COPIES * weights:
            raise ValueError("it is of a larger network")
        return {name: file.get_tensor(name) for name in names}


def _check_slots(slots: dict[int, dict[str, Tensor]], parameters: list[Tensor]) -> None:
    """Raise ValueError where the optimizer's numbers are of other weights."""
    for index, values in slots.items():
        if not 0 <= index < len(parameters):
            raise ValueError(f"its optimizer has numbers for weights {index}, which are not there")
        shape = parameters[index].shape
        if any(value.ndim and value.shape != shape for value in values.values()):
            raise ValueError(f"its optimizer has numbers of another shape for weights {index}")


def _not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of a tensor with NaN or infinite numbers; None where there is none."""
    return next((name for name, t in tensors.items() if not torch.isfinite(t).all()), None)


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 over what a checkpoint says and holds, whatever the order in its file."""
    digest = hashlib.sha256()
    for name in ("run", "identity"):
        digest.update(metadata[name].encode() + b"\0")
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    if not os.path.lexists(path):
        raise no_checkpoint(path.parent)
    try:
        # A device has no end, and the library would wait for what comes out of a FIFO.
        open_regular(path).close()
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"is no checkpoint that can be read ({_reason(error)})",
        "bring back a copy, or start anew in another output folder",
        path=path,
    )


def _reason(error: Exception) -> str:
    """The error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]


def _upgraded(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan as this version writes it."""
    return {**plan, "manifest": version_1.upgrade(plan["manifest"])}


def _weights(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A denoiser's weights, from a run of version 0.1 as well."""
    under = _under(tensors, prefix).items()
    return {version_1.weight_name(k).removeprefix("denoiser."): v for k, v in under}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
