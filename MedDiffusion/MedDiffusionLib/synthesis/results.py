"""Results: a volume with its provenance, the names of files, and files that appear whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..bundles.manifest import Channel, Manifest
from ..compute.errors import UserError
from ..compute.files import write_json
from ..volumes.preview import write_preview
from ..volumes.reading import stem
from ..volumes.resampling import resample
from ..volumes.volume import Volume
from ..volumes.writing import check_writable, write_volume
from .provenance import Provenance, Recipe, recipe_of
from .settings import ResolvedSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticVolume(Volume):
    """A volume that a model made: the channel it shows, and what it was made by."""

    channel: Channel
    provenance: Provenance

    def save(
        self, path: str | Path, *, overwrite: bool = False, with_provenance: bool = True
    ) -> None:
        """Write the volume and, beside it, its provenance: ``out.nii.gz`` and ``out.json``.

        The provenance comes first, so that a volume never stands without it. Raises UserError where
        one of the two is there already and may not be overwritten, and as ``write_volume`` does.
        """
        path = Path(path)
        beside = provenance_path(path)
        check_writable(path)
        if not overwrite:
            refuse_existing([path, beside] if with_provenance else [path])
        if not with_provenance:
            write_volume(path, self)
            return
        write_json(beside, self.provenance.to_json())
        try:
            write_volume(path, self)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class Sample:
    """One finished sample: a volume per channel of the model, in the model's order.

    ``labels`` is the label map that it was made from, with the model's label values.
    """

    index: int
    volumes: tuple[SyntheticVolume, ...]
    labels: Volume


@dataclass(frozen=True)
class Request:
    """One label map to synthesize from, and where its results go; ``channel``: only this one."""

    source: Path
    output: Path
    preview: Path | None = None
    channel: str | None = None

    def channels(self, manifest: Manifest) -> tuple[Channel, ...]:
        """The channels that are written; raises UserError where the model has no such channel."""
        wanted = [c for c in manifest.channels if self.channel in (None, c.name)]
        if not wanted:
            names = ", ".join(channel.name for channel in manifest.channels)
            raise UserError(f"{manifest.name} has no contrast {self.channel}", f"use {names}")
        return tuple(wanted)


def result_path(path: Path, index: int, samples: int, channel: str, channels: int) -> Path:
    """``out.nii.gz`` -> ``out_T1_sample-2.nii.gz``; a part is left out where there is but one."""
    name = stem(path)
    suffix = path.name[len(name) :]
    if channels > 1:
        name += f"_{channel}"
    if samples > 1:
        name += f"_sample-{index + 1}"
    return path.with_name(name + suffix)


def result_paths(path: Path, samples: int, channels: tuple[Channel, ...]) -> list[list[Path]]:
    """The path of every volume (or preview): a list per sample, an entry per channel."""
    return [
        [result_path(path, index, samples, c.name, len(channels)) for c in channels]
        for index in range(samples)
    ]


def provenance_path(volume_path: Path) -> Path:
    """The JSON file beside a volume: ``out.nii.gz`` -> ``out.json``."""
    return volume_path.with_name(stem(volume_path) + ".json")


def refuse_existing(paths: list[Path]) -> None:
    """Raises UserError for the first of the paths that exists."""
    for path in paths:
        if path.exists():
            raise UserError(
                "exists",
                "allow it to be replaced, or choose another name",
                path=path,
                code="output-exists",
            )


def is_finished(
    paths: list[Path],
    request: Request,
    settings: ResolvedSettings,
    manifest: Manifest,
    index: int,
) -> bool:
    """Whether a sample's files are all there, made by just this request.

    Raises UserError when files are there that something else made.
    """
    files = [f for p in paths for f in (p, provenance_path(p))]
    if not any(f.exists() for f in files):
        return False
    for path, channel in zip(paths, request.channels(manifest), strict=True):
        wanted = recipe_of(request.source.name, settings, manifest, index, channel.name)
        if not (path.exists() and _was_made_by(provenance_path(path), wanted)):
            raise UserError(
                "or its .json exists and was not made with these settings",
                "allow it to be replaced, or choose another output",
                path=path,
                code="output-exists",
            )
    return True


def _was_made_by(file: Path, recipe: Recipe) -> bool:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, Mapping) and asdict(recipe).items() <= found.items()


def write_sample_preview(
    sample: Sample, previews: list[Path], volumes: list[SyntheticVolume], manifest: Manifest
) -> None:
    """Draw a sample's volumes with the outlines of their labels, a picture each."""
    colors = {label.value: label.color for label in manifest.labels}
    for path, volume in zip(previews, volumes, strict=True):
        write_preview(path, volume, resample(sample.labels, volume.grid), colors)
