"""What a plan says of the training: checked before anything runs."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

import torch

from ...bundles.manifest import Manifest, manifest_schema, parse_plan_manifest
from ...bundles.model import build_model
from ...compute.errors import UserError
from ...compute.schema import Schema, validate
from ...diffusion.samplers import SAMPLERS
from ..data.samples import Augmentation
from ..objectives.losses import LOSSES, Losses

_MOST_MINUTES, _MOST_ITERATIONS = 10**6, 10**9
"""Of a run, which is two years, and more than any sees."""
_POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 65536}
_NOT_NEGATIVE = {"type": "number", "minimum": 0, "maximum": 1e6}
_PATCH = {"type": "integer", "minimum": 1, "maximum": 4096}
_REPRESENTATION: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "from": {"type": "string", "maxLength": 4096},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.95},
        "batch": _COUNT,
        "patch": {"type": "array", "minItems": 3, "maxItems": 3, "items": _PATCH},
        "learning_rate": _POSITIVE,
        "views": {"type": "integer", "minimum": 1, "maximum": 1000},
        "losses": LOSSES,
    },
}
_TRAINING: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "data": {"type": "string", "maxLength": 10000},
        "start_from": {"type": "string", "maxLength": 4096},
        "batch": _COUNT,
        "learning_rate": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
        "warmup": {"type": "integer", "minimum": 1, "maximum": _MOST_ITERATIONS},
        "ema": _SHARE,
        "clip": _POSITIVE,
        "outside_weight": _SHARE,
        "checkpoint_minutes": _NOT_NEGATIVE,
        "validation_minutes": _NOT_NEGATIVE,
        "log_seconds": _NOT_NEGATIVE,
        "micro_batch": _COUNT,
        "recompute": {"type": "boolean"},
        "representation": _REPRESENTATION,
        "distillation": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "share": {"type": "number", "minimum": 0, "maximum": 0.95},
                "guidance": {"type": "number", "minimum": 0, "maximum": 20},
                "learning_rate": _POSITIVE,
            },
        },
        "augmentation": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "flip_axes": {
                    "type": "array",
                    "maxItems": 3,
                    "items": {"type": "integer", "minimum": 0, "maximum": 2},
                },
                "rotation": {"type": "number", "minimum": 0, "maximum": 180},
                "scale": {"type": "number", "minimum": 0, "maximum": 0.9},
                "shift": {"type": "integer", "minimum": 0, "maximum": 512},
                "far_shift": _SHARE,
                "affine": _SHARE,
            },
        },
    },
}


@dataclass(frozen=True)
class RepresentationSettings:
    """How a learned representation is trained, or where it is taken from, and what follows."""

    source: str | None = None
    """``from`` in a plan: the model, by its name or folder, whose representation is used."""
    share: float = 0.3
    """Of the run that trains the representation; the rest trains the denoiser."""
    batch: int = 4
    patch: tuple[int, int, int] = (48, 48, 48)
    """Voxels of a sample."""
    learning_rate: float = 1e-3
    views: int = 8
    """Latents of each case, encoded once: the case as it is, and strayed."""
    losses: Losses = field(default_factory=Losses)
    """By which the representation is trained."""


@dataclass(frozen=True)
class DistillationSettings:
    """How guidance is learned at the end, so that it costs nothing (Meng et al. 2023)."""

    share: float = 0.0
    """Of the run, its last part; 0: not at all."""
    guidance: float = 1.5
    """What the denoiser with guidance predicts is learned by the same without."""
    learning_rate: float = 1e-4


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
    """Decay of the moving average of the weights, which is what the bundle holds: at most, for
    the average spans about the last tenth of the iterations so far (power averaging: Karras et
    al. 2024, sec. 3.1)."""
    clip: float
    """Largest norm of the gradient."""
    outside_weight: float
    """What a voxel outside the scan counts in the loss."""
    augmentation: Augmentation
    start_from: str = ""
    """The model, by its name or folder, whose weights the denoiser begins with; empty: none's."""
    checkpoint_minutes: float = 5.0
    validation_minutes: float = 10.0
    log_seconds: float = 10.0
    micro_batch: int | None = None
    """Samples computed at once on one device; none: all that fall to it."""
    recompute: bool = False
    """Activation checkpointing: see :class:`...diffusion.networks.resunet.ResUNet`."""
    representation: RepresentationSettings | None = None
    """Only where the representation is learned, or taken from a model."""
    distillation: DistillationSettings = DistillationSettings()

    def of_representation(self) -> TrainingSettings:
        """The settings by which the representation is trained: its own, else these."""
        own = self.representation or RepresentationSettings()
        return replace(self, batch=own.batch, learning_rate=own.learning_rate, micro_batch=None)

    def of_distillation(self) -> TrainingSettings:
        """The settings by which guidance is learned."""
        return replace(self, learning_rate=self.distillation.learning_rate)


@dataclass(frozen=True)
class Limits:
    """When a run ends: after so many iterations, or so many minutes (resumed time counted in)."""

    iterations: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = ((self.iterations, _MOST_ITERATIONS), (self.minutes, _MOST_MINUTES))
        ends = [(end, most) for end, most in given if end is not None]
        # Not a number is neither more nor less than any.
        if len(ends) != 1 or not 0 < ends[0][0] <= ends[0][1]:
            raise UserError(
                "Training needs one end",
                "give iterations or minutes, more than 0, of the first up to "
                f"{_MOST_ITERATIONS:,} and of the second up to {_MOST_MINUTES:,}",
            )

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
    own = training.get("representation")
    return TrainingSettings(**{
        **training,
        "augmentation": Augmentation(**drift),
        "representation": _representation(own) if own is not None else None,
        "distillation": DistillationSettings(**training.get("distillation", {})),
    })  # fmt: skip


def _representation(own: dict[str, Any]) -> RepresentationSettings:
    names = {"from": "source"}
    settings = {names.get(name, name): value for name, value in own.items()}
    settings["source"] = settings.get("source") or None
    if "patch" in settings:
        settings["patch"] = tuple(settings["patch"])
    settings["losses"] = Losses(**settings.get("losses", {}))
    return RepresentationSettings(**settings)


def with_defaults(training: dict[str, Any]) -> dict[str, Any]:
    """A plan's ``training`` part with the settings that have defaults spelled out."""
    defaults = {f.name: f.default for f in fields(TrainingSettings) if f.default is not MISSING}
    own: dict[str, Any] = asdict(RepresentationSettings())
    del own["source"]
    own = {"from": "", **own, "patch": list(own["patch"])}
    given = training.get("representation", {})
    representation = {**own, **given, "losses": {**own["losses"], **given.get("losses", {})}}
    return {
        **defaults,
        "micro_batch": training["batch"],
        "distillation": asdict(DistillationSettings()),
        **training,
        "representation": representation,
    }


def part_problem(preset: dict[str, Any]) -> str | None:
    """What is wrong with the values of a part of a plan, in words, or None.

    Whether all is there, and nothing else, is for the whole plan to show.
    """
    schemas = {"manifest": manifest_schema(), "training": _TRAINING}
    for name, schema in schemas.items():
        if name in preset and (problem := validate(preset[name], _open(schema), name)):
            return problem
    sampling = preset.get("manifest", {}).get("sampling", {})
    return _sampler_problem(sampling.get("sampler"))


def _open(schema: Schema) -> Schema:
    """The schema without what it says of entries that are missing, or unknown."""
    opened = {k: v for k, v in schema.items() if k not in ("required", "additionalProperties")}
    if "properties" in schema:
        opened["properties"] = {k: _open(v) for k, v in schema["properties"].items()}
    if "items" in schema:
        opened["items"] = _open(schema["items"])
    return opened


def _sampler_problem(name: str | None) -> str | None:
    if name is None or name in SAMPLERS:
        return None
    return f"there is no sampler {name}, only {', '.join(SAMPLERS)}"


def check_manifest(content: dict[str, Any]) -> Manifest:
    """A plan's ``manifest`` part as a manifest, which a finished bundle will be able to have.

    Raises UserError where it could not: better now than after hours of training.
    """
    try:
        manifest = parse_plan_manifest(content)
        if problem := _sampler_problem(manifest.sampling.sampler):
            raise ValueError(problem)
        # For its shapes alone: no weight is made.
        with torch.device("meta"):
            build_model(manifest)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The plan's manifest cannot be used ({error})", "correct the preset"
        ) from error
    return manifest


def check_distillation(manifest: Manifest, settings: TrainingSettings) -> None:
    """Raise UserError where guidance is to be learned and has no meaning."""
    if settings.distillation.share and not (manifest.labels and manifest.label_dropout):
        raise UserError(
            "The plan has training.distillation, and its model no guidance to learn",
            "give it labels and a label_dropout above 0, or leave distillation out",
        )
