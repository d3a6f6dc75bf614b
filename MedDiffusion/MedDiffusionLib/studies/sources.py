"""The volumes of a study's arms: found in folders, or made by a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.files import file_sha256
from ..compute.parsing import read_json
from ..volumes.reading import image_files, read_image, read_label_map, stem
from ..volumes.volume import Volume
from .key import Arm, Truth


@dataclass(frozen=True)
class Source:
    """A volume of an arm: its file, the name of its label map without suffix (its own name where
    none is known), and what a model made it by."""

    arm: Arm
    path: Path
    label_map: str
    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> Volume:
        """The volume; raises UserError for one that cannot be read."""
        return read_image(self.path)

    def truth(self) -> Truth:
        """What the key says of it."""
        return Truth(self.arm, self.name, file_sha256(self.path), self.label_map, self.recipe)


def sources_of(folder: Path, arm: Arm) -> list[Source]:
    """The volumes of a folder, by their names; raises UserError for one without any."""
    if not folder.is_dir():
        raise UserError("is no folder", f"give a folder of {arm} volumes", path=folder)
    files = image_files(folder)
    if not files:
        raise UserError(
            f"has no {arm} volumes, and a study needs both arms",
            "give a folder of NIfTI, NRRD or MetaImage files",
            path=folder,
            code="study-one-arm",
        )
    return [_source(path, arm) for path in files]


def labels_by_name(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by their names without suffix; raises UserError for none."""
    if not folder.is_dir():
        raise UserError("is no folder", "give a folder of label maps", path=folder)
    return {stem(path): path for path in image_files(folder)}


def label_maps_of_all(sources: list[Source], labels: Mapping[str, Path]) -> Iterator[Path | None]:
    """The label map of each source, for its region; None for each where one has none, since two
    ways to find the region would tell the arms apart."""
    known = [labels.get(source.label_map) for source in sources]
    yield from known if all(known) else [None] * len(known)


def read_labels(path: Path | None) -> Volume | None:
    """A label map, where there is one."""
    return None if path is None else read_label_map(path)


def with_recipe(source: Source) -> Source:
    """A source that was made by now, with what its record says."""
    return replace(source, recipe=_recipe(source.path.with_name(f"{stem(source.path)}.json")))


def _source(path: Path, arm: Arm) -> Source:
    recipe: dict[str, Any] = {}
    if arm == "synthetic":
        recipe = _recipe(path.with_name(f"{stem(path)}.json"))
    named = recipe.get("label_map")
    # nnU-Net's images end with the number of their channel, which its label maps do not.
    label_map = stem(Path(named if isinstance(named, str) and named else path))
    label_map = label_map.removesuffix("_0000")
    return Source(arm, path, label_map, path.name, recipe)


def _recipe(record: Path) -> dict[str, Any]:
    """What the record beside a volume says; nothing where there is none."""
    try:
        content = read_json(record)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
