"""Checkpoints: everything that a resumed run needs, in one safetensors file, whole or not at all.

No random state is among it: samples, noise and times are functions of the seed and of the
sample's number, so the number of iterations says where all of them stand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...compute.errors import UserError
from ...compute.files import atomic
from ...diffusion.denoiser import Denoiser
from ..data.cases import CaseFiles
from .names import CHECKPOINT_NAME as CHECKPOINT_NAME

_FACTS = ("iteration", "seconds", "rate_scale", "rollbacks", "micro_batch", "recompute")


@dataclass
class RunState:
    """A run between two iterations."""

    denoiser: Denoiser
    average: Denoiser
    """The moving average of the denoiser's weights."""
    optimizer: torch.optim.Optimizer
    micro_batch: int
    recompute: bool = False
    iteration: int = 0
    seconds: float = 0.0
    rate_scale: float = 1.0
    """What the learning rate was lowered to, after the loss had become NaN."""
    rollbacks: int = 0


Identity = dict[str, Any]
"""What must not change when a run is resumed: plan, seed, and a digest per case."""


def identify(
    plan: dict[str, Any],
    seed: int,
    cases: Iterable[CaseFiles],
    validation: Iterable[CaseFiles],
) -> Identity:
    """The identity of a run; reads all of its files."""
    return {
        "plan": plan,
        "seed": seed,
        "cases": {case.name: _digest(case) for case in cases},
        "validation": {case.name: _digest(case) for case in validation},
    }


def save_checkpoint(folder: Path, state: RunState, identity: Identity) -> None:
    """Write the checkpoint; raises UserError where there is no room, the last one then intact."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model.", state.denoiser), ("average.", state.average)):
        tensors |= {prefix + k: v.contiguous() for k, v in module.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.contiguous() for k, v in values.items()}
    facts = {name: getattr(state, name) for name in _FACTS}
    metadata = {"run": json.dumps(facts), "identity": json.dumps(identity)}
    path = folder / CHECKPOINT_NAME
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))
    except OSError as error:
        kept = " (the last one is intact)" if path.exists() else ""
        raise UserError(
            f"cannot be written{kept}",
            f"{_reason(error)}; make room or give write permission, then go on with --resume",
            path=path,
        ) from error


def load_checkpoint(folder: Path, state: RunState) -> None:
    """Bring a run back to its last checkpoint; raises UserError where it cannot be read."""
    path = folder / CHECKPOINT_NAME
    metadata = _metadata(path)
    try:
        facts = json.loads(metadata["run"])
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state.denoiser.load_state_dict(_under(tensors, "model."))
        state.average.load_state_dict(_under(tensors, "average."))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(tensors, "optimizer.").items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = tensor
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        for name in _FACTS:
            setattr(state, name, facts[name])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def read_identity(folder: Path) -> Identity:
    """What the run in a folder was started with; raises UserError without a readable checkpoint."""
    path = folder / CHECKPOINT_NAME
    metadata = _metadata(path)
    try:
        identity: Identity = json.loads(metadata["identity"])
        return {name: identity[name] for name in ("plan", "seed", "cases", "validation")}
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


def _digest(case: CaseFiles) -> str:
    """SHA-256 over the contents of a case's files, in their order, as hexadecimal."""
    digest = hashlib.sha256()
    for path in (*case.images, case.labels):
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"has no {path.name}", "start the run without --resume", path=path.parent)
    try:
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


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
