"""Training: data and a preset in, a model bundle out, with checkpoints on the way.

The loop reads top to bottom in :func:`train`; everything that a resumed run needs is in one
checkpoint, a safetensors file written atomically.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from .bundle import build_denoiser, build_representation, save_bundle
from .dataset import Augmentation, Sample, TrainingSamples, load_case
from .denoiser import Denoiser
from .errors import UserError
from .execution import Execution
from .files import atomic
from .manifest import Manifest, build_manifest
from .models import resources_folder
from .reading import has_image_suffix, read_label_map, stem
from .representations import coarsen_mask
from .shape_model import fit_shape_model, save_shape_model

CHECKPOINT_NAME = "checkpoint.safetensors"
_MAX_SHAPE_VALUES = 2**28
"""Distances of all training label maps together that a shape model may be fitted to: 1 GiB."""


@dataclass(frozen=True)
class Limits:
    """When a run ends: after so many iterations, or so many minutes (resumed time counted in)."""

    iterations: int | None = None
    minutes: float | None = None

    def progress(self, iteration: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1."""
        if self.iterations is not None:
            return min(1.0, iteration / self.iterations)
        if self.minutes is not None:
            return min(1.0, seconds / (60 * self.minutes))
        raise UserError("Training needs an end: give iterations or minutes.")


@dataclass(frozen=True)
class Report:
    """What the progress callback receives after each iteration."""

    iteration: int
    progress: float
    loss: float
    seconds: float


def load_preset(name: str) -> dict[str, Any]:
    """A preset by name (``Resources/Presets``) or from a JSON file of the user's."""
    path = resources_folder() / "Presets" / f"{name}.json"
    path = path if path.is_file() else Path(name)
    try:
        preset = json.loads(path.read_text("utf-8"))
        return {"manifest": preset["manifest"], "training": preset["training"]}
    except OSError as error:
        raise UserError(f"There is no preset {name}: give a preset's name or JSON file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no training preset ({error!r}): correct it.") from error


def read_split(path: Path) -> list[str]:
    """The case names under "train" of a split file."""
    try:
        names = json.loads(path.read_text("utf-8"))["train"]
    except OSError as error:
        raise UserError(f"{path} cannot be read: check the path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is no split file: it needs a JSON list under "train".') from error
    return [str(name) for name in names]


def pair_files(
    images: Path, labels: Path, wanted: list[str] | None = None
) -> list[tuple[Path, Path]]:
    """Image and label map files of the same name, sorted; ``wanted`` names a subset of them."""
    found: list[dict[str, Path]] = []
    for folder in (images, labels):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the folder of the training files.")
        found.append({stem(p): p for p in sorted(folder.iterdir()) if has_image_suffix(p)})
    names = sorted(found[0].keys() & found[1].keys()) if wanted is None else wanted
    if not names:
        raise UserError(f"No file in {images} has a label map of the same name in {labels}.")
    lacking = [name for name in names if name not in found[0] or name not in found[1]]
    if lacking:
        raise UserError(
            f"{len(lacking)} cases lack an image or a label map, the first is {lacking[0]}."
        )
    return [(found[0][name], found[1][name]) for name in names]


def train(
    pairs: list[tuple[Path, Path]],
    output: Path,
    preset: dict[str, Any],
    limits: Limits,
    execution: Execution,
    *,
    seed: int = 0,
    command: str = "",
    resume: bool = False,
    on_iteration: Callable[[Report], None] = lambda report: None,
) -> None:
    """Train on image and label map pairs and write a bundle to ``output``.

    ``preset`` has a ``manifest`` (a model.json without weights and training facts) and ``training``
    settings. The run's checkpoint lies in ``output`` and is written every few minutes and at the
    end; with ``resume`` the run goes on from it.
    """
    content, settings = preset["manifest"], preset["training"]
    if (output / CHECKPOINT_NAME).exists() and not resume:
        raise UserError(f"{output} holds another run: use --resume to go on, or another output.")
    planned = build_manifest(content)
    spec, values = planned.grid, [label.value for label in planned.labels]
    cases = [load_case(i, m, spec, values, planned.percentiles) for i, m in pairs]

    torch.manual_seed(seed)
    representation = build_representation(content)
    denoiser = execution.prepare(build_denoiser(content))
    average = copy.deepcopy(denoiser).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    iteration, seconds = 0, 0.0
    if resume:
        iteration, seconds = _load_checkpoint(output, denoiser, average, optimizer)
    batch = settings["batch"]
    samples = TrainingSamples(
        cases, spec, values, Augmentation(**settings["augmentation"]),
        content["label_dropout"], length=2**40, seed=seed,
        outside_weight=settings["outside_weight"],
    )  # fmt: skip
    loader = DataLoader(samples, batch, sampler=_Counting(iteration * batch), num_workers=1)
    output.mkdir(parents=True, exist_ok=True)

    clock = time.monotonic() - seconds
    saved = seconds
    for image, labels, present, weight in loader:
        progress = limits.progress(iteration, seconds)
        if progress >= 1:
            break
        rate = settings["learning_rate"] * min(1, (iteration + 1) / settings["warmup"])
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * progress))
        random = torch.Generator().manual_seed(seed * 2**32 + iteration)
        loss = _step(
            denoiser, optimizer, execution, (image, labels, present, weight),
            representation, settings["clip"], random,
        )  # fmt: skip
        iteration += 1
        decay = min(settings["ema"], (1 + iteration) / (10 + iteration))
        _update_average(average, denoiser, decay)
        seconds = time.monotonic() - clock
        on_iteration(Report(iteration, limits.progress(iteration, seconds), loss, seconds))
        if seconds - saved > 60 * settings["checkpoint_minutes"]:
            _save_checkpoint(output, denoiser, average, optimizer, iteration, seconds)
            saved = seconds
    _save_checkpoint(output, denoiser, average, optimizer, iteration, seconds)
    training = {
        "data": settings["data"],
        "cases": len(cases),
        "iterations": iteration,
        "minutes": round(seconds / 60, 1),
        "command": command,
    }
    shape = _fit_shape_model([labels for _, labels in pairs], planned, output)
    save_bundle(output, {**planned.content, **shape, "training": training, "figures": []}, average)


def _fit_shape_model(paths: list[Path], planned: Manifest, output: Path) -> dict[str, Any]:
    """Write the shape model that random label maps are drawn from; returns its manifest entry.

    No shape model where it would not fit into memory, or where the label maps have not all labels.
    """
    fields = (1 + len(planned.labels)) * math.prod(planned.grid.size) // 8
    if fields * len(paths) > _MAX_SHAPE_VALUES:
        return {}
    try:
        model = fit_shape_model(
            map(read_label_map, paths), planned.grid, [label.value for label in planned.labels]
        )
    except UserError:
        return {}
    return {"shape_model": {"sha256": save_shape_model(model, output)}}


def _step(
    denoiser: Denoiser,
    optimizer: torch.optim.Optimizer,
    execution: Execution,
    sample: Sample,
    representation: Any,
    clip: float,
    random: torch.Generator,
) -> float:
    image, labels, present, weight = sample
    x0 = representation.encode(image)
    mask = coarsen_mask(weight, representation.factor)
    # Stratified times: each batch covers [0, 1] evenly, which lowers the variance of the loss.
    count = len(image)
    t = (torch.arange(count) + torch.rand(count, generator=random)) / count
    noise = torch.randn(x0.shape, generator=random)
    inputs = [v.to(execution.device) for v in (x0, labels, present, mask, t, noise)]
    with execution.autocast():
        loss = denoiser.loss(*inputs)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(denoiser.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _update_average(average: Denoiser, denoiser: Denoiser, decay: float) -> None:
    for kept, current in zip(average.parameters(), denoiser.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)


class _Counting(torch.utils.data.Sampler[int]):
    """Sample indices from ``start`` on, without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self):  # type: ignore[no-untyped-def]
        index = self.start
        while True:
            yield index
            index += 1


def _save_checkpoint(
    output: Path,
    denoiser: Denoiser,
    average: Denoiser,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    seconds: float,
) -> None:
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model.", denoiser), ("average.", average)):
        tensors |= {prefix + k: v.contiguous() for k, v in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.contiguous() for k, v in state.items()}
    metadata = {"run": json.dumps({"iteration": iteration, "seconds": seconds})}
    with atomic(output / CHECKPOINT_NAME) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def _load_checkpoint(
    output: Path, denoiser: Denoiser, average: Denoiser, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    path = output / CHECKPOINT_NAME
    if not path.is_file():
        raise UserError(f"{output} has no {CHECKPOINT_NAME}: start the run without --resume.")
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        run = json.loads(file.metadata()["run"])
    denoiser.load_state_dict(_under(tensors, "model."))
    average.load_state_dict(_under(tensors, "average."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under(tensors, "optimizer.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return run["iteration"], run["seconds"]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
