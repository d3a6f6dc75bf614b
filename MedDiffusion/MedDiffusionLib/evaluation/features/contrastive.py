"""The contrastive encoder: views of one scan lie together, those of different ones apart.

Dar et al. 2025 find copies by such an encoder. A small 3D network learns from the user's own real
volumes and needs nothing else. It sees them coarsely: that a scan was copied shows there, grain and
sharpness do not matter; seconds to a minute on a CPU suffice, whatever the field of view.

What is contrasted, the variance between scans with that between random views of one, has its best
linear features in closed form; with these the network begins. Steps of NT-Xent (Chen et al. 2020)
go on from there, with all layers. On 220 scans of the hippocampus the beginning found every kind of
planted copy, and up to 300 steps, at several rates and temperatures, made it no better and mostly
worse for blends: so the audit takes none unless it is asked to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .views import Views, random_views

NAME = "contrastive"
MOST_VOXELS = 6_000
"""Of a coarse volume: what training takes does not grow with the field of view."""
_LEAST_DEVIATION = 1e-6
_LEAST_SHARE = 1e-3
_NEARBY = 5
"""Coarse voxels over which contrast is local."""
_LINEAR = 3
"""Deviations of what is found up to which it counts in full, about."""
_STARTING_VIEWS = 12
"""Of each volume, from which the head begins."""
_EVENNESS = 0.35
"""Power of the variance between volumes along a direction by which the direction is weakened."""
_RIDGE = 0.1
"""Of the mean variance between views, added to that along each direction."""


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder is made and trained. Features have ``size`` numbers; ``channels`` are those of
    its layers, each at half the resolution of the one before; ``parts``, an odd number: into how
    many the field of view is divided along each axis in the end; ``steps`` of NT-Xent follow the
    closed form, each on ``batch`` volumes."""

    steps: int = 0
    batch: int = 32
    channels: tuple[int, ...] = (16,)
    parts: int = 7
    size: int = 160
    rate: float = 1e-3
    temperature: float = 0.2
    views: Views = field(default_factory=Views)


class ContrastiveEncoder(nn.Module):
    """From coarse volumes and their validity, ``[B, C, x, y, z]`` and ``[B, 1, x, y, z]``, to
    features ``[B, size]`` of mean 0 and length 1: their inner product is their correlation.

    Mirrored volumes have the same features, to the last bits: filters are even along each axis, and
    mirrored parts of the field of view count together.
    """

    def __init__(self, channels: int, settings: EncoderSettings) -> None:
        super().__init__()
        widths = (channels, *settings.channels)
        count = widths[-1] * (settings.parts // 2 + 1) ** 3
        self.parts = settings.parts
        self.filters = nn.ModuleList(map(EvenFilter, widths, widths[1:]))
        self.norms = nn.ModuleList(map(nn.BatchNorm3d, settings.channels))
        # Without it all features share one large direction for long.
        self.centre = nn.BatchNorm1d(count, affine=False)
        self.head = nn.Linear(count, settings.size)

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """See the class."""
        features = self.head(self.found(images, valid))
        return F.normalize(features - features.mean(1, keepdim=True), dim=1)

    def found(self, images: Tensor, valid: Tensor) -> Tensor:
        """What the filters find in the parts of the field of view, ``[B, n]``."""
        found = local_contrast(images, valid)
        for number, (filters, norm) in enumerate(zip(self.filters, self.norms, strict=True)):
            if number:
                x, y, z = (-(-n // 2) for n in found.shape[2:])
                found = F.adaptive_avg_pool3d(found, (x, y, z))
            # Odd and nearly linear: of a volume that is blended in, about its part is found.
            found = (norm(filters(found)) / _LINEAR).tanh()
        parts = _folded(F.adaptive_avg_pool3d(found, self.parts))
        centred: Tensor = self.centre(parts.flatten(1))
        return centred


class EvenFilter(nn.Module):
    """A 3 x 3 x 3 convolution that is even along each axis."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, 2, 2, 2) * (2 / (8 * before)) ** 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, before, x, y, z]`` to ``[B, after, x, y, z]``."""
        weight: Tensor = self.weight
        for axis in (2, 3, 4):
            weight = weight.index_select(axis, torch.tensor([1, 0, 1]))
        return F.conv3d(F.pad(images, (1,) * 6, mode="replicate"), weight)


def _folded(found: Tensor) -> Tensor:
    """``[B, C, p, p, p]`` to half of each axis, the middle included: the mean of both halves."""
    for axis in (2, 3, 4):
        half = found.shape[axis] // 2 + 1
        found = (found + found.flip(axis)).narrow(axis, 0, half) / 2
    return found


@dataclass(frozen=True)
class Contrastive:
    """A trained encoder as an extractor of features; see :mod:`.base`.

    ``grid``: voxels of the model's field of view, to which volumes are cut or filled up.
    """

    encoder: ContrastiveEncoder
    grid: tuple[int, int, int]
    name: str = NAME

    def features(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The features ``[d]`` of a volume ``[C, X, Y, Z]`` in [-1, 1], of mean 0 and length 1."""
        return self.encode(*coarse(image, valid, self.grid))

    @torch.inference_mode()
    def encode(self, image: Tensor, valid: Tensor) -> NDArray[np.float64]:
        """The features of a coarse volume ``[C, x, y, z]`` and its validity ``[1, x, y, z]``."""
        return self.encoder(image[None], valid[None])[0].double().numpy()


def train_encoder(
    volumes: Sequence[tuple[Tensor, Tensor]],
    settings: EncoderSettings,
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> ContrastiveEncoder:
    """Train an encoder on coarse volumes and their validity, as :func:`coarse` makes them.

    A function of its arguments alone. ``on_step`` hears how many steps are done, of how many, and
    may raise to stop. Raises ValueError for fewer than two volumes.
    """
    if len(volumes) < 2:
        raise ValueError("an encoder needs two volumes to tell apart")
    images = torch.stack([image for image, _ in volumes])
    valid = torch.stack([part for _, part in volumes])
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ContrastiveEncoder(images.shape[1], settings)
    _start_head(encoder, images, valid, settings, random)
    optimizer = torch.optim.AdamW(encoder.parameters(), settings.rate, weight_decay=1e-2)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        chosen = torch.randperm(len(images), generator=random)[: settings.batch]
        loss = _loss(encoder, images[chosen], valid[chosen], settings, random)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step + 1, settings.steps)
    _calibrate(encoder, images, valid, settings, random)
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def _start_head(
    encoder: ContrastiveEncoder,
    images: Tensor,
    valid: Tensor,
    settings: EncoderSettings,
    random: torch.Generator,
) -> None:
    """Let the head begin as the linear discriminants of views of different volumes.

    What the untrained filters find is rotated so that it differs between volumes as much, and
    between views of one as little, as it can: NT-Xent would need many steps for that.
    """
    _calibrate(encoder, images, valid, settings, random)
    encoder.eval()
    unblended = replace(settings.views, blend=0.0)
    found = torch.stack([
        torch.cat([
            encoder.found(*random_views(i, v, unblended, random)[:2])
            for i, v in _batches(images, valid, settings.batch)
        ])
        for _ in range(_STARTING_VIEWS)
    ]).double()  # fmt: skip
    middle = found.mean(0)
    within = (found - middle).flatten(0, 1)
    scatter = within.T @ within / len(within)
    ridge = _RIDGE * float(scatter.diagonal().mean())
    values, vectors = torch.linalg.eigh(scatter + ridge * torch.eye(len(scatter)))
    whitening = vectors / values.sqrt() @ vectors.T
    between = (middle - middle.mean(0)) @ whitening
    _, sizes, directions = torch.linalg.svd(between, full_matrices=False)
    variance = sizes.square() / len(between) + 1 / _STARTING_VIEWS
    # What differs most between volumes does not outdo all else.
    directions = (directions / variance[:, None] ** _EVENNESS)[: settings.size]
    weight = encoder.head.weight
    weight[: len(directions)] = (directions @ whitening).to(weight.dtype)
    weight[len(directions) :] *= _RIDGE
    encoder.head.bias.zero_()
    encoder.train()


@torch.no_grad()
def _calibrate(
    encoder: ContrastiveEncoder,
    images: Tensor,
    valid: Tensor,
    settings: EncoderSettings,
    random: torch.Generator,
) -> None:
    """Let all norms know the means and deviations of views as the encoder is now."""
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    encoder.train()
    for part in _batches(images, valid, settings.batch):
        encoder(*random_views(*part, settings.views, random)[:2])
    for norm in norms:
        norm.momentum = 0.1


def _batches(images: Tensor, valid: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Parts of about that size, two volumes at least."""
    count = max(1, len(images) // size)
    return list(zip(images.tensor_split(count), valid.tensor_split(count), strict=True))


def _loss(
    encoder: ContrastiveEncoder,
    images: Tensor,
    valid: Tensor,
    settings: EncoderSettings,
    random: torch.Generator,
) -> Tensor:
    """NT-Xent over two views of each volume of a batch."""
    first = random_views(images, valid, settings.views, random)
    second = random_views(images, valid, settings.views, random)
    features = encoder(*(torch.cat(both) for both in list(zip(first, second, strict=True))[:2]))
    return nt_xent(features, torch.cat([first[2], second[2]]), settings.temperature)


def nt_xent(features: Tensor, whose: Tensor, temperature: float) -> Tensor:
    """The normalized temperature-scaled cross entropy (Chen et al. 2020, eq. 1), a scalar.

    ``features`` ``[V, d]`` of length 1; ``whose`` ``[V, B]``: how much of each view is of each
    volume. Where each view is of one volume the target is the other view of it; a view that is
    blended of two has both volumes' views for its target, each by its part.
    """
    itself = torch.eye(len(features), dtype=torch.bool)
    similarity = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    target = (whose @ whose.T).masked_fill(itself, 0.0)
    target = target / target.sum(1, keepdim=True)
    logarithms = similarity.log_softmax(1).masked_fill(itself, 0.0)
    return -(target * logarithms).sum(1).mean()


def local_contrast(images: Tensor, valid: Tensor) -> Tensor:
    """Volumes ``[B, C, x, y, z]`` less their mean nearby, over their deviation there; 0 where they
    are not valid. What is brighter on one side, or has less contrast, becomes the same."""
    share = _nearby(valid).clamp(min=_LEAST_SHARE)
    apart = (images - _nearby(images * valid) / share) * valid
    deviation = (_nearby(apart.square()) / share).sqrt()
    total = valid.sum((2, 3, 4), keepdim=True).clamp(min=1e-6)
    usual = (deviation * valid).sum((2, 3, 4), keepdim=True) / total
    return apart / (deviation + usual / 2).clamp(min=_LEAST_DEVIATION)


def _nearby(images: Tensor) -> Tensor:
    """The means over the cubes of :data:`_NEARBY` voxels around each voxel."""
    padded = F.pad(images, (_NEARBY // 2,) * 6, mode="replicate")
    return F.avg_pool3d(padded, _NEARBY, 1)


def coarse(
    image: NDArray[np.float32], valid: NDArray[np.bool_], grid: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """A volume ``[C, X, Y, Z]`` and where it is valid ``[X, Y, Z]``, both in few voxels.

    They are cut to ``grid`` about their middle, or filled up with what is not valid; each coarse
    voxel is the mean over what is valid in it. How much of a voxel is valid is then made even along
    each axis where that costs no more than half of it: where a scan ended does not tell a volume
    from its mirror image.
    """
    whole = torch.from_numpy(fitted(image, grid))[None].float()
    known = torch.from_numpy(fitted(valid[None], grid))[None].float()
    size = coarse_size(grid)
    share = F.adaptive_avg_pool3d(known, size)
    total = F.adaptive_avg_pool3d(whole * known, size)
    return (total / share.clamp(min=1e-6))[0], _even(share)[0]


def _even(share: Tensor) -> Tensor:
    for axis in (2, 3, 4):
        both = torch.minimum(share, share.flip(axis))
        if 2 * both.sum() >= share.sum():
            share = both
    return share


def coarse_size(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """A coarse volume's voxels: the grid's by one whole number, :data:`MOST_VOXELS` at most."""
    for factor in range(1, max(grid) + 1):
        x, y, z = (-(-n // factor) for n in grid)
        if x * y * z <= MOST_VOXELS:
            break
    return x, y, z


def fitted(array: NDArray, grid: tuple[int, int, int]) -> NDArray:
    """An array ``[C, X, Y, Z]`` cut or filled up with 0 to a grid, about its middle."""
    result = np.zeros((len(array), *grid), array.dtype)
    source: list[slice] = [slice(None)]
    target: list[slice] = [slice(None)]
    for own, wanted in zip(array.shape[1:], grid, strict=True):
        count = min(own, wanted)
        source.append(slice((own - count) // 2, (own - count) // 2 + count))
        target.append(slice((wanted - count) // 2, (wanted - count) // 2 + count))
    result[tuple(target)] = array[tuple(source)]
    return result
