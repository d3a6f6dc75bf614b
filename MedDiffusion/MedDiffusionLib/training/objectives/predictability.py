"""How well diffusion can learn a latent: measured before hours are spent on it.

Two figures of the latents' spectral density S, a matrix over the channels at each frequency, of a
mean variance of 1. No network is trained for them: one that is as small as one can wait for told a
good latent (4 channels, noise .4) from a bad one (12 channels, noise .05) not at all.

*Bits*: what a latent voxel says beyond its neighbours, as exactly as the decoder looks at it, to a
deviation d: log2 det(1 + S / d^2) / 2 (the rate of a Gaussian source; Cover & Thomas 2006, 10.3).
Diffusion has to draw all of them. Measured on heads, 4 x per axis: 1.5 to 2.6 for 4 channels and
noise .4 after minutes of training, such as became heads in 15 minutes of diffusion, and 4.8 after
an hour; 18, 42 and 49 for 12 channels and noise .05 (barely trained, decorrelated, the principal
components of the voxels), such as stayed noise.

*Loss*: the v loss (Salimans & Ho 2022) of the best linear denoiser (Wiener 1949), which is 1 for
white noise. It tells noise from all else, and not a good latent (.46 to .93) from a bad one (.34 to
.94). Where the noise has the deviation sin(a), it is tr(S / (S cos(a)^2 + sin(a)^2)) / C, and over
all times of the cosine schedule, a from 0 to a right angle, tr(S^(1/2)) / C.

S is taken to be the same in all directions, so that few latents are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...diffusion.representations.quantizer import Quantizer

MOST_BITS = 16.0
"""Of a latent voxel: with more it is called unpredictable."""
MOST_LOSS = 0.99
"""Of the best linear denoiser: with more the latents are called noise."""
_BLOCK = 8
"""Latent voxels along each axis of the parts that are looked at."""


@dataclass(frozen=True)
class Predictability:
    """How much of a latent has to be drawn, and how much its neighbours tell: see above."""

    bits: float
    loss: float

    @property
    def sentence(self) -> str:
        """For the log."""
        return (
            f"A latent voxel says {self.bits:.1f} bits that its neighbours do not (at most "
            f"{MOST_BITS:g} can be learned), and a linear denoiser reaches a v loss of "
            f"{self.loss:.2f} (noise has 1)."
        )

    @property
    def alarm(self) -> str:
        """What is wrong, in a sentence; empty where nothing is."""
        cause = ""
        if self.bits > MOST_BITS:
            cause = f"a voxel says {self.bits:.0f} bits that its neighbours do not"
        elif self.loss > MOST_LOSS:
            cause = "they are like noise"
        if not cause:
            return ""
        return (
            f"The latents can hardly be predicted ({cause}): the denoiser will learn little from "
            "them. Train a representation with more noise and penalty, or fewer latent_channels."
        )


def predictability(latents: Tensor, quantizer: Quantizer) -> Predictability:
    """Judge latents ``[N, C, x, y, z]``, float32, as they are encoded, before any scale.

    ``quantizer``: whose noise or codes say how exactly the decoder looks. Takes about a second for
    64 heads.
    """
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        change = quantizer(latents, noise).latent - latents
    centred = latents - latents.mean((0, 2, 3, 4), keepdim=True)
    density, weight = _density(centred)
    variances = torch.linalg.eigvalsh(density).clamp_min(0)
    # That a mean of the variances is 1 is for the loss; the bits do not change by the scale.
    variance = float((weight * variances.mean(1)).sum())
    seen = max(float(change.double().square().mean()), 1e-12 * variance)
    bits = (weight * (1 + variances / seen).log2().sum(1)).sum() / 2
    loss = (weight * variances.sqrt().mean(1)).sum() / max(variance, 1e-30) ** 0.5
    return Predictability(float(bits), float(loss))


def _density(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Of shells of frequencies: S ``[n, C, C]``, and the share ``[n]`` of all that each has."""
    size = [min(n, _BLOCK) for n in latents.shape[2:]]
    window, shells = _window(size), _shells(size)
    count = torch.bincount(shells).double()
    total = torch.zeros(len(count), *[latents.shape[1]] * 2, dtype=torch.float64)
    blocks = 0
    for latent in latents:
        parts = _blocks(latent, size)
        blocks += len(parts)
        spectra = torch.fft.fftn(parts * window, dim=(2, 3, 4))
        rows = spectra.flatten(2).permute(2, 1, 0)
        total.index_add_(0, shells, (rows @ rows.mH).real.double())
    power = float(window.double().square().sum())
    return total / (blocks * power * count[:, None, None]), count / count.sum()


def _blocks(latent: Tensor, size: Sequence[int]) -> Tensor:
    """``[n, C, x, y, z]`` of a latent, each half over the next."""
    parts = latent
    for axis, length in enumerate(size, start=1):
        parts = parts.unfold(axis, length, max(1, length // 2))
    return parts.movedim(0, 3).flatten(0, 2)


def _window(size: Sequence[int]) -> Tensor:
    """What lets a block end softly, so that its faces are not taken for detail."""
    x, y, z = (torch.hann_window(n + 1, periodic=True)[1:] for n in size)
    return x[:, None, None] * y[:, None] * z


def _shells(size: Sequence[int]) -> Tensor:
    """The number of each frequency's shell, for frequencies in the order of ``fftn``, flat."""
    x, y, z = (torch.fft.fftfreq(n).square() for n in size)
    radius = (x[:, None, None] + y[:, None] + z).sqrt()
    shells: Tensor = (radius * _BLOCK).round().long().flatten()
    # Short blocks have no frequency in some shells.
    return shells.unique(return_inverse=True)[1]
