"""Constraints: what is known of the result, imposed on every estimate of x_0 while sampling.

A constraint takes the estimate of x_0 ``[1, C, x, y, z]`` and the time (0-d float64, 1 is noise)
and returns the estimate that the sampler goes on with. Samplers do not know of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Constraint = Callable[[Tensor, Tensor], Tensor]


def keep(latent: Tensor, where: Tensor) -> Constraint:
    """Keep a known latent ``[1, C, x, y, z]`` where ``where`` ``[1, 1, x, y, z]`` is true.

    The replacement of RePaint (Lugmayr et al. 2022, eq. 8), on x_0 instead of x_t: what is kept is
    exact at the end. In a Haar latent a voxel stands for a block of voxels, which is kept whole.
    """

    def constrain(x0: Tensor, t: Tensor) -> Tensor:
        return torch.where(where.to(x0.device), latent.to(x0), x0)

    return constrain
