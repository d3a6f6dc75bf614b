"""Random views of volumes: what a copy may have gone through and still be one.

All run on whole batches, coarse ones, and are seeded. Flips are not among them: to the encoder a
volume and its mirror image are the same. ``images`` are ``[B, C, x, y, z]`` in
[-1, 1], ``valid`` is ``[B, 1, x, y, z]`` in [0, 1], how much of a voxel was scanned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

_AXES = (2, 3, 4)
_EACH = (-1, 1, 1, 1, 1)
"""The shape of a number for each view of a batch."""
_CONTROL = 5
"""Points along an axis between which fields of displacement and bias are interpolated."""


@dataclass(frozen=True)
class Views:
    """How far a view may stray; each share is drawn evenly from 0, or both ways, to these ends.

    Somewhat further than the copies that are to be found (:mod:`..audit.plants`), so that these
    are not at the rim of what was learned. Of turns and shifts, bending, gamma, bias, grain, blur
    and cropping each view has about half.
    """

    rotation: float = 8.0
    """Degrees about each axis."""
    scale: float = 0.08
    shift: float = 0.03
    """Of the field of view."""
    elastic: float = 0.05
    """Displacement, of half the field of view."""
    gamma: float = 0.35
    """Natural logarithm of the exponent."""
    bias: float = 0.4
    """Natural logarithm of the factor."""
    grain: float = 0.12
    """Deviation of the noise, of the range of intensities."""
    blur: float = 1.2
    """Deviation of the blur in coarse voxels."""
    blend: float = 0.35
    """Share of the views that are blended with another volume, which has at most half of them."""
    crop: float = 0.12
    """Of the field of view that may be missing on either side of an axis."""


def random_views(
    images: Tensor, valid: Tensor, views: Views, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A view of each volume of a batch; their validity; and whose they are, ``[B, B]``.

    Row b of the last one is how much of view b is of each volume: one of them, or of two by parts
    that add up to 1.
    """
    whose = _blending(len(images), views.blend, random)
    images = torch.einsum("bn,nc...->bc...", whose, images)
    place = _places(images, views, random)
    images, valid = (
        F.grid_sample(x, place, padding_mode="border", align_corners=False) for x in (images, valid)
    )
    images = _intensities(images, views, random)
    return images, valid * _box(images, views.crop, random), whose


def _uniform(size: tuple[int, ...], low: float, high: float, random: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=random)


def _half(count: int, random: torch.Generator) -> Tensor:
    """1 for about half of the views, 0 for the others, ``[B]``."""
    return (torch.rand(count, generator=random) < 0.5).float()


def _blending(count: int, share: float, random: torch.Generator) -> Tensor:
    partner = torch.roll(torch.eye(count), int(torch.randint(1, count, (), generator=random)), 0)
    blended = (torch.rand(count, generator=random) < share).float()
    part = (blended * _uniform((count,), 0.25, 0.5, random))[:, None]
    return (1 - part) * torch.eye(count) + part * partner


def _places(images: Tensor, views: Views, random: torch.Generator) -> Tensor:
    """Where each voxel of the views is taken from, ``[B, x, y, z, 3]`` in [-1, 1]."""
    count, size = len(images), images.shape[2:]
    moved = _half(count, random).view(-1, 1)
    angles = moved * torch.deg2rad(_uniform((count, 3), -views.rotation, views.rotation, random))
    matrix = torch.eye(3).repeat(count, 1, 1)
    for axis in range(3):
        a, b = (n for n in range(3) if n != axis)
        turn = torch.eye(3).repeat(count, 1, 1)
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        matrix = matrix @ turn
    scales = _uniform((count, 3), -views.scale, views.scale, random)
    matrix = matrix * (1 + moved * scales)[:, None]
    # Turns are in voxels, and places in shares of an axis, of which the last comes first.
    extent = torch.tensor(size[::-1], dtype=torch.float32)
    matrix = matrix * extent / extent[:, None]
    shift = (moved * _uniform((count, 3), -2 * views.shift, 2 * views.shift, random))[..., None]
    place = F.affine_grid(torch.cat([matrix, shift], 2), list(images.shape), align_corners=False)
    strength = (_half(count, random) * _uniform((count,), 0, views.elastic, random)).view(_EACH)
    return place + (strength * _smooth(count, 3, size, random)).permute(0, 2, 3, 4, 1)


def _smooth(count: int, channels: int, size: torch.Size, random: torch.Generator) -> Tensor:
    """Smooth random fields ``[B, channels, x, y, z]`` within [-1, 1]."""
    points = _uniform((count, channels, *(_CONTROL,) * 3), -1, 1, random)
    return F.interpolate(points, size=list(size), mode="trilinear", align_corners=True)


def _intensities(images: Tensor, views: Views, random: torch.Generator) -> Tensor:
    """The views with another contrast, brightness, sharpness and grain."""
    count, channels = images.shape[:2]
    each = (count, channels, 1, 1, 1)
    gray = ((images + 1) / 2).clamp(0, 1)
    bent = _half(count, random).view(_EACH)
    gray = gray ** (bent * _uniform(each, -views.gamma, views.gamma, random)).exp()
    strength = (_half(count, random) * _uniform((count,), 0, views.bias, random)).view(_EACH)
    gray = gray * (strength * _smooth(count, 1, images.shape[2:], random)).exp()
    blur = _half(count, random) * _uniform((count,), 0, views.blur, random)
    gray = _blurred(gray, blur)
    deviation = _half(count, random).view(_EACH) * _uniform(each, 0, views.grain, random)
    # Rician, as the grain of a magnitude image is.
    first, second = torch.randn((2, *gray.shape), generator=random) * deviation
    gray = ((gray + first).square() + second.square()).sqrt()
    return 2 * gray - 1


def _blurred(images: Tensor, deviation: Tensor) -> Tensor:
    """The views under Gaussians of these deviations in voxels, ``[B]``."""
    steps = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / deviation[:, None].clamp(min=1e-3)).square())
    kernel = kernel / kernel.sum(1, keepdim=True)
    count, channels = images.shape[:2]
    # A group for each view, since each has a kernel of its own.
    result = images.reshape(1, count * channels, *images.shape[2:])
    weights = kernel.repeat_interleave(channels, 0)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = len(steps)
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = len(steps) // 2
        padded = F.pad(result, pad, mode="replicate")
        result = F.conv3d(padded, weights.view(-1, 1, *shape), groups=count * channels)
    return result.reshape(images.shape)


def _box(images: Tensor, crop: float, random: torch.Generator) -> Tensor:
    """1 within a random box of the field of view and 0 outside, ``[B, 1, x, y, z]``."""
    inside = torch.ones(len(images), 1, *images.shape[2:])
    cropped = _half(len(images), random).view(_EACH)
    for axis in _AXES:
        shape = [1] * 5
        shape[axis] = images.shape[axis]
        place = (torch.arange(images.shape[axis], dtype=torch.float32) + 0.5).view(shape)
        ends = cropped * _uniform((2, len(images), 1, 1, 1, 1), 0, crop, random)
        length = images.shape[axis]
        inside = inside * ((place > ends[0] * length) & (place < length * (1 - ends[1])))
    return inside
