"""What is measured of one case or sample while its volume is at hand."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...bundles.model import Model
from ...compute.execution import Execution
from ...diffusion.representations import coarsen_mask
from ...training.objectives.batch import stack
from ...training.objectives.denoising import Denoising, DenoisingBatch
from ..features.contrastive import fitted

_TIMES = 8
"""Noise levels at which the loss of a case is taken, evenly over all."""
_DETAIL = 1.5
"""Voxels: deviation of the Gaussian under which detail vanishes."""
_NEAR = 3
"""Voxels from the border of a label up to which the label map tells of the volume."""
_FEWEST = 500
"""Voxels that a similarity needs."""


@torch.inference_mode()
def denoising_loss(
    model: Model,
    execution: Execution,
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    valid: NDArray[np.bool_],
    annotated: NDArray[np.bool_],
    seed: int,
) -> float:
    """The model's training loss on a case, ``[C, X, Y, Z]``, without augmentation.

    All cases get the same noise, at the same times, so that they differ by themselves alone.
    """
    objective = Denoising(model)
    grid = model.manifest.grid.size
    weight = coarsen_mask(
        torch.from_numpy(fitted(valid[None], grid).astype(np.float32))[None],
        model.representation.factors,
    )[0]
    error, total = 0.0, 0.0
    for number in range(_TIMES):
        random = torch.Generator().manual_seed(seed + number)
        batch = stack([
            DenoisingBatch(
                torch.from_numpy(fitted(image, grid)),
                torch.from_numpy(fitted(labels[None], grid)[0].astype(np.int16)),
                torch.from_numpy(annotated.astype(np.float32)),
                weight,
                torch.tensor((number + 0.5) / _TIMES),
                torch.randn(model.latent_shape, generator=random),
            )
        ])  # fmt: skip
        total += objective.weight(batch)
        with execution.autocast():
            error += float(objective.error_sum(model.denoiser, batch.to(execution.device)))
    return error / max(total, 1.0)


def outside_similarity(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    labels: NDArray[np.integer],
    valid: NDArray[np.bool_],
) -> float:
    """How alike two volumes ``[C, X, Y, Z]`` are in what their label map does not tell.

    The correlation of their detail, what a Gaussian takes away, over the voxels outside the labels
    and away from their borders; the mean over the channels. Where the labels leave less than a
    tenth of what is valid, voxels within them, away from borders, count too. NaN where there are
    too few voxels.
    """
    place = _untold(labels, valid)
    if int(place.sum()) < _FEWEST:
        return float("nan")
    found = [
        _correlation(_detail(a)[place], _detail(b)[place]) for a, b in zip(one, other, strict=True)
    ]
    return float(np.mean(found))


def _untold(labels: NDArray[np.integer], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the label map tells nothing of the detail."""
    low, high = (
        f(labels, 3, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    away = ndimage.distance_transform_edt(low == high) > _NEAR
    outside = valid & away & (labels == 0)
    return outside if outside.sum() >= 0.1 * valid.sum() else valid & away


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image - ndimage.gaussian_filter(image, _DETAIL, mode="nearest")


def _correlation(one: NDArray, other: NDArray) -> float:
    if one.std() < 1e-6 or other.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def planes(image: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """The middle planes of a volume's first channel, across its third, second and first axis."""
    gray = np.rint(255 * np.clip((image[0] + 1) / 2, 0, 1)).astype(np.uint8)
    return [
        np.ascontiguousarray(gray.take(gray.shape[axis] // 2, axis).T[::-1]) for axis in (2, 1, 0)
    ]


def shape_of(labels: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """What a label map's shape is like in numbers ``[7 L]``: of each label the logarithm of its
    volume, its extents, and its centre from the middle of all that is labelled, in voxels. NaN for
    a label that is not there."""
    everything = np.argwhere(labels > 0)
    middle = everything.mean(0)
    rows = []
    for index in range(1, count + 1):
        places = np.argwhere(labels == index)
        if len(places):
            rows.append([np.log(len(places)), *np.ptp(places, 0), *(places.mean(0) - middle)])
        else:
            rows.append([np.nan] * 7)
    return np.array(rows).ravel()
