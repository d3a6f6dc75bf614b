"""Results: volumes with their provenance, and files that appear whole and together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..bundles.manifest import Channel
from ..compute.errors import UserError
from ..compute.files import atomic_together, file_sha256, json_bytes, refuse_existing
from ..compute.parsing import read_json
from ..volumes.preview import write_preview
from ..volumes.resampling import resample
from ..volumes.volume import Volume
from ..volumes.writing import check_format, check_writable, put_volume, writing
from .outputs import ResultFiles, provenance_path
from .provenance import EVERYWHERE, Provenance, Recipe

_VOLUME_HASH, _PREVIEW_HASH = "volume_sha256", "preview_sha256"


@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticVolume(Volume):
    """A volume that a model made: the channel it shows, and what it was made by."""

    channel: Channel
    provenance: Provenance

    def save(
        self, path: str | Path, *, overwrite: bool = False, with_provenance: bool = True
    ) -> None:
        """Write the volume and, beside it, its record: ``out.nii.gz`` and ``out.json``.

        The record is the provenance and the volume's SHA-256. Both appear, or neither. Raises
        UserError where one of the two is there already and may not be overwritten, and as
        ``write_volume`` does.
        """
        path = Path(path)
        files = ResultFiles(path, provenance_path(path) if with_provenance else None)
        check_format(path, self.kind)
        check_writable(path)
        if not overwrite:
            refuse_existing(files)
        write_sample([self], [files])


@dataclass(frozen=True)
class Sample:
    """One finished sample: a volume per channel of the model, in the model's order.

    ``labels`` is the label map that it was made from (of a large one the part about what is
    labelled), with the model's label values; None where it was made from none.
    """

    index: int
    volumes: tuple[SyntheticVolume, ...]
    labels: Volume | None


def write_sample(
    volumes: Sequence[SyntheticVolume],
    files: Sequence[ResultFiles],
    labels: Volume | None = None,
    colors: Mapping[int, tuple[int, int, int]] = MappingProxyType({}),
) -> None:
    """Write a sample's volumes, previews and records: all of them whole, or none.

    ``files`` are those of each volume; ``labels`` and the labels' ``colors`` are what previews
    show. Raises UserError where something cannot be written.
    """
    rows = [(f.record, f.volume, f.preview) for f in files]
    # Records first: they vouch for what follows, and tell a later run if it did not.
    order = [path for column in zip(*rows, strict=True) for path in column if path is not None]
    with writing(files[0].volume), atomic_together(order) as temporaries:
        place = dict(zip(order, temporaries, strict=True))
        for volume, file in zip(volumes, files, strict=True):
            record = volume.provenance.to_json()
            with writing(file.volume):
                put_volume(place[file.volume], volume)
                record[_VOLUME_HASH] = file_sha256(place[file.volume])
            if file.preview is not None:
                with writing(file.preview):
                    drawn = resample(labels, volume.grid) if labels is not None else None
                    write_preview(place[file.preview], volume, drawn, colors)
                    record[_PREVIEW_HASH] = file_sha256(place[file.preview])
            if file.record is not None:
                with writing(file.record):
                    place[file.record].write_bytes(json_bytes(record))


def is_finished(files: Sequence[ResultFiles], recipes: Sequence[Recipe]) -> bool:
    """Whether a sample's files are all there, whole and made by just these recipes.

    A record without its volume or preview is what a killed run left: that sample is not finished.
    Raises UserError when something is there that something else made, or that was changed since.
    """
    # Each is looked at: what is wrong with a later one is not to be found only after the work.
    whole = [_is_whole(file, recipe) for file, recipe in zip(files, recipes, strict=True)]
    return all(whole)


def _is_whole(files: ResultFiles, recipe: Recipe) -> bool:
    record = _read_record(files.record) if files.record else {}
    # Older records say of no range: there was guidance everywhere.
    is_ours = asdict(recipe).items() <= {"guidance_range": EVERYWHERE, **record}.items()
    there = [path for path in files if os.path.lexists(path)]
    if there and not is_ours:
        source = " from this label map" if recipe.label_map_sha256 else ""
        raise UserError(
            f"exists and was not made with these settings{source}",
            "allow it to be replaced, or choose another output",
            path=there[-1] if len(there) == 1 else files.volume,
            code="output-exists",
        )
    for path, name in ((files.volume, _VOLUME_HASH), (files.preview, _PREVIEW_HASH)):
        if path in there and path is not None and _sha256(path) != record.get(name):
            raise UserError(
                "exists and is not what was written there: it was changed or damaged since",
                "allow it to be replaced, or choose another output",
                path=path,
                code="output-exists",
            )
    return len(there) == len(list(files))


def _read_record(path: Path) -> dict[str, Any]:
    """What a record says; nothing where there is none."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _sha256(path: Path) -> str:
    with writing(path):
        return file_sha256(path)
