"""The floor among extractors: a fixed network that nobody trained.

Random filters see edges, texture and layout on several scales; what they find different is so, but
they know no anatomy.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .base import checked

_WIDTHS = (16, 32, 64)
_STEPS = 2**24
"""Random whole numbers below this are exact in float32 on every machine, normal ones are not."""
_BIAS = 0.5


class RandomNetwork:
    """A 3D convolutional network with weights of a seed; see :class:`.base.Extractor`.

    Three layers of 3 x 3 x 3 filters with ReLU, halved between them; of each channel of each layer
    mean and deviation over what is valid: ``[2 (16 + 32 + 64)]`` for any number of contrasts.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.name = "random-network"

    @torch.inference_mode()
    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """``[224]``; see the class."""
        maps = torch.from_numpy(checked(image, valid))[None]
        share = torch.from_numpy(valid.astype(np.float32))[None, None]
        found: list[Tensor] = []
        for number, (weight, bias) in enumerate(_layers(len(image), self.seed)):
            if number > 0:
                maps, share = (F.avg_pool3d(each, 2, ceil_mode=True) for each in (maps, share))
            maps = F.conv3d(maps, weight, bias, padding=1).relu_()
            found += _moments(maps, share)
        return torch.cat(found).numpy()


def _moments(maps: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, ``[C]``, voxels weighed by their valid share."""
    weights = (share / share.sum()).double()
    maps = maps.double()
    mean = (maps * weights).sum((2, 3, 4), keepdim=True)
    deviation = ((maps - mean) ** 2 * weights).sum((0, 2, 3, 4)).sqrt()
    return mean.flatten(), deviation


@lru_cache(maxsize=4)
def _layers(channels: int, seed: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Weights and biases: uniform, of the variance that keeps signals alike (He 2015, eq. 10)."""
    random = torch.Generator().manual_seed(seed)
    layers = []
    before = channels
    for width in _WIDTHS:
        bound = math.sqrt(6 / (27 * before))
        weight = bound * _uniform((width, before, 3, 3, 3), random)
        layers.append((weight, _BIAS * _uniform((width,), random)))
        before = width
    return tuple(layers)


def _uniform(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """In [-1, 1)."""
    return torch.randint(_STEPS, shape, generator=random).float() * (2 / _STEPS) - 1
