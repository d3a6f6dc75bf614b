"""Quantizers: what bounds the capacity of a learned latent, by the name that manifests give them.

A quantizer is a module made with the latent's ``channels`` beside its own options. A latent that
says more than the image's content cannot be predicted by diffusion; each entry bounds it otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...compute.schema import Schema


@dataclass(frozen=True)
class Quantized:
    """What the decoder sees of a latent ``[B, C, x, y, z]``.

    ``latent``: of the same shape, with gradients to the encoder; ``loss``: scalar, of the
    quantizer itself; ``indices``: the codes ``[B, x, y, z]`` (int64), None where there are none.
    """

    latent: Tensor
    loss: Tensor
    indices: Tensor | None = None


class Quantizer(nn.Module, ABC):
    """Makes of the encoder's output what the decoder sees; :meth:`bound` is what diffusion sees."""

    def bound(self, latent: Tensor) -> Tensor:
        """The encoder's output as it is kept: within a range, where there is one."""
        return latent

    @abstractmethod
    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        """Quantize a bounded latent. ``noise``: standard normal, of its shape, in training.

        What is not finite stays so: nothing hides a NaN.
        """

    def forget(self) -> None:
        """A step begins: what an abandoned one gathered does not count."""

    def update(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """A step is done: learn from what it gathered; ``reduce`` sums over all processes."""

    def usage(self) -> dict[str, float]:
        """How the codes are used, for the log; empty where there are none."""
        return {}


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

    def __init__(self, channels: int, noise: float = 0.4, penalty: float = 0.01) -> None:
        super().__init__()
        self.noise = noise
        self.penalty = penalty

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        loss = self.penalty * latent.float().square().mean()
        return Quantized(latent if noise is None else latent + self.noise * noise, loss)


class VectorQuantized(Quantizer):
    """The nearest of learned codes (van den Oord et al. 2017), which follow the latents they serve.

    A code is the moving average of its latents (their app. A.1), of a whole step and of all
    processes. One that serves hardly any is moved to where there are many, so that none is lost.
    """

    OPTIONS: ClassVar[Schema] = {
        "required": ["codes"],
        "properties": {
            "codes": {"type": "integer", "minimum": 2, "maximum": 65536},
            "decay": {"type": "number", "minimum": 0, "maximum": 1},
            "commitment": {"type": "number", "minimum": 0, "maximum": 100},
        },
    }
    _LIVELY = 0.05
    """Of a code's fair share of latents: with less it is dead."""

    codebook: Tensor
    share: Tensor
    steps: Tensor

    def __init__(
        self, channels: int, codes: int, decay: float = 0.98, commitment: float = 0.25
    ) -> None:
        super().__init__()
        self.decay = decay
        self.commitment = commitment
        self.register_buffer("codebook", torch.randn(codes, channels))
        self.register_buffer("share", torch.zeros(codes))
        self.register_buffer("steps", torch.zeros(()))
        self._gathered: list[Tensor] = []

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Quantized:
        with torch.autocast(latent.device.type, enabled=False):
            rows = latent.float().movedim(1, -1)
            indices = nearest(rows.detach(), self.codebook)
            codes = functional.embedding(indices, self.codebook)
            if self.training and torch.is_grad_enabled():
                self._gather(rows.detach().flatten(0, -2), codes.flatten(0, -2), indices.flatten())
            loss = self.commitment * (rows - codes).square().mean()
            # The gradient passes straight through; and what is not finite stays so.
            straight = rows + (codes - rows).detach()
        return Quantized(straight.movedim(-1, 1), loss, indices)

    def forget(self) -> None:
        self._gathered = []

    @torch.no_grad()
    def update(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Nothing moves where no latents were seen, or one was not finite."""
        nothing = torch.zeros(len(self.codebook), self.codebook.shape[1] + 2).double()
        seen = reduce(sum(self._gathered, nothing)).to(self.codebook)
        self.forget()
        counts, errors, sums = seen[:, 0], seen[:, 1], seen[:, 2:]
        total = counts.sum()
        if total == 0 or not torch.isfinite(seen).all():
            return
        self.steps += 1
        # All latents so far, of which those of the step before count ``decay`` as much.
        decay = self.decay if self.steps > 1 else 0.0
        share = decay * self.share + (1 - decay) * counts / total
        moved = decay * self.share[:, None] * self.codebook + (1 - decay) * sums / total
        codebook = torch.where(share[:, None] > 0, moved / share[:, None], self.codebook)
        spread = (errors.sum() / total / self.codebook.shape[1]).sqrt()
        self._revive(codebook, share, float(spread))

    def _revive(self, codebook: Tensor, share: Tensor, spread: float) -> None:
        """Move each dead code beside one that serves many latents, and halve their work."""
        dead = share < self._LIVELY / len(share)
        if dead.any():
            # On the CPU and of the step's number alone: the same on all processes, and anew.
            random = torch.Generator().manual_seed(int(self.steps))
            lively = torch.where(dead, 0, share).cpu()
            beside = torch.multinomial(lively, int(dead.sum()), True, generator=random)
            offsets = torch.randn(len(beside), codebook.shape[1], generator=random)
            beside = beside.to(share.device)
            codebook[dead] = codebook[beside] + spread * offsets.to(codebook)
            parts = 1 + torch.bincount(beside, minlength=len(share))
            share = share / parts
            share[dead] = share[beside]
            share /= share.sum()
        self.codebook.copy_(codebook)
        self.share.copy_(share)

    def usage(self) -> dict[str, float]:
        """``codes``: the share of codes in use; ``perplexity``: how many, used evenly, say as much.

        Over the last steps (van den Oord et al. 2017, as the published implementations log it).
        """
        share = self.share / self.share.sum().clamp_min(1e-12)
        lively = (share > self._LIVELY / len(share)).float().mean()
        entropy = -(share * share.clamp_min(1e-12).log()).sum()
        return {"codes": float(lively), "perplexity": float(entropy.exp())}

    def _gather(self, rows: Tensor, codes: Tensor, indices: Tensor) -> None:
        """Of each code: how many latents it serves, their squared errors, their sum."""
        errors = (rows - codes).square().sum(1, keepdim=True)
        facts = torch.cat([torch.ones_like(errors), errors, rows], 1).double()
        seen = torch.zeros(len(self.codebook), facts.shape[1]).to(facts)
        self._gathered.append(seen.index_add_(0, indices, facts).cpu())


class FiniteScalar(Quantizer):
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

    def __init__(self, channels: int, levels: Sequence[int]) -> None:
        super().__init__()
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
        return Quantized(straight, latent.new_zeros(()), indices)

    def _per_channel(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, device=like.device)[:, None, None, None]

    def _width(self, like: Tensor) -> Tensor:
        return self._per_channel([float(n // 2) for n in self.levels], like)

    def _half(self, like: Tensor) -> Tensor:
        # A thousandth more, for the outermost levels to be reached.
        return self._per_channel([(n - 1) * 1.001 / 2 for n in self.levels], like)

    def _shift(self, like: Tensor) -> Tensor:
        return self._per_channel([0.5 if n % 2 == 0 else 0.0 for n in self.levels], like)


QUANTIZERS: dict[str, type[Unquantized | VectorQuantized | FiniteScalar]] = {
    "none": Unquantized,
    "vq": VectorQuantized,
    "fsq": FiniteScalar,
}

_MOST_DISTANCES = 2**24


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """The index of the nearest code of each vector ``[..., C]``; the first of equally near ones."""
    flat = rows.reshape(-1, rows.shape[-1])
    squares = codebook.square().sum(1)
    parts = flat.split(max(1, _MOST_DISTANCES // len(codebook)))
    found = [torch.addmm(squares, part, codebook.T, alpha=-2).argmin(1) for part in parts]
    return torch.cat(found).view(rows.shape[:-1])
