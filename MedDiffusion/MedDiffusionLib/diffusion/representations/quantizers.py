"""Quantizers: what bounds the capacity of a learned latent, by the name that manifests give them.

A quantizer is a module made with the latent's ``channels`` beside its own options. A latent that
says more than the image's content cannot be predicted by diffusion; each entry bounds it otherwise.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...compute.schema import Schema
from .codes import FiniteScalar, VectorQuantized
from .quantizer import Quantized, Quantizer

__all__ = [
    "QUANTIZERS",
    "FiniteScalar",
    "Quantized",
    "Quantizer",
    "Unquantized",
    "VectorQuantized",
]


class Unquantized(Quantizer):
    """No codes: noise in training and a penalty on the square bound what the latent can say.

    What a variational autoencoder does with a fixed variance (Kingma & Welling 2014): a channel
    whose deviation is not well above ``noise`` is lost, and ``penalty`` keeps the deviation small.
    """

    OPTIONS: ClassVar[Schema] = {
        "properties": {
            "noise": {"type": "number", "minimum": 0, "maximum": 10},
            "penalty": {"type": "number", "minimum": 0, "maximum": 10},
        },
    }
    _LEAST_BITS = 0.1

    variance: Tensor

    def __init__(self, channels: int, noise: float = 0.4, penalty: float = 0.01) -> None:
        super().__init__()
        self.noise = noise
        self.penalty = penalty
        self.register_buffer("variance", torch.zeros(channels))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        rows = latent.float().movedim(1, 0).flatten(1)
        if self._gathers:
            count = torch.full_like(rows[:, 0], rows.shape[1])
            self._gather(torch.stack([count, rows.sum(1), rows.square().sum(1)]))
        loss = self.penalty * rows.square().mean()
        return Quantized(latent if noise is None else latent + self.noise * noise, loss)

    def usage(self) -> dict[str, float]:
        """``bits`` that a latent voxel can carry through the noise (Shannon 1948, for a normal
        distribution); ``deviation``, of all channels."""
        ratio = self.variance / max(self.noise, 1e-3) ** 2
        bits = 0.5 * torch.log2(1 + ratio).sum()
        return {"bits": float(bits), "deviation": float(self.variance.mean().sqrt())}

    def is_collapsed(self) -> bool:
        return self.usage()["bits"] < self._LEAST_BITS

    def _learn(self, seen: Tensor, kept: float) -> None:
        count, total, squares = seen
        self.variance.lerp_((squares / count - (total / count).square()).clamp_min(0), 1 - kept)


QUANTIZERS: dict[str, type[Unquantized | VectorQuantized | FiniteScalar]] = {
    "none": Unquantized,
    "vq": VectorQuantized,
    "fsq": FiniteScalar,
}
