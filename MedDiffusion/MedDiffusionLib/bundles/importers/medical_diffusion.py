"""Imports Medical Diffusion (Khader et al. 2023): volumes of a VQ-GAN's latent, without labels.

A checkpoint of its diffusion model holds ``model`` and ``ema``, of which the authors sample from
``ema``: the buffers of the schedule, under ``denoise_fn.`` the network and under ``vqgan.`` the
VQ-GAN, most of which only its training needs. A VQ-GAN by itself is a checkpoint of PyTorch
Lightning. What shapes do not tell is in ``PUBLISHED`` and ``DATA``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...compute.archives import Archive, Record, StoredTensor, read_archive
from ...compute.errors import UserError
from ...compute.parsing import shortened
from ...compute.registry import Component
from ...volumes.grids import GridSpec
from ...volumes.normalization import Intensity
from ..manifest import Architecture, Channel, Manifest, Sampling
from ..model import Model
from .importer import Importer, load_model
from .medical_diffusion_names import BUFFERS, FREQUENCIES, is_dead_weight, network_name, vqgan_name

_NETWORK, _VQGAN = "denoise_fn.", "vqgan."
_FIRST = "init_conv.weight"
_CODEBOOK = "codebook.embeddings"
_OTHER_NETWORK = ("denoise_fn.inc.", "denoise_fn.encoders.", "denoise_fn.time_embedder.")
_BUCKETS = 32
_STEPS = 50
_DESCRIPTION = (
    "Imported weights. It makes volumes from nothing but a seed. Neither spacing nor orientation "
    "survived its training: voxels of 1 mm, and the directions of the axes, are assumed where "
    "nothing else was said. Images of ADNI were turned over and darkened at random in its "
    "training: left and right mean nothing there, and brightness varies. The range 0 to 255 is "
    "that of its authors, and volumes may leave it a little."
)


@dataclass(frozen=True)
class Published:
    """A published model: its title, and the size of its volumes along the network's axes."""

    title: str
    size: tuple[int, int, int]


PUBLISHED = {
    (32, 2): Published("brain (ADNI, or BraTS FLAIR)", (64, 64, 64)),
    (32, 8): Published("knee or breast (MRNet or DUKE)", (32, 256, 256)),
    (64, 4): Published("knee or breast (MRNet or DUKE), low compression", (32, 256, 256)),
    (16, 8): Published("chest CT (LIDC)", (128, 128, 128)),
}
"""By the network's width, which is the latent's, and the voxels per latent voxel, with levels of
1, 2, 4 and 8 times that width."""
DATA = {
    "adni": ("brain, T1-weighted MR", "T1w", "RIP"),
    "brats": ("brain with tumour, FLAIR MR", "FLAIR", "LPS"),
    "mrnet": ("knee, MR", "MR", "RIP"),
    "duke": ("breast, MR", "MR", "SLP"),
    "lidc": ("chest, CT", "CT", "SPL"),
}
"""By the option ``data``: what is shown, the channel's name, and where the network's axes run, as
far as that is known: the authors kept no orientation. Without the option it is that of the files
that their notebook writes, ``SPL``."""
_NOTEBOOK = "SPL"


def _recognise(content: Any) -> bool:
    return any(_is_ours(part) for part in _parts(content))


def _parts(content: Any) -> list[Any]:
    """The state dictionaries that a checkpoint may have."""
    names = ("ema", "model", "state_dict")
    return [content.get(name) for name in names] if isinstance(content, dict) else []


def _is_ours(state: Any) -> bool:
    if not isinstance(state, dict):
        return False
    return (
        _NETWORK + _FIRST in state
        or _CODEBOOK in state
        or any(isinstance(key, str) and key.startswith(_OTHER_NETWORK) for key in state)
    )


def _name(content: Any) -> str:
    return "medical-diffusion"


def _import(archive: Archive, options: Mapping[str, Any]) -> Model:
    """The model of a checkpoint; raises ValueError with a clause, and UserError."""
    state = _state(archive, archive.content)
    network = _network(state)
    vqgan, config = _vqgan(archive, state, options)
    steps = _shape(state, "betas")[0]
    manifest = _manifest(archive, network, vqgan, config, steps, options)
    weights: dict[str, StoredTensor | Tensor] = {
        "denoiser.schedule.betas": state["betas"],
        "denoiser.schedule.fed": torch.arange(steps, dtype=torch.float32),
        "denoiser.network.rotary_frequencies": _frequencies(network),
    }
    for name, tensor in network.items():
        if not name.endswith(FREQUENCIES):
            own = network_name(name)
            # What is a convolution of slices there has an axis more here.
            conv = own.endswith((".qkv.weight", ".project.weight")) and len(tensor.shape) == 4
            weights[f"denoiser.network.{own}"] = tensor.load()[..., None] if conv else tensor
    for name, tensor in vqgan.items():
        if not is_dead_weight(name):
            weights[f"representation.{vqgan_name(name)}"] = tensor
    return load_model(manifest, weights)


def _manifest(
    archive: Archive,
    network: Mapping[str, StoredTensor],
    vqgan: Mapping[str, StoredTensor],
    config: Mapping[str, Any],
    steps: int,
    options: Mapping[str, Any],
) -> Manifest:
    (latent, width, *levels), attention = _network_options(network, options)
    representation, image_channels = _vqgan_options(vqgan, config, options)
    if latent != representation["embedding"]:
        raise ValueError(
            f"its network has {latent} channels, and its VQ-GAN {representation['embedding']}"
        )
    published = _published(width, levels, representation["downsample"])
    size = options.get("size") or (published.size if published else None)
    if size is None:
        raise _asked(
            archive,
            "is like none of the published models of Medical Diffusion, and does not tell how "
            "large its volumes are",
            "give their voxels along the network's three axes by the option size, as in "
            "size=64,64,64",
        )
    shown, channel, orientation = "", "image", _NOTEBOOK
    if "data" in options:
        shown, channel, orientation = DATA[options["data"]]
    elif published:
        shown = published.title
    return Manifest(
        name="medical-diffusion",
        version="imported",
        title=f"Medical Diffusion, {shown}" if shown else "Medical Diffusion",
        description=f"{_DESCRIPTION} The authors sample by ddpm with {steps} steps.",
        architecture=Architecture(
            Component("medical-diffusion", {"width": width, "channels": levels, **attention}),
            Component("medical-vqgan", representation),
            Component("discrete", {"steps": steps}),
            "epsilon-clipped",
        ),
        labels=(),
        label_dropout=0,
        channels=_channels(channel, image_channels),
        grid=GridSpec(
            options.get("orientation", orientation),
            tuple(options.get("spacing", (1.0, 1.0, 1.0))),
            tuple(size),
        ),
        intensity=Intensity(percentiles=(0, 100)),
        sampling=Sampling("dpmpp-2m", min(_STEPS, steps), 1.0),
        license="not stated: ask whoever made the weights (the program has no license)",
        attribution="F. Khader, G. Mueller-Franzes, S. Tayebi Arasteh et al.: Denoising diffusion "
        "probabilistic models for 3D medical image generation, Scientific Reports 13:7303, 2023.",
    )


def _state(archive: Archive, content: Any) -> dict[str, StoredTensor]:
    """The averaged weights; raises UserError for a checkpoint that is but a half, or another's."""
    if any(_CODEBOOK in part for part in _parts(content) if isinstance(part, dict)):
        raise UserError(
            "is a VQ-GAN of Medical Diffusion by itself: it makes no volumes without a diffusion "
            "model",
            "import that one's checkpoint (model-N.pt), and where it was saved without its VQ-GAN "
            "name this file by the option vqgan",
            path=archive.path,
        )
    state = content.get("ema")
    if not isinstance(state, dict):
        raise ValueError("it has no averaged weights (ema)")
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, StoredTensor):
            raise ValueError("its averaged weights (ema) have an entry that is no tensor")
    if any(key.startswith(_OTHER_NETWORK) for key in state):
        raise UserError(
            "has the network that Medical Diffusion calls UNet, which cannot be used here",
            "import a checkpoint of its Unet3D",
            path=archive.path,
        )
    return state


def _network(state: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of the network, where there is nothing in the file that none has."""
    buffers = [name for name in state if not name.startswith((_NETWORK, _VQGAN))]
    if odd := [name for name in buffers if name not in BUFFERS]:
        raise ValueError(f"it has the tensor {shortened(min(odd), 80)}, which none has")
    if lacking := [name for name in BUFFERS if name not in state]:
        raise ValueError(f"it lacks {lacking[0]} of its schedule")
    network = _within(state, _NETWORK)
    if any("null_cond_emb" in name for name in network):
        raise ValueError("it is one that was trained with texts, which cannot be used here")
    return network


def _vqgan(
    archive: Archive, state: Mapping[str, StoredTensor], options: Mapping[str, Any]
) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """The tensors of the VQ-GAN, and its settings where its own file tells them."""
    inside, given = _within(state, _VQGAN), options.get("vqgan")
    if inside and given:
        raise _asked(archive, "has its VQ-GAN in it", "leave the option vqgan away")
    if not (inside or given):
        raise _asked(
            archive, "was saved without its VQ-GAN", "give that one's .ckpt by the option vqgan"
        )
    return _read_vqgan(Path(given)) if given else (inside, {})


def _within(state: Mapping[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _read_vqgan(path: Path) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """The weights and the settings of a VQ-GAN's own checkpoint."""
    content = read_archive(path).content
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or _CODEBOOK not in state:
        raise UserError("is no VQ-GAN of Medical Diffusion", "give its .ckpt file", path=path)
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, StoredTensor):
            raise UserError("has weights that are no tensors", "get it anew", path=path)
    return state, _config(content)


def _config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the model that Lightning keeps, as plain values; empty where it has none."""

    def plain(value: Any) -> Any:
        fields = value.fields if isinstance(value, Record) else {}
        if "_val" in fields:
            return fields["_val"]
        inner = fields.get("_content")
        if isinstance(inner, dict):
            return {key: plain(part) for key, part in inner.items()}
        return [plain(part) for part in inner] if isinstance(inner, list) else value

    given = content.get("hyper_parameters")
    config = given.get("cfg") if isinstance(given, dict) else None
    inner = config.fields.get("_content") if isinstance(config, Record) else None
    model = plain(inner.get("model")) if isinstance(inner, dict) else None
    return model if isinstance(model, dict) else {}


def _network_options(
    network: Mapping[str, StoredTensor], options: Mapping[str, Any]
) -> tuple[list[int], dict[str, int]]:
    """The latent's channels, the width and those of the levels; and the rest of the options."""
    width, latent = _shape(network, _FIRST)[:2]
    widths: list[int] = []
    while f"downs.{len(widths)}.0.block1.proj.weight" in network:
        widths.append(_shape(network, f"downs.{len(widths)}.0.block1.proj.weight")[0])
    buckets, heads = _shape(network, "time_rel_pos_bias.relative_attention_bias.weight")[:2]
    hidden = _shape(network, "init_temporal_attn.fn.fn.fn.to_out.weight")[1]
    if not widths or buckets != _BUCKETS or hidden % (2 * heads):
        raise ValueError("its network is of another kind")
    rest = {"heads": heads, "head_channels": hidden // heads, "groups": options.get("groups", 8)}
    return [latent, width, *widths], rest


def _vqgan_options(
    vqgan: Mapping[str, StoredTensor], config: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """The representation's options, and how many channels the image has."""
    width, image_channels = _shape(vqgan, "encoder.conv_first.conv.weight")[:2]
    codes, embedding = _shape(vqgan, _CODEBOOK)[:2]
    levels = 0
    while f"encoder.conv_blocks.{levels}.down.conv.weight" in vqgan:
        levels += 1
    told = {key: config.get(key) for key in ("downsample", "num_groups")}
    kinds = {"norm_type": "group", "padding_type": "replicate"}
    for key, usual in kinds.items():
        if config.get(key, usual) != usual:
            raise ValueError(f"its VQ-GAN has the {key} {shortened(str(config[key]))}, not {usual}")
    downsample = options.get("downsample") or told["downsample"] or [2**levels] * 3
    groups = options.get("vqgan_groups") or told["num_groups"] or 32
    if not isinstance(groups, int) or (2 * width) % groups:
        raise ValueError(f"its VQ-GAN cannot have {shortened(str(groups))} groups (vqgan_groups)")
    if not levels or max(downsample) != 2**levels:
        raise ValueError(f"its VQ-GAN has {levels} levels, which downsample to {2**levels}")
    made = {"width": width, "downsample": list(downsample), "codes": codes, "groups": groups}
    return {**made, "embedding": embedding}, image_channels


def _frequencies(network: Mapping[str, StoredTensor]) -> Tensor:
    """The one buffer that all attentions share; raises ValueError where they have several."""
    found = [tensor.load() for name, tensor in network.items() if name.endswith(FREQUENCIES)]
    if not found:
        raise ValueError("it lacks the frequencies of its positions")
    if any(not torch.equal(found[0], each) for each in found):
        raise ValueError("its attentions have positions of several frequencies")
    return found[0]


def _shape(state: Mapping[str, StoredTensor], name: str) -> Sequence[int]:
    """Of a tensor that is to have numbers; ones are added where it has fewer axes than two."""
    shape = tuple(state[name].shape) if name in state else ()
    if not shape or 0 in shape:
        raise ValueError(f"it lacks the tensor {name}, or has it without numbers")
    return shape if len(shape) > 1 else (*shape, 1)


def _published(width: int, levels: Sequence[int], downsample: Sequence[int]) -> Published | None:
    usual = list(levels) == [width * n for n in (1, 2, 4, 8)] and len(set(downsample)) == 1
    return PUBLISHED.get((width, downsample[0])) if usual else None


def _channels(name: str, count: int) -> tuple[Channel, ...]:
    names = [name] if count == 1 else [f"{name}{n + 1}" for n in range(count)]
    return tuple(Channel(each, "arbitrary", (0, 255)) for each in names)


def _asked(archive: Archive, problem: str, remedy: str) -> UserError:
    return UserError(problem, remedy, path=archive.path)


_TRIPLE = {"type": "array", "minItems": 3, "maxItems": 3}
_GROUPS = {"type": "integer", "minimum": 1, "maximum": 256}
MEDICAL_DIFFUSION = Importer(
    "Medical Diffusion",
    {
        "data": {
            "type": "string",
            "enum": [*DATA],
            "description": "what it was trained on",
        },
        "size": {
            **_TRIPLE,
            "items": {"type": "integer", "minimum": 8, "maximum": 512},
            "description": "voxels of its volumes along the network's axes",
        },
        "spacing": {**_TRIPLE, "items": {"type": "number", "minimum": 0.01, "maximum": 100}},
        "orientation": {
            "type": "string",
            "pattern": "^[RLAPSI]{3}$",
            "description": "where the network's axes run",
        },
        "vqgan": {"type": "string", "description": "the VQ-GAN's checkpoint, where it lacks it"},
        "downsample": {
            **_TRIPLE,
            "items": {"type": "integer", "minimum": 1, "maximum": 16},
            "description": "voxels per latent voxel along the network's axes",
        },
        "groups": {**_GROUPS, "description": "of the network's normalizations"},
        "vqgan_groups": {**_GROUPS, "description": "of the VQ-GAN's normalizations"},
    },
    _recognise,
    _name,
    _import,
)
