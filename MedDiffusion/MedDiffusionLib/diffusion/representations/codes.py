"""Quantizers with codes: learned ones, or a few levels a channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ...compute.schema import Schema
from .base import without_autocast
from .quantizer import Quantized, Quantizer

_MOST_DISTANCES = 2**24


class Coded(Quantizer):
    """A quantizer with codes, of which it knows the share of latents that each serves."""

    _LIVELY = 0.05
    """Of a code's fair share of latents: with less it is dead."""
    _LEAST_CODES = 0.1
    """In use: with fewer the codes have collapsed."""

    share: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(codes))

    def usage(self) -> dict[str, float]:
        """``codes``: the share of codes in use; ``perplexity``: how many, used evenly, say as much.

        The latter as the published implementations log it.
        """
        lively = (self.share > self._LIVELY / len(self.share)).float().mean()
        entropy = -(self.share * self.share.clamp_min(1e-12).log()).sum()
        return {"codes": float(lively), "perplexity": float(entropy.exp())}

    def is_collapsed(self) -> bool:
        return self.usage()["perplexity"] < max(1.5, self._LEAST_CODES * len(self.share))


class VectorQuantized(Coded):
    """The nearest of learned codes (van den Oord et al. 2017), which follow the latents they serve.

    A code is the moving average of its latents (their app. A.1), of a whole step and of all
    processes. One that serves hardly any is moved to where there are many, so that none is lost.
    """

    OPTIONS: ClassVar[Schema] = {
        "required": ["codes"],
        "properties": {
            "codes": {"type": "integer", "minimum": 2, "maximum": 65536},
            "commitment": {"type": "number", "minimum": 0, "maximum": 100},
        },
    }
    _REST = 50
    """Steps that a revived code has to find latents, before it is called dead again."""

    codebook: Tensor
    rest: Tensor

    def __init__(self, channels: int, codes: int, commitment: float = 0.25) -> None:
        super().__init__(codes)
        self.commitment = commitment
        self.register_buffer("codebook", torch.randn(codes, channels))
        self.register_buffer("rest", torch.zeros(codes))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        rows = latent.float().movedim(1, -1)
        with without_autocast(latent):
            indices = nearest(rows.detach(), self.codebook)
        codes = functional.embedding(indices, self.codebook)
        if self._gathers:
            squares = rows.square().sum(-1, keepdim=True)
            facts = torch.cat([torch.ones_like(squares), squares, rows], -1)
            facts = facts.detach().flatten(0, -2)
            seen = torch.zeros(len(self.codebook), facts.shape[1]).to(facts)
            self._gather(seen.index_add_(0, indices.flatten(), facts))
        loss = self.commitment * (rows - codes).square().mean()
        # The gradient passes straight through; and what is not finite stays so.
        straight = rows + (codes - rows).detach()
        return Quantized(straight.movedim(-1, 1), loss, indices)

    def _learn(self, seen: Tensor, kept: float) -> None:
        counts, squares, sums = seen[:, 0], seen[:, 1], seen[:, 2:]
        total = counts.sum()
        share = kept * self.share + (1 - kept) * counts / total
        # All latents so far, of which those of the step before count ``kept`` as much.
        moved = kept * self.share[:, None] * self.codebook + (1 - kept) * sums / total
        self.codebook.copy_(torch.where(share[:, None] > 0, moved / share[:, None], self.codebook))
        self.share.copy_(share)
        self.rest.sub_(1).clamp_min_(0)
        means = sums / counts.clamp_min(1)[:, None]
        within = squares.sum() / total - (counts / total * means.square().sum(1)).sum()
        self._revive(float((within / self.codebook.shape[1]).clamp_min(0).sqrt()))

    def _revive(self, spread: float) -> None:
        """Move each dead code to where one serves many latents, which lie ``spread`` about it."""
        dead = (self.share < self._LIVELY / len(self.share)) & (self.rest == 0)
        if not dead.any():
            return
        # On the CPU and of the step's number alone: the same on all processes, and anew.
        random = torch.Generator().manual_seed(int(self.steps))
        busy = torch.where(dead, 0, self.share).cpu()
        beside = torch.multinomial(busy, int(dead.sum()), True, generator=random)
        offsets = torch.randn(len(beside), self.codebook.shape[1], generator=random)
        beside = beside.to(self.codebook.device)
        self.codebook[dead] = self.codebook[beside] + spread * offsets.to(self.codebook)
        self.rest[dead] = self._REST


class FiniteScalar(Coded):
    """Each channel rounded to one of a few levels (Mentzer et al. 2024), of which none can die."""

    OPTIONS: ClassVar[Schema] = {
        "required": ["levels"],
        "properties": {
            "levels": {
                "type": "array",
                "minItems": 1,
                "maxItems": 64,
                "items": {"type": "integer", "minimum": 2, "maximum": 1024},
                "description": "Levels of each latent channel.",
            },
        },
    }

    _MOST_CODES = 65536

    def __init__(self, channels: int, levels: Sequence[int]) -> None:
        codes = math.prod(levels)
        if codes > self._MOST_CODES:
            raise ValueError(f"quantizer: levels make {codes} codes, more than {self._MOST_CODES}")
        super().__init__(codes)
        if len(levels) != channels:
            raise ValueError(
                f"quantizer: levels has {len(levels)} entries for {channels} latent channels"
            )
        self.levels = tuple(levels)

    def bound(self, latent: Tensor) -> Tensor:
        """Within [-1, 1], so that rounding gives each level of a channel (their eq. 1)."""
        half, shift = self._half(latent), self._shift(latent)
        offset = torch.atanh(shift / half)
        return (torch.tanh(latent.float() + offset) * half - shift) / self._width(latent)

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        width, shift = self._width(latent), self._shift(latent)
        # Diffusion's latents may lie outside: they go to the nearest level.
        highest = width - 2 * shift
        rounded = (latent.float() * width).round().clamp(-width, highest)
        straight = latent + (rounded / width - latent).detach()
        digits = (rounded.detach().nan_to_num() + width).long()
        indices = torch.zeros_like(digits[:, 0])
        for channel, levels in enumerate(self.levels):
            indices = indices * levels + digits[:, channel]
        if self._gathers:
            self._gather(torch.bincount(indices.flatten(), minlength=len(self.share)))
        return Quantized(straight, latent.new_zeros(()), indices)

    def _learn(self, seen: Tensor, kept: float) -> None:
        self.share.lerp_(seen / seen.sum(), 1 - kept)

    def _per_channel(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, device=like.device)[:, None, None, None]

    def _width(self, like: Tensor) -> Tensor:
        return self._per_channel([float(n // 2) for n in self.levels], like)

    def _half(self, like: Tensor) -> Tensor:
        # A thousandth more, for the outermost levels to be reached.
        return self._per_channel([(n - 1) * 1.001 / 2 for n in self.levels], like)

    def _shift(self, like: Tensor) -> Tensor:
        return self._per_channel([0.5 if n % 2 == 0 else 0.0 for n in self.levels], like)


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """The index of the nearest code of each vector ``[..., C]``; the first of equally near ones."""
    flat = rows.reshape(-1, rows.shape[-1])
    squares = codebook.square().sum(1)
    parts = flat.split(max(1, _MOST_DISTANCES // len(codebook)))
    found = [torch.addmm(squares, part, codebook.T, alpha=-2).argmin(1) for part in parts]
    return torch.cat(found).view(rows.shape[:-1])
