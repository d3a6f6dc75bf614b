"""Guidance as a lesson: what a denoiser with guidance predicts, for one without to learn."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser, guide


class Guided:
    """The predictions of a denoiser with guidance (Ho & Salimans 2022, eq. 6), without gradients.

    A network that learns them (Meng et al. 2023, sec. 3.1, for one scale) needs one evaluation
    where guidance needs two. Where no label is known both are the same, and what it makes of none
    stays as it is.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        self.denoiser = denoiser
        self.scale = scale

    @torch.no_grad()
    def __call__(self, xt: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
        """Of the shape of ``xt``; see :meth:`Denoiser.predict`."""
        nothing = torch.zeros_like(labels), torch.zeros_like(annotated)
        conditional = self.denoiser.predict(xt, t, labels, annotated)
        return guide(conditional, self.denoiser.predict(xt, t, *nothing), self.scale)
