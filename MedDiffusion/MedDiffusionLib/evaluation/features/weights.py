"""Features by published weights that the user has: MedicalNet and RadImageNet.

Nothing is downloaded, and nothing in a file is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...compute.archives import StoredTensor, read_archive
from ...compute.errors import UserError
from ...compute.files import file_sha256, open_regular
from .base import checked
from .resnets import LAYOUTS, Layout, ResNet, find_layout

SLICES = 16
"""The most slices of a plane that a 2D network sees, evenly spaced."""
_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Under which a checkpoint may keep its tensors."""
_HEADS = re.compile(r"(conv_seg|fc|classifier)\.|.*num_batches_tracked$")
"""What is left out: heads for other tasks, and counters."""
_SEQUENTIAL = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""What RadImageNet's authors have by its number."""
_LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class _Stored:
    shape: tuple[int, ...]
    load: Callable[[], Tensor]


class WeightsFeatures:
    """A published network's view of each contrast, one after the other; see
    :class:`.base.Extractor`.

    A 3D network sees the volume with mean 0 and deviation 1 within what is valid; a 2D network sees
    up to 16 slices of each of the three planes. Features are means over space, and over the slices
    of a plane: ``[C w]`` in 3D, ``[C 3 w]`` in 2D, w of 512 or 2,048. Published figures are over
    single slices or of other sizes, and do not compare with these.
    """

    def __init__(self, name: str, sha256: str, layout: Layout, network: ResNet) -> None:
        self.name = name
        self.sha256 = sha256
        self.title = layout.title
        self._layout = layout
        self._network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See the class."""
        see = self._volume if self._layout.axes == 3 else self._planes
        return np.concatenate([see(channel, valid) for channel in checked(image, valid)])

    def _volume(
        self, channel: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        values = channel[valid].astype(np.float64)
        scaled = (channel - values.mean()) / max(float(values.std()), _LEAST_DEVIATION)
        scaled = np.where(valid, scaled, 0.0).astype(np.float32)
        return self._means(torch.from_numpy(scaled)[None, None])[0]

    def _planes(
        self, channel: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        found = []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            scanned = np.flatnonzero(valid.any(others))
            places = np.linspace(0, len(scanned) - 1, min(SLICES, len(scanned))).round()
            slices = np.moveaxis(channel, axis, 0)[scanned[places.astype(np.intp)]]
            images = torch.from_numpy(np.ascontiguousarray(slices))[:, None]
            if self._layout.low:
                images = (images + 1) / 2 - torch.tensor(self._layout.low)[:, None, None]
            found.append(self._means(images.expand(-1, self._layout.inputs, -1, -1)).mean(0))
        return np.concatenate(found)

    def _means(self, images: Tensor) -> NDArray[np.float64]:
        """Of each image, over space, ``[B, w]``."""
        means: NDArray[np.float64] = self._network(images).flatten(2).double().mean(2).numpy()
        return means


def read_weights(path: Path, layouts: tuple[Layout, ...] = LAYOUTS) -> WeightsFeatures:
    """The extractor of a file of weights, by the names and shapes of its tensors.

    A checkpoint that ``torch.save`` wrote, or a safetensors file; heads in it are left out. Raises
    UserError for a file that is neither, is damaged, or holds weights of another network.
    """
    stored = _by_known_names(_read(path))
    layout = find_layout({name: each.shape for name, each in stored.items()}, layouts)
    if layout is None:
        raise UserError(
            "has weights of no network that can be used here",
            f"choose those of {', '.join(each.title for each in layouts)}",
            path=path,
            code="weights-kind",
        )
    with torch.device("meta"):
        network = ResNet(layout)
    weights = {name: each.load() for name, each in stored.items()}
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise UserError(
                f"has weights {name} that are no finite numbers",
                "get the file anew from where it was published",
                path=path,
                code="weights-kind",
            )
    counters = {
        name: torch.tensor(0)
        for name in network.state_dict()
        if name.endswith("num_batches_tracked")
    }
    floats = {name: tensor.float() for name, tensor in weights.items()}
    network.load_state_dict({**floats, **counters}, assign=True)
    return WeightsFeatures(f"weights:{path.name}", file_sha256(path), layout, network)


def _read(path: Path) -> dict[str, _Stored]:
    """The tensors of a file by their names; UserError unless it is of a known format."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = read_archive(path).content
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return _tensors(content)


def _tensors(content: Any) -> dict[str, _Stored]:
    if not isinstance(content, dict):
        return {}
    return {
        name: _Stored(tuple(each.shape), each.load)
        for name, each in content.items()
        if isinstance(name, str) and isinstance(each, StoredTensor)
    }


def _read_safetensors(path: Path) -> dict[str, _Stored]:
    def loader(name: str) -> Callable[[], Tensor]:
        def load() -> Tensor:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
                return tensor

        return load

    try:
        # A pipe or a device would be waited for.
        open_regular(path).close()
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = [tuple(file.get_slice(name).get_shape()) for name in names]
    except (SafetensorError, OSError) as error:
        raise UserError(
            "cannot be read as a safetensors file",
            "get the file anew from where it was published",
            path=path,
            detail=str(error)[:200],
        ) from error
    return {name: _Stored(shape, loader(name)) for name, shape in zip(names, shapes, strict=True)}


def _by_known_names(stored: dict[str, _Stored]) -> dict[str, _Stored]:
    """By the names that our networks have: without wrappers' prefixes, numbers and heads."""
    named = {}
    for name, each in stored.items():
        name = name.removeprefix("module.")
        number = re.match(r"backbone\.([0-7])\.", name)
        if number:
            name = f"{_SEQUENTIAL[int(number[1])]}.{name[number.end() :]}"
        if not _HEADS.match(name):
            named[name] = each
    return named
