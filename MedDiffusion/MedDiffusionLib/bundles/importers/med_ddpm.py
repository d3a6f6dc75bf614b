"""Imports Med-DDPM (Dorjsembe et al. 2024): whole heads, BraTS's four contrasts, fast sampling.

A checkpoint holds ``model`` and ``ema``, of which the authors sample from ``ema``: the buffers of
the schedule and, under ``denoise_fn.``, the network. That of the fast variant holds ``model``
alone, the network without prefix. What shapes do not tell is in ``VARIANTS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...compute.archives import Archive, StoredTensor
from ...compute.parsing import shortened
from ...compute.registry import Component
from ...diffusion.schedules import cosine_betas
from ...volumes.grids import GridSpec
from ...volumes.normalization import Intensity
from ..manifest import Architecture, Channel, Label, Manifest, Sampling
from ..model import Model
from .importer import Importer, load_model

_PREFIX = "denoise_fn."
_FIRST = "input_blocks.0.0.weight"
_FAST_STEPS, _FAST_UNIT = 250, 4
"""The fast variant has its betas in another file, those of the same formula, and tells the network
steps of a thousand."""
_STEPS = 20

_HEAD = Label(1, "head", (220, 190, 160), "SCT:69536005")
_TUMOUR = Label(2, "tumour", (200, 60, 60), "SCT:108369006", optional=True)
_PARTS = (
    Label(1, "necrosis", (120, 60, 140), "SCT:6574001", optional=True),
    Label(2, "oedema", (70, 150, 220), "SCT:79654002", optional=True),
    Label(3, "enhancing tumour", (200, 60, 60), "", optional=True),
)
_BRAIN = Label(4, "brain", (220, 190, 160), "SCT:12738006")
_SLICES = (
    "Each axial slice of its training images had been stretched to the whole range by itself, so "
    "the intensities of different slices are not on one scale."
)


@dataclass(frozen=True)
class Variant:
    """What a published model is, as far as its file does not say; ``title`` names it."""

    title: str
    description: str
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    range: tuple[float, float]
    outside: int
    axes: str
    grid: GridSpec
    steps: int = _STEPS
    sampler: str = "dpmpp-2m"
    spacing: str = "lambda"
    strides: tuple[int, int, int] = (2, 2, 2)


VARIANTS = {
    "t1": Variant(
        "Med-DDPM, whole head, T1-weighted",
        "The label head (1) is all of the head, skull and neck included, down to the lower edge of "
        f"the field of view; where it is missing the result is noise. {_SLICES}",
        (_HEAD, _TUMOUR),
        ("T1w",),
        (-1, 1),
        -1,
        "kji",
        GridSpec("RAS", (1.5, 1.5, 1.5), (128, 128, 128)),
    ),
    "brats": Variant(
        "Med-DDPM, brain with tumour, four contrasts",
        "Labels have the values of its training data: 1 necrosis, 2 oedema, 3 enhancing tumour "
        "(4 in BraTS's own files: make it 3), 4 the rest of the brain, without which the result is "
        "noise. The authors' program stretches each volume to 0 to 1 by its own extremes; here all "
        "volumes have the same scale.",
        (*_PARTS, _BRAIN),
        ("T1w", "T1ce", "T2w", "FLAIR"),
        (0, 1),
        0,
        "kji",
        GridSpec("LPS", (1.0, 1.0, 1.0), (192, 192, 144)),
    ),
    "fast": Variant(
        "Med-DDPM, whole head, T1-weighted, fast variant",
        "The label head (1) is all of the head, skull and neck included; where it is missing the "
        f"result is noise. {_SLICES}",
        (_TUMOUR, _HEAD),
        ("T1w",),
        (-1, 1),
        -1,
        "ijk",
        GridSpec("RAS", (1.5, 1.5, 1.5), (128, 128, 128)),
        10,
        "ddpm",
        "even",
        (2, 1, 2),
    ),
}
"""The published models, by the name of the option ``variant``."""


def _is_med_ddpm(content: Any) -> bool:
    return any(
        isinstance(part, dict) and (_PREFIX + _FIRST in part or _FIRST in part)
        for part in _parts(content)
    )


def _parts(content: Any) -> list[Any]:
    """The state dictionaries that a checkpoint may have."""
    return [content.get("ema"), content.get("model")] if isinstance(content, dict) else []


def _name(content: Any) -> str:
    state = next(part for part in _parts(content) if isinstance(part, dict))
    if _FIRST in state:
        return "med-ddpm-fast"
    first = state[_PREFIX + _FIRST]
    brats = isinstance(first, StoredTensor) and tuple(first.shape[1:2]) == (8,)
    return "med-ddpm-brats" if brats else "med-ddpm-t1"


def _import(archive: Archive, options: Mapping[str, Any]) -> Model:
    """The model of a checkpoint; raises ValueError with a clause."""
    content = archive.content
    step = content.get("step", 0)
    if type(step) is not int or step < 0:
        raise ValueError("its number of training steps is no whole number")
    state = _state(content, options.get("weights"))
    buffers = {name: tensor for name, tensor in state.items() if "." not in name}
    bare = _FIRST in state
    prefix = "" if bare else _PREFIX
    network = {name.removeprefix(prefix): tensor for name, tensor in state.items() if "." in name}
    if bad := [name for name in state if "." in name and not name.startswith(prefix)]:
        raise ValueError(f"it has the tensor {shortened(bad[0], 80)}, which is not the network's")
    shape = NetworkShape.of(network)
    variant = _variant(shape, options, bare)
    if bare:
        if buffers:
            raise ValueError(f"it has the tensor {shortened(min(buffers), 80)} beside its network")
        betas = cosine_betas(_FAST_STEPS).float()
        fed = _FAST_UNIT * torch.arange(_FAST_STEPS, dtype=torch.float32)
    else:
        betas = _betas(buffers)
        fed = torch.arange(len(betas), dtype=torch.float32)
    weights: dict[str, StoredTensor | Tensor] = {
        "denoiser.schedule.betas": betas,
        "denoiser.schedule.fed": fed,
        **{f"denoiser.network.{name}": tensor for name, tensor in network.items()},
    }
    manifest = _manifest(variant, shape, len(betas), step, options)
    return load_model(manifest, weights)


def _state(content: Any, wanted: str | None) -> dict[str, StoredTensor]:
    """The state dictionary to take."""
    bare = "ema" not in content and _FIRST in content.get("model", {})
    name = wanted or ("model" if bare else "ema")
    state = content.get(name)
    if not isinstance(state, dict):
        raise ValueError(f"it has no weights {name}; the option weights may name others")
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, StoredTensor):
            raise ValueError(f"its weights {name} have an entry that is no tensor")
    return state


def _betas(buffers: Mapping[str, StoredTensor]) -> Tensor:
    """The betas of a file, ``[T]``, where the rest of its schedule agrees with them."""
    wanted = schedule_buffers(torch.ones(1, dtype=torch.float64) / 2)
    if missing := [name for name in wanted if name not in buffers]:
        raise ValueError(f"it lacks the tensor {missing[0]} of its schedule")
    if extra := buffers.keys() - wanted.keys():
        raise ValueError(f"it has the tensor {shortened(min(extra), 80)}, which no schedule has")
    shape = tuple(buffers["betas"].shape)
    if len(shape) != 1 or not 2 <= shape[0] <= 1000:
        raise ValueError("its schedule does not have 2 to 1,000 steps")
    if any(
        tuple(tensor.shape) != shape or tensor.dtype != torch.float32 for tensor in buffers.values()
    ):
        raise ValueError("the parts of its schedule are not of one length, or not float32")
    loaded = {name: tensor.load() for name, tensor in buffers.items()}
    betas = loaded["betas"]
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError("its betas do not lie between 0 and 1")
    # In float32 a beta near 1 leaves 1 - beta with three digits.
    for name, made in schedule_buffers(betas.double()).items():
        if not torch.allclose(loaded[name], made, rtol=1e-2, atol=1e-4):
            raise ValueError(f"its {name} do not agree with its betas")
    return betas


def schedule_buffers(betas: Tensor) -> dict[str, Tensor]:
    """What a file keeps of a schedule, float32, from its betas ``[T]``, float64."""
    kept = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    variance = betas * (1 - before) / (1 - kept)
    second = (1 - before) * (1 - betas).sqrt() / (1 - kept)
    made = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": kept.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - kept).log(),
        "sqrt_recip_alphas_cumprod": (1 / kept).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / kept - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - kept),
        "posterior_mean_coef2": second,
        "posterior_mean_coef3": 1 - second,
    }
    return {name: tensor.float() for name, tensor in made.items()}


@dataclass(frozen=True)
class NetworkShape:
    """What the names and shapes of the network's tensors tell."""

    channels: int
    image_channels: int
    masks: int
    multipliers: list[int]
    blocks: int
    attention: list[int]

    @staticmethod
    def of(network: Mapping[str, StoredTensor]) -> NetworkShape:
        """Raises ValueError with a clause where they are those of no such network."""
        channels = _size(network, "time_embed.0.weight", 1)
        image_channels = _size(network, "out.2.weight", 0)
        masks = _size(network, _FIRST, 1) - image_channels
        if masks < 1:
            raise ValueError("it has no channels for masks")
        widths, blocks, attention = [0], [0], set[int]()
        index = 1
        while any(f"input_blocks.{index}.0.{part}" in network for part in ("op.weight", _WIDTH)):
            if f"input_blocks.{index}.0.op.weight" in network:
                widths.append(0)
                blocks.append(0)
            else:
                widths[-1] = _size(network, f"input_blocks.{index}.0.{_WIDTH}", 0)
                blocks[-1] += 1
                if f"input_blocks.{index}.1.norm.weight" in network:
                    attention.add(len(widths) - 1)
            index += 1
        if len(set(blocks)) != 1 or not blocks[0] or any(width % channels for width in widths):
            raise ValueError("its network has levels of different kinds")
        multipliers = [width // channels for width in widths]
        return NetworkShape(
            channels, image_channels, masks, multipliers, blocks[0], sorted(attention)
        )


_WIDTH = "out_layers.3.weight"


def _size(network: Mapping[str, StoredTensor], name: str, axis: int) -> int:
    shape = tuple(network[name].shape) if name in network else ()
    if len(shape) <= axis or not shape[axis]:
        raise ValueError(f"it lacks the tensor {name}, or has it without numbers")
    return int(shape[axis])


def _variant(shape: NetworkShape, options: Mapping[str, Any], bare: bool) -> Variant:
    """The published model that a file is, changed by what the user says."""
    found = {(1, 2): "fast" if bare else "t1", (4, 4): "brats"}
    name = options.get("variant") or found.get((shape.image_channels, shape.masks))
    if name is None:
        raise ValueError(
            f"it makes {shape.image_channels} contrasts from {shape.masks} masks, unlike the "
            "published ones: name by the option variant the one that it is most like "
            f"({', '.join(VARIANTS)}), and give labels and channels"
        )
    variant = VARIANTS[name]
    labels, channels = variant.labels, variant.channels
    if named := options.get("labels"):
        color = (220, 190, 160)
        labels = tuple(
            Label(value, label, color, "", optional=True)
            for value, label in enumerate(named, start=1)
        )
    channels = tuple(options.get("channels") or channels)
    for what, names, count in (
        ("labels", labels, shape.masks),
        ("channels", channels, shape.image_channels),
    ):
        if len(names) != count:
            raise ValueError(f"it has {count} {what}, and {len(names)} are named")
    orientation, spacing, size = (
        options.get(key, getattr(variant.grid, key)) for key in ("orientation", "spacing", "size")
    )
    return replace(
        variant,
        labels=labels,
        channels=channels,
        outside=options.get("outside", variant.outside),
        axes=options.get("axes", variant.axes),
        strides=tuple(options.get("strides", variant.strides)),
        grid=GridSpec(orientation, tuple(spacing), tuple(size)),
    )


def _manifest(
    variant: Variant, shape: NetworkShape, steps: int, trained: int, options: Mapping[str, Any]
) -> Manifest:
    network = {
        "channels": shape.channels,
        "multipliers": shape.multipliers,
        "blocks": shape.blocks,
        "attention": shape.attention,
        "heads": options.get("heads", 1),
        "outside": variant.outside,
        "axes": variant.axes,
        "strides": list(variant.strides),
    }
    schedule = {"steps": steps, "spacing": variant.spacing}
    published = "ddpm with 10 steps" if variant.spacing == "even" else f"ddpm with {steps} steps"
    return Manifest(
        name="med-ddpm",
        version=f"step {trained}" if trained else "imported",
        title=variant.title,
        description=f"Imported weights. {variant.description} The authors sample by {published}.",
        architecture=Architecture(
            Component("med-ddpm", network),
            Component("identity"),
            Component("discrete", schedule),
            "epsilon-clipped",
        ),
        labels=variant.labels,
        label_dropout=0,
        channels=tuple(Channel(name, "arbitrary", variant.range) for name in variant.channels),
        grid=variant.grid,
        intensity=Intensity(percentiles=(0, 100)),
        sampling=Sampling(variant.sampler, min(variant.steps, steps), 1.0),
        license="not stated: ask whoever made the weights (the program's is GPL-3)",
        attribution="Z. Dorjsembe, H.-K. Pao, S. Odonchimed, F. Xiao: Conditional Diffusion Models "
        "for Semantic 3D Brain MRI Synthesis, IEEE J. Biomed. Health Inform. 2024.",
    )


_NAMES = {"type": "array", "minItems": 1, "maxItems": 64, "items": {"type": "string"}}
_TRIPLE = {"type": "array", "minItems": 3, "maxItems": 3}
MED_DDPM = Importer(
    "Med-DDPM",
    {
        "variant": {
            "type": "string",
            "enum": [*VARIANTS],
            "description": "the published model that it is, or is most like",
        },
        "weights": {"type": "string", "enum": ["ema", "model"], "description": "which to take"},
        "labels": {**_NAMES, "description": "names of the labels 1, 2, ... in the masks' order"},
        "channels": {**_NAMES, "description": "names of the contrasts"},
        "outside": {
            "type": "integer",
            "minimum": -1,
            "maximum": 0,
            "description": "value of a mask where its label is not",
        },
        "axes": {"type": "string", "enum": ["kji", "ijk"], "description": "order in the network"},
        "strides": {**_TRIPLE, "items": {"type": "integer", "minimum": 1, "maximum": 2}},
        "heads": {"type": "integer", "minimum": 1, "maximum": 64},
        "orientation": {"type": "string", "pattern": "^[RLAPSI]{3}$"},
        "spacing": {**_TRIPLE, "items": {"type": "number", "minimum": 0.01, "maximum": 100}},
        "size": {**_TRIPLE, "items": {"type": "integer", "minimum": 8, "maximum": 512}},
    },
    _is_med_ddpm,
    _name,
    _import,
)
