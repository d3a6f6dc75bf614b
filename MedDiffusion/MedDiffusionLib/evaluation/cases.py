"""Cases to judge a model by: the real volume and its label map, and what the model makes of that.

All lies on the grid that the model synthesizes on and in its range [-1, 1], so that real and
synthetic volumes are compared voxel by voxel, in the same places, and neither is interpolated more
than the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundles.manifest import Manifest
from ..compute.errors import UserError
from ..synthesis.region import make_region
from ..synthesis.settings import MAX_SEED, Settings
from ..synthesis.synthesis import OnStep, Synthesis
from ..synthesis.synthesizer import Synthesizer
from ..training.data.cases import CaseFiles
from ..training.data.loaded_cases import make_case
from ..volumes.normalization import to_model_range
from ..volumes.reading import read_image, read_label_map
from ..volumes.volume import Grid, Kind, Volume


@dataclass(frozen=True, eq=False)
class Pair:
    """One real case on the model's lattice, and the label map that volumes are made from.

    Figures count voxels in ``valid`` alone: those that were scanned. ``annotated`` ``[L]``: which
    labels the label map has; ``source`` is that label map as it was read.
    """

    name: str
    real: NDArray[np.float32]
    """``[C, X, Y, Z]`` in [-1, 1]."""
    labels: NDArray[np.integer]
    """``[X, Y, Z]``, indices 0..L in the manifest's order."""
    valid: NDArray[np.bool_]
    """``[X, Y, Z]``."""
    annotated: NDArray[np.bool_]
    grid: Grid
    source: Volume | None
    """None for a model that knows no labels: its volumes have no label map in common with any."""


def real_case(files: CaseFiles, synthesizer: Synthesizer) -> Pair:
    """Read a case and bring it to the grid that the model makes volumes on.

    Raises UserError where a file cannot be used, images and label map do not lie on one grid, a
    volume is constant, or the label map does not fit the model.
    """
    manifest = synthesizer.model.manifest
    images, source = _read(files, manifest)
    if source is None:
        return _without_labels(files.name, images, manifest)
    synthesis = synthesizer.prepare(source, Settings(native=True), name=files.name)
    values = [label.value for label in manifest.labels]
    assert synthesis.labels is not None
    case = make_case(
        files.name, images, synthesis.labels, manifest.grid, values, manifest.intensity
    )
    region = make_region(synthesis.labels, synthesis.grid, manifest.labels)
    valid = case.validity(synthesis.grid)
    if not valid.any():
        raise UserError(
            f"The labels of {files.name} lie outside its image",
            "see whether image and label map are of one patient",
            code="no-overlap",
        )
    return Pair(
        files.name,
        case.images_on(synthesis.grid),
        region.indices[0].numpy(),
        valid,
        region.annotated[0].numpy(),
        synthesis.grid,
        source,
    )


def _without_labels(name: str, images: Sequence[Volume], manifest: Manifest) -> Pair:
    """A real case of a model that knows no labels: the field of view in the middle of the scan."""
    nothing = Volume(np.zeros(images[0].array.shape, np.uint8), images[0].affine, Kind.LABEL)
    case = make_case(name, images, nothing, manifest.grid, [], manifest.intensity)
    labels = np.zeros(case.fov.size, np.uint8)
    valid = case.validity(case.fov)
    return Pair(name, case.images_on(case.fov), labels, valid, np.zeros(0, bool), case.fov, None)


def synthetic(
    synthesizer: Synthesizer,
    pair: Pair,
    settings: Settings,
    seed: int,
    on_step: OnStep = lambda step: None,
) -> NDArray[np.float32]:
    """A volume ``[C, X, Y, Z]`` in [-1, 1] that the model makes of a pair's label map, on its grid.

    It depends on the label map's case name and on ``seed``: cases do not share their noise.
    """
    wanted = replace(settings, samples=1, seed=noise_seed(pair.name, seed), native=True)
    (made,) = _prepared(synthesizer, pair, wanted).samples(on_step=on_step)
    parts = [to_model_range(volume.array, volume.channel.range) for volume in made.volumes]
    return np.stack(parts)


def keeps_geometry(synthesizer: Synthesizer, pair: Pair) -> bool:
    """Whether volumes that are synthesized of a pair's label map lie on just its grid; without one,
    on the model's field of view.

    They are made in one step: where they lie does not depend on how well they are made.
    """
    settings = Settings(steps=1, guidance=1.0)
    prepared = _prepared(synthesizer, pair, settings)
    (made,) = prepared.samples()
    wanted = prepared.grid if pair.source is None else pair.source.grid
    return all(volume.grid.equals(wanted) for volume in made.volumes)


def _prepared(synthesizer: Synthesizer, pair: Pair, settings: Settings) -> Synthesis:
    """The synthesis of a pair's label map; without one, on the model's own axes."""
    if pair.source is not None:
        return synthesizer.prepare(pair.source, settings, name=pair.name)
    synthesis = synthesizer.prepare_without_labels(settings)
    return replace(synthesis, target=synthesis.grid)


def noise_seed(name: str, seed: int) -> int:
    """The seed of a case's noise."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % (MAX_SEED + 1)


def half_of(cases: Sequence[CaseFiles], half: str) -> tuple[CaseFiles, ...]:
    """The ``first`` or ``second`` half of cases, or ``all``.

    Patients are divided by the hashes of their names, so that settings are chosen on one half and
    judged on the other whatever the order of the data. The order stays.
    """
    if half == "all":
        return tuple(cases)
    patients = sorted({case.group for case in cases}, key=_name_hash)
    first = set(patients[: -(-len(patients) // 2)])
    return tuple(case for case in cases if (case.group in first) == (half == "first"))


def _name_hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _read(files: CaseFiles, manifest: Manifest) -> tuple[list[Volume], Volume | None]:
    """The images and the label map of a case, on one grid; raises UserError."""
    if len(files.images) != len(manifest.channels):
        names = ", ".join(channel.name for channel in manifest.channels)
        raise UserError(
            f"{files.name} has {len(files.images)} images, and the model makes "
            f"{len(manifest.channels)} contrasts ({names})",
            "give the contrasts that it makes",
            code="other-contrasts",
        )
    if not manifest.labels:
        first = read_image(files.images[0])
        return [_read_on(path, first.grid, files.images[0]) for path in files.images], None
    if files.labels is None:
        raise UserError(f"{files.name} has no label map", "give one, or leave the case out")
    labels = read_label_map(files.labels)
    return [_read_on(path, labels.grid, files.labels) for path in files.images], labels


def _read_on(path: Path, grid: Grid, other: Path) -> Volume:
    image = read_image(path)
    if not image.grid.equals(grid):
        raise UserError(
            f"lies on another grid than {other.name}",
            "see whether both are of one patient, and resample one onto the other",
            path=path,
            code="other-grid",
        )
    if image.array.min() == image.array.max():
        raise UserError(
            f"has the value {image.array.flat[0]:g} everywhere",
            "replace it with the scan",
            path=path,
            code="constant",
        )
    return image
