"""Label maps varied with what a model knows of its labels: their usual volumes."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..bundles.generators import load_generator
from ..bundles.manifest import Manifest, read_manifest
from ..compute.errors import UserError
from ..compute.memory import available_memory
from ..volumes.variation import Limits, Variation
from ..volumes.volume import Volume
from .labels import checked_assignment

_BYTES = 80
"""Memory for each voxel of the labelled box, beside the labels' own depths."""


def prepare_variation(labels: Volume, bundle: Path | None) -> Variation:
    """All that is needed to vary a label map; ``bundle`` is the folder of a model that knows it.

    Without a bundle the labels may be any. With one they must be the model's (see
    :func:`.checked_assignment`), and their volumes are kept within the usual, where the model knows
    it. Raises UserError where they are not, where nothing is labelled, and where there is not
    enough memory.
    """
    if bundle is None:
        limits: Limits = {}
    else:
        manifest = read_manifest(bundle)
        limits = known_limits(labels, manifest, bundle)
    box = labels.label_statistics.index_box
    needed = _BYTES * math.prod(part.stop - part.start for part in box)
    free = available_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise UserError(
            f"Varying the label map needs about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free",
            "crop it, give it a coarser spacing, or close other programs",
            code="out-of-memory",
        )
    return Variation(labels, limits)


def known_limits(labels: Volume, manifest: Manifest, bundle: Path) -> Limits:
    """A model's limits of volumes, by the label map's own values; none where it has no generator.

    Raises UserError where a label is not the model's.
    """
    assigned = checked_assignment(labels, manifest, {}).labels
    if manifest.shape_model_sha256 is None:
        return {}
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    for wanted, ends in load_generator(bundle, manifest).limits.items():
        values = [v for v, label in assigned.items() if label and label.value in wanted]
        present = {label.value for label in assigned.values() if label}
        # Of a part nothing is known.
        if present.issuperset(wanted):
            found[tuple(sorted(values))] = ends
    return found
