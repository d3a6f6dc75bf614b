"""What a plan says of the training: checked before anything runs."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch

from ...bundles.manifest import Manifest, parse_plan_manifest
from ...bundles.model import build_model
from ...compute.errors import UserError
from ...compute.schema import validate
from ..data.samples import Augmentation

_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 1}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}
_TRAINING: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "data": {"type": "string"},
        "batch": _COUNT,
        "learning_rate": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
        "warmup": _COUNT,
        "ema": _SHARE,
        "clip": _POSITIVE,
        "outside_weight": _SHARE,
        "checkpoint_minutes": _NOT_NEGATIVE,
        "validation_minutes": _NOT_NEGATIVE,
        "log_seconds": _NOT_NEGATIVE,
        "micro_batch": _COUNT,
        "recompute": {"type": "boolean"},
        "augmentation": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "flip_axes": {
                    "type": "array",
                    "maxItems": 3,
                    "items": {"type": "integer", "minimum": 0, "maximum": 2},
                },
                "rotation": _NOT_NEGATIVE,
                "scale": {"type": "number", "minimum": 0, "maximum": 0.9},
                "shift": {"type": "integer", "minimum": 0},
                "far_shift": _SHARE,
                "affine": _SHARE,
            },
        },
    },
}


@dataclass(frozen=True)
class TrainingSettings:
    """The ``training`` part of a plan or preset."""

    data: str
    """The data set in words, for the model card."""
    batch: int
    """Samples of one optimizer step, over all micro-batches and processes together."""
    learning_rate: float
    weight_decay: float
    warmup: int
    """Iterations in which the learning rate rises from 0."""
    ema: float
    """Decay of the moving average of the weights, which is what the bundle holds."""
    clip: float
    """Largest norm of the gradient."""
    outside_weight: float
    """What a voxel outside the scan counts in the loss."""
    augmentation: Augmentation
    checkpoint_minutes: float = 5.0
    validation_minutes: float = 10.0
    log_seconds: float = 10.0
    micro_batch: int | None = None
    """Samples computed at once on one device; none: all that fall to it."""
    recompute: bool = False
    """Activation checkpointing: see :class:`...diffusion.networks.resunet.ResUNet`."""


@dataclass(frozen=True)
class Limits:
    """When a run ends: after so many iterations, or so many minutes (resumed time counted in)."""

    iterations: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.iterations, self.minutes) if end is not None]
        if len(ends) != 1 or ends[0] <= 0:
            raise UserError("Training needs one end", "give iterations or minutes, more than 0")

    def progress(self, iteration: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1."""
        if self.iterations is not None:
            return min(1.0, iteration / self.iterations)
        return min(1.0, seconds / (60 * (self.minutes or 0)))


def read_settings(training: dict[str, Any]) -> TrainingSettings:
    """A plan's ``training`` part; raises UserError for a name or value that means nothing."""
    needed = [f.name for f in fields(TrainingSettings) if f.default is MISSING]
    if problem := validate(training, {**_TRAINING, "required": needed}, "training"):
        raise UserError(f"The plan's training settings cannot be used ({problem})", "correct them")
    drift = {**training["augmentation"]}
    if "flip_axes" in drift:
        drift["flip_axes"] = tuple(drift["flip_axes"])
    return TrainingSettings(**{**training, "augmentation": Augmentation(**drift)})


def with_defaults(training: dict[str, Any]) -> dict[str, Any]:
    """A plan's ``training`` part with the settings that have defaults spelled out."""
    defaults = {f.name: f.default for f in fields(TrainingSettings) if f.default is not MISSING}
    return {**defaults, "micro_batch": training["batch"], **training}


def check_manifest(content: dict[str, Any]) -> Manifest:
    """A plan's ``manifest`` part as a manifest, which a finished bundle will be able to have.

    Raises UserError where it could not: better now than after hours of training.
    """
    try:
        manifest = parse_plan_manifest(content)
        # For its shapes alone: no weight is made.
        with torch.device("meta"):
            build_model(manifest)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The plan's manifest cannot be used ({error})", "correct the preset"
        ) from error
    return manifest
