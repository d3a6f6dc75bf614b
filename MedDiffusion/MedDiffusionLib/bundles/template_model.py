"""A generator of label maps for anatomy of many thin parts: templates, smoothly deformed.

Averages of signed distances (:mod:`.shape_model`) lose what is thin and differs from person to
person, as the folds of the cortex. Here a label map is one of several templates, each put together
from the training maps of many persons (:mod:`.template_fit`), deformed by the flow of a random
velocity field: modes of the deformations that lead from the mean shape to the training maps, and
noise of what the modes leave. It is stored with a bundle as ``shape.safetensors``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..volumes.deformation import deformed_indices, exponential, jacobian, smooth_noise
from ..volumes.grids import GridSpec
from ..volumes.variation import Limits
from ..volumes.volume import Kind, Segment, Volume
from .manifest import Manifest, damaged
from .shape_file import Shapes, read_shape_file, write_shape_file
from .shape_model import truncated_normal

KIND = "deformation"
_DRAWS = 6
"""Label maps drawn in search of one whose labels all have a usual volume."""
_MOST_TEMPLATES, _MOST_MODES = 256, 256
_FARTHEST = 2.0
"""No velocity leads farther than from one side of the grid to the other."""
_NOISE_SCALE = 1.0
"""Nodes over which the noise varies that is added to the modes."""


@dataclass(frozen=True, eq=False)
class TemplateModel:
    """Templates, and the deformations that they take.

    ``templates`` is ``[T, X, Y, Z]`` uint8 on the model's grid, label indices in the model's order;
    ``modes`` is ``[M, 3, x, y, z]``, velocity fields (``volumes.deformation``) of the grid's box,
    one standard deviation each; ``explained`` is ``[M]``, the share of the training maps' variance,
    in falling order; ``residual`` is ``[3, x, y, z]``, the deviation of what the modes leave;
    ``volumes`` is ``[2, L]``, the 1st and the 99th percentile of each label's volume in mm³, in the
    training maps. ``mirrored``: whether left and right are alike, and a map may be turned about.
    """

    spec: GridSpec
    segments: tuple[Segment, ...]
    templates: NDArray[np.uint8]
    modes: NDArray[np.float16]
    explained: NDArray[np.float32]
    residual: NDArray[np.float16]
    volumes: NDArray[np.float32]
    mirrored: bool

    @property
    def limits(self) -> Limits:
        """The labels' usual volumes, in mm³."""
        return {
            (segment.value,): (float(low), float(high))
            for segment, low, high in zip(self.segments, *self.volumes, strict=True)
        }

    def sample(self, seed: int) -> Volume:
        """A random label map, a function of ``seed`` (0 or above) alone, on the grid whose centre
        lies at RAS (0, 0, 0).

        Its labels' volumes are within the 1st to the 99th percentile of the training maps', or as
        close as 6 draws come. Raises UserError when no draw has every label.
        """
        closest, least_excess = None, np.inf
        for draw in range(_DRAWS):
            labels = self._draw(np.random.default_rng((seed, draw)))
            excess = self._excess(labels)
            if excess < least_excess:
                closest, least_excess = labels, excess
            if excess == 0:
                break
        if closest is None:
            raise UserError(
                f"The label map generator drew {_DRAWS} label maps and none has every label",
                "fit it to label maps that are more alike",
            )
        values = np.array([0, *(s.value for s in self.segments)], np.int32)
        return Volume(values[closest], self.spec.centered().affine, Kind.LABEL, self.segments)

    def _draw(self, generator: np.random.Generator) -> NDArray[np.uint8]:
        """Label indices ``[X, Y, Z]``."""
        template = self.templates[generator.integers(len(self.templates))]
        weights = truncated_normal(generator.random(len(self.modes))).astype(np.float32)
        nodes = self.residual.shape[1:]
        noise = smooth_noise(nodes, (_NOISE_SCALE,) * 3, generator).clip(-2, 2)
        velocity = noise.astype(np.float32) * self.residual
        velocity += np.tensordot(weights, self.modes.astype(np.float32), 1)
        displacement = _unfolded(velocity)
        indices = deformed_indices(template, displacement, len(self.segments))
        if self.mirrored and generator.random() < 0.5:
            return np.flip(indices, left_right(self.spec))
        return indices

    def _excess(self, indices: NDArray[np.uint8]) -> float:
        """By how much, as a share, volumes leave their range; infinite where a label is missing."""
        counts = np.bincount(indices.ravel(), minlength=1 + len(self.segments))[1:]
        if not counts.all():
            return np.inf
        found = counts * float(np.prod(self.spec.spacing))
        low, high = self.volumes
        return float(np.maximum(low / found - 1, found / np.maximum(high, 1e-6) - 1).clip(0).sum())


def save_template_model(model: TemplateModel, folder: Path) -> str:
    """Write ``shape.safetensors`` into a bundle folder; returns its SHA-256 for the manifest."""
    packed = zlib.compress(model.templates.tobytes(), 9)
    tensors: dict[str, NDArray] = {
        "templates": np.frombuffer(packed, np.uint8),
        "modes": model.modes,
        "explained": model.explained,
        "residual": model.residual,
        "volumes": model.volumes,
        "mirrored": np.array([model.mirrored], np.uint8),
    }
    return write_shape_file(folder, tensors, model.spec, [s.value for s in model.segments])


def read_template_model(folder: Path, manifest: Manifest) -> TemplateModel:
    """Load a bundle's generator of this kind; raises UserError as :func:`.load_generator` does."""
    segments = tuple(Segment(label.value, label.name, label.code) for label in manifest.labels)

    def fits(shapes: Shapes) -> bool:
        count, nodes = shapes["explained"][0], shapes["residual"][1:]
        return (
            count <= _MOST_MODES
            and shapes["residual"] == (3, *nodes)
            and shapes["modes"] == (count, 3, *nodes)
            and all(2 <= n <= size + 1 for n, size in zip(nodes, manifest.grid.size, strict=True))
            and shapes["volumes"] == (2, len(segments))
            and shapes["mirrored"] == (1,)
        )

    types = {"templates": "U8", "modes": "F16", "explained": "F32", "residual": "F16"}
    types |= {"volumes": "F32", "mirrored": "U8"}
    path, tensors = read_shape_file(folder, manifest, types, fits)
    if max(np.abs(tensors[name]).max(initial=0) for name in ("modes", "residual")) > _FARTHEST:
        raise damaged(path, "its deformations lead out of the grid")
    try:
        templates = _unpacked(tensors["templates"], manifest.grid, len(segments))
    except (ValueError, zlib.error) as error:
        raise damaged(path, error) from error
    return TemplateModel(
        manifest.grid, segments, templates, tensors["modes"], tensors["explained"],
        tensors["residual"], tensors["volumes"], bool(tensors["mirrored"][0]),
    )  # fmt: skip


def left_right(spec: GridSpec) -> int:
    """The axis of a model's grid that runs from left to right."""
    return int(np.abs(spec.axes[0]).argmax())


def _unfolded(velocity: NDArray[np.float32]) -> torch.Tensor:
    """The displacement of a velocity field, of a weaker one where it would fold the grid."""
    field = torch.from_numpy(velocity)
    displacement = exponential(field)
    while jacobian(displacement).min() <= 0:
        field = 0.8 * field
        displacement = exponential(field)
    return displacement


def _unpacked(packed: NDArray[np.uint8], spec: GridSpec, label_count: int) -> NDArray[np.uint8]:
    """The templates ``[T, X, Y, Z]``; raises ValueError or zlib.error where they are damaged."""
    voxels = int(np.prod(spec.size))
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(packed.tobytes(), _MOST_TEMPLATES * voxels)
    if unpacker.unconsumed_tail or not content or len(content) % voxels:
        raise ValueError("its templates do not fill the grid")
    templates = np.frombuffer(content, np.uint8).reshape(-1, *spec.size)
    if templates.max() > label_count:
        raise ValueError("its templates have labels that the model has not")
    return templates
