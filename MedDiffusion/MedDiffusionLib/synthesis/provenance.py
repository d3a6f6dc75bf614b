"""What made a synthetic volume: it hangs on the volume, and goes with it wherever it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..bundles.manifest import Manifest
from ..compute.execution import Execution
from ..compute.version import __version__
from ..volumes.volume import Volume
from .labels import Assignment
from .settings import ResolvedSettings


@dataclass(frozen=True)
class LabelSource:
    """The label map of a synthesis: its name without a path, its hash, and what its values are."""

    name: str
    sha256: str
    assignment: str


NO_LABELS = LabelSource("", "", "")
"""What a volume is made from that is made from no label map."""


EVERYWHERE = "0 to 1"
"""The range of noise levels in which there is guidance where it is not limited."""


@dataclass(frozen=True)
class Recipe:
    """Enough to make a volume again, and to know whether one that is there is just that.

    ``label_map`` is its name, without a path; ``label_map_sha256`` that of :func:`label_map_sha256`
    and ``label_assignment`` as in ``1=anterior,9=background``; all three are empty where there was
    none. ``sample`` is counted from 1, and its noise is that of ``seed + sample - 1``.
    """

    label_map: str
    label_map_sha256: str
    label_assignment: str
    model: str
    model_version: str
    weights_sha256: str
    channel: str
    sample: int
    seed: int
    steps: int
    sampler: str
    guidance: float
    guidance_range: str
    native: bool
    meddiffusion_version: str
    license: str
    attribution: str


@dataclass(frozen=True)
class Provenance:
    """A volume's recipe, and how it was computed: what may differ from machine to machine."""

    recipe: Recipe
    device: str
    precision: str
    memory_format: str
    torch_version: str

    def to_json(self) -> dict[str, Any]:
        """One flat object, first of all that the volume is synthetic."""
        computed = asdict(self)
        recipe = computed.pop("recipe")
        return {"synthetic": True, **recipe, **computed}


def label_source(name: str, labels: Volume, assigned: Assignment) -> LabelSource:
    """A label map, as it was read, for recipes."""
    return LabelSource(name, label_map_sha256(labels), assigned.describe())


def label_map_sha256(labels: Volume) -> str:
    """The SHA-256 of a label map's geometry and voxels, whatever its file's format and numbers.

    Hashed are, little-endian: the size and the first and last index of the labelled box along
    i, j, k (int64), the affine's rows (float64), and the values in the box, i fastest, in the
    smallest unsigned type that holds them all. All else is background.
    """
    statistics = labels.label_statistics
    box = statistics.index_box
    corners = [[part.start for part in box], [part.stop - 1 for part in box]]
    digest = hashlib.sha256(np.array([labels.array.shape, *corners], "<i8").tobytes())
    # Adding 0 makes -0 a 0.
    digest.update((labels.affine + 0.0).astype("<f8").tobytes())
    smallest = np.min_scalar_type(max(statistics.values)).newbyteorder("<")
    for plane in labels.array[box].transpose():
        digest.update(np.ascontiguousarray(plane, smallest).tobytes())
    return digest.hexdigest()


def recipe_of(
    source: LabelSource, settings: ResolvedSettings, manifest: Manifest, index: int, channel: str
) -> Recipe:
    """The recipe of a channel of sample ``index`` (from 0), known before it is made."""
    return Recipe(
        label_map=source.name,
        label_map_sha256=source.sha256,
        label_assignment=source.assignment,
        model=manifest.name,
        model_version=manifest.version,
        weights_sha256=manifest.weights.sha256 if manifest.weights else "",
        channel=channel,
        sample=index + 1,
        seed=settings.seed,
        steps=settings.steps,
        sampler=settings.sampler,
        guidance=settings.guidance,
        guidance_range=in_words(settings.guidance_range),
        native=settings.native,
        meddiffusion_version=__version__,
        license=manifest.license,
        attribution=manifest.attribution,
    )


def in_words(levels: tuple[float, float]) -> str:
    """A range of noise levels, as recipes say it."""
    return f"{levels[0]:g} to {levels[1]:g}"


def provenance_of(recipe: Recipe, execution: Execution) -> Provenance:
    """The provenance of a volume that is made now."""
    return Provenance(
        recipe,
        execution.device.type,
        execution.precision,
        execution.memory_format,
        str(torch.__version__),
    )
