"""Fitting a :class:`.TemplateModel` to label maps: a mean space, templates, modes of deformation.

Each training map gets a stationary velocity field that leads from the mean space to it, found by
gradient descent on the labels' overlap, while the mean is found anew from all of them (groupwise
registration without a reference person; Joshi et al. 2004, in the parametrization of Ashburner
2007). Templates are put together in the mean space, by :mod:`.quilting`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..compute.errors import UserError
from ..volumes.deformation import Size, at, deformed_indices, exponential, identity, resized
from ..volumes.grids import GridSpec, fov_grid
from ..volumes.resampling import resample
from ..volumes.volume import Kind, Segment, Volume
from .quilting import quilt
from .shape_model import volume_percentiles
from .template_model import TemplateModel, left_right

MOST_LABELS = 255
_NODES = 17
"""Nodes of the velocity fields along the mean edge of the grid."""
_MIRRORED = 0.5
"""Dice that each label's mean has with its mirror image where left and right are alike."""


@dataclass(frozen=True)
class Round:
    """Registration of all maps to their mean: on a grid of at most so many voxels, with so many
    steps of Adam, a step length in half boxes, and a weight on bending."""

    voxels: int
    steps: int
    length: float
    bending: float


ROUNDS = (
    Round(20_000, 20, 0.025, 200.0),
    Round(20_000, 20, 0.02, 80.0),
)

OnProgress = Callable[[str, int, int], None]
"""Told what is done, and to which map of how many; may raise to end it."""


def fit_template_model(
    label_maps: Iterable[Volume],
    spec: GridSpec,
    label_values: Sequence[int],
    *,
    templates: int = 16,
    modes: int = 32,
    rounds: Sequence[Round] = ROUNDS,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> TemplateModel:
    """Fit a generator to label maps, each centered on its labelled box; takes seconds a map.

    ``label_values`` are the labels in the model's order; other values count as background. The
    maps need not share a grid. It is the same for the same maps. Raises UserError where there are
    fewer than two maps, or more labels than 255.
    """
    if len(label_values) > MOST_LABELS:
        raise UserError(
            f"A label map generator knows at most {MOST_LABELS} labels", "use fewer labels"
        )
    maps = [model_indices(labels, spec, label_values) for labels in label_maps]
    if len(maps) < 2:
        raise UserError("A label map generator needs at least two label maps", "give more")
    counts = [np.bincount(m.ravel(), minlength=len(label_values) + 1)[1:].tolist() for m in maps]
    velocities = _register(maps, spec, len(label_values), rounds, on_progress)
    straight = []
    for number, (indices, velocity) in enumerate(zip(maps, velocities, strict=True)):
        on_progress("bringing label maps to their mean", number, len(maps))
        straight.append(deformed_indices(indices, exponential(velocity), len(label_values)))
    sources = np.stack(straight)
    mirrored = _is_mirrored(sources, spec, len(label_values))
    if mirrored:
        sources = np.concatenate([sources, np.flip(sources, 1 + left_right(spec))])
    made = []
    for number in range(templates):
        on_progress("putting templates together", number, templates)
        made.append(quilt(sources, np.random.default_rng(number)))
    shape, explained, residual = _modes(velocities, modes)
    return TemplateModel(
        spec,
        tuple(Segment(value, f"label {value}") for value in label_values),
        np.stack(made),
        shape,
        explained,
        residual,
        volume_percentiles(counts, spec),
        mirrored,
    )


def model_indices(labels: Volume, spec: GridSpec, label_values: Sequence[int]) -> NDArray[np.uint8]:
    """Label indices ``[X, Y, Z]`` of one map on the model's grid, laid over its labelled box."""
    known = np.where(np.isin(labels.array, label_values), labels.array, 0)
    labels = Volume(known, labels.affine, Kind.LABEL)
    centered = resample(labels, fov_grid(labels, spec))
    indices = np.zeros(spec.size, np.uint8)
    for index, value in enumerate(label_values, start=1):
        indices[centered.array == value] = index
    return indices


def _register(
    maps: Sequence[NDArray[np.uint8]],
    spec: GridSpec,
    label_count: int,
    rounds: Sequence[Round],
    on_progress: OnProgress,
) -> list[Tensor]:
    """The velocity fields that lead from the mean space to each map."""
    edge = np.cbrt(np.prod(spec.size) * np.prod(spec.spacing)) / (_NODES - 1)
    i, j, k = (
        max(2, math.ceil(n * s / edge) + 1) for n, s in zip(spec.size, spec.spacing, strict=True)
    )
    nodes: Size = (i, j, k)
    velocities = [torch.zeros(3, *nodes) for _ in maps]
    share = np.mean([np.bincount(m.ravel(), minlength=label_count + 1) for m in maps], 0)[1:]
    # Labels of few voxels count for more each, or the small nuclei would count for nothing.
    weights = torch.from_numpy((share.clip(1) / share.sum()) ** -0.25).float()
    weights = (weights / weights.mean())[:, None, None, None]
    for number, one in enumerate(rounds):
        factor = max(1, math.ceil(np.cbrt(np.prod(spec.size) / one.voxels)))
        mean = torch.zeros(())
        for indices, velocity in zip(maps, velocities, strict=True):
            soft = _soft(indices, label_count, factor) * weights
            mean = mean + _moved(soft, exponential(velocity)) / len(maps)
        for which, indices in enumerate(maps):
            on_progress(f"registering label maps ({number + 1}/{len(rounds)})", which, len(maps))
            soft = _soft(indices, label_count, factor) * weights
            velocities[which] = _registered(mean, soft, velocities[which], one)
        # The mean space is where the fields cancel each other.
        middle = torch.stack(velocities).mean(0)
        velocities = [velocity - middle for velocity in velocities]
    return velocities


def _soft(indices: NDArray[np.uint8], label_count: int, factor: int) -> Tensor:
    """The labels' shares ``[L, x, y, z]`` in blocks of ``factor`` voxels a side."""
    hot = functional.one_hot(torch.from_numpy(indices).long(), label_count + 1)
    blocks = hot.movedim(-1, 0)[None, 1:].float()
    return functional.avg_pool3d(blocks, factor, ceil_mode=True)[0]


def _moved(image: Tensor, displacement: Tensor) -> Tensor:
    size = image.shape[1:]
    return at(image, identity(size) + resized(displacement, size))


def _registered(mean: Tensor, image: Tensor, start: Tensor, one: Round) -> Tensor:
    """The velocity field whose flow brings an image to the mean, from a first guess on."""
    velocity = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([velocity], lr=one.length, betas=(0.9, 0.9))
    with torch.enable_grad():
        for _ in range(one.steps):
            difference = _moved(image, exponential(velocity)) - mean
            loss = 100 * difference.square().mean() + one.bending * _bending(velocity)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return velocity.detach()


def _bending(velocity: Tensor) -> Tensor:
    """Mean square of the second differences along each axis: growth and turns cost nothing."""
    energy = torch.zeros(())
    for axis in (1, 2, 3):
        if velocity.shape[axis] > 2:
            energy = energy + velocity.diff(n=2, dim=axis).square().mean()
    return energy


def _is_mirrored(sources: NDArray[np.uint8], spec: GridSpec, label_count: int) -> bool:
    """Whether every label lies as much on the left as on the right, so that none has a side."""
    for index in range(1, label_count + 1):
        mean = (sources == index).mean(0)
        both = np.minimum(mean, np.flip(mean, left_right(spec))).sum()
        if both < _MIRRORED * mean.sum():
            return False
    return True


def _modes(
    velocities: Sequence[Tensor], most: int
) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float16]]:
    """Principal components of velocity fields of mean 0, their shares, and what they leave."""
    table = torch.stack(list(velocities)).numpy().reshape(len(velocities), -1)
    left, scales, directions = np.linalg.svd(table, full_matrices=False)
    variances = scales**2 / (len(table) - 1)
    count = min(most, len(table) - 1)
    rest = table - (left[:, :count] * scales[:count]) @ directions[:count]
    shape = tuple(velocities[0].shape)
    deviations = np.sqrt(variances[:count, None]) * directions[:count]
    return (
        deviations.reshape(count, *shape).astype(np.float16),
        (variances[:count] / max(variances.sum(), 1e-12)).astype(np.float32),
        rest.std(0).reshape(shape).astype(np.float16),
    )
