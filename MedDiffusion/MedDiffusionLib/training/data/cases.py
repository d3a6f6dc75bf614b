"""Cases: which image files and which label map belong together, in the layouts that people have.

Two folders (same names; or a name and a contrast, ``NAME_0000.nii.gz``, ``NAME_T1.nii.gz``; or an
image folder per case), the raw folder of nnU-Net or of the Medical Segmentation Decathlon, and a
table; or a folder of images alone. No voxel is read here; :mod:`.preflight` does that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...compute.errors import UserError
from ...volumes.reading import has_image_suffix, stem
from .case_lists import NamesFile, Row, read_names_file, read_rows

LAYOUTS = (
    "give a folder with imagesTr and labelsTr (nnU-Net) or images and labels, a CSV or TSV table, "
    "or the two folders of the images and of the label maps"
)
_NAMES_FILE = "dataset.json"
_FOLDER_NAMES = (("imagesTr", "labelsTr"), ("images", "labels"))
_SEPARATORS = "_-."
"""What may stand between a case's name and its contrast in a file name."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: an image per contrast, in the data set's order, and a label map.

    A case that lacks a contrast has fewer images; ``labels`` is None where there are images alone.
    ``group`` is the patient; the case's own name where nothing is known.
    """

    name: str
    images: tuple[Path, ...]
    labels: Path | None
    group: str

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the label map last."""
        return self.images if self.labels is None else (*self.images, self.labels)


@dataclass(frozen=True)
class DataSet:
    """Cases and what is known of them.

    ``channels`` are the contrasts in order, ("image",) where unknown; ``label_names`` is empty
    where unknown and never has the background; ``unmatched`` are files without a partner.
    """

    cases: tuple[CaseFiles, ...]
    channels: tuple[str, ...]
    label_names: Mapping[int, str]
    unmatched: tuple[Path, ...]


def find_data(
    data: Path | None,
    images: Path | None,
    labels: Path | None,
    group_pattern: str | None = None,
    wanted: Sequence[str] | None = None,
) -> DataSet:
    """The data set of a folder or table ``data``, or of an image and a label map folder.

    ``images`` alone: the data set has no label maps.

    ``group_pattern``: a regular expression whose first group (or whole match) in a case's name is
    the patient. ``wanted`` names a subset of the cases and gives their order. Raises UserError
    where nothing is found or a wanted case is missing.
    """
    if data is None:
        if images is None:
            raise UserError("Training needs images and label maps", LAYOUTS)
        if labels is None:
            found = find_images(images, group_pattern)
        else:
            found = find_cases(images, labels, group_pattern)
    elif images is not None or labels is not None:
        raise UserError(
            "and folders of images and label maps are given", "give one of them", path=data
        )
    elif data.is_dir():
        found = find_cases(*_folders_in(data), group_pattern)
    else:
        found = read_table(data, group_pattern)
    return found if wanted is None else _subset(found, wanted)


def find_cases(images: Path, labels: Path, group_pattern: str | None = None) -> DataSet:
    """The cases of two folders; a ``dataset.json`` beside them names channels and labels.

    Contrasts are ordered by name, those of nnU-Net by number. A contrast that fewer than half of
    the cases have is none: its files are unmatched. Raises UserError where no image has a label
    map.
    """
    label_files = _by_name(labels)
    image_files, contrast_files = _by_name(images, folders=True), _contrast_folders(images)
    matched = contrast_files if contrast_files else _match(image_files, label_files)
    matched = {name: files for name, files in matched.items() if name in label_files}
    if not matched:
        raise UserError(
            f"No file in {images} has a label map of the same name in "
            f"{labels}{_example(image_files or contrast_files, label_files)}",
            "rename the files, or list them in a CSV table",
        )
    suffixes = _common_suffixes(matched)
    names = NamesFile((), {})
    if images.parent == labels.parent and (images.parent / _NAMES_FILE).is_file():
        names = read_names_file(images.parent / _NAMES_FILE)
    suffixes, channels = _channels(suffixes, names.channels, images)
    cases = tuple(
        CaseFiles(
            name,
            tuple(matched[name][s] for s in suffixes if s in matched[name]),
            label_files[name],
            _group(name, group_pattern),
        )
        for name in sorted(matched)
    )
    used = {path for case in cases for path in case.files}
    every = {path for files in contrast_files.values() for path in files.values()}
    every |= {*image_files.values(), *label_files.values()}
    return DataSet(cases, channels, names.labels, tuple(sorted(every - used)))


def find_images(images: Path, group_pattern: str | None = None) -> DataSet:
    """The cases of a folder of images without label maps.

    A case is a file, or a DICOM series' folder; or several of nnU-Net's names, ``NAME_0000``; or a
    folder with a file per contrast. Raises UserError where there is none.
    """
    image_files, matched = _by_name(images, folders=True), _contrast_folders(images)
    if not matched:
        numbered = {name: re.fullmatch(r"(.+)_(\d{4})", name) for name in image_files}
        for name, path in image_files.items():
            if all(numbered.values()) and (parts := numbered[name]):
                matched.setdefault(parts[1], {})[parts[2]] = path
            else:
                matched[name] = {"": path}
    if not matched:
        raise UserError("has no images", LAYOUTS, path=images)
    suffixes, channels = _channels(_common_suffixes(matched), (), images)
    cases = tuple(
        CaseFiles(
            name,
            tuple(matched[name][s] for s in suffixes if s in matched[name]),
            None,
            _group(name, group_pattern),
        )
        for name in sorted(matched)
    )
    used = {path for case in cases for path in case.images}
    every = {path for files in matched.values() for path in files.values()}
    return DataSet(cases, channels, {}, tuple(sorted(every - used)))


def read_table(table: Path, group_pattern: str | None = None) -> DataSet:
    """The cases of a CSV or TSV table with a header line.

    Columns: ``label``, optionally ``name`` and ``group``; each other column is a contrast of that
    name. Contrasts are ordered by name. Relative paths start at the table's folder; a path to a
    folder is a DICOM series. Raises UserError for a table that is not like that.
    """
    channels, rows = read_rows(table)
    counts = Counter(row.name for row in rows)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise UserError(
            f"has {counts[twice]} cases of the name {twice}",
            "give each row its own in a column name",
            path=table,
        )
    return DataSet(tuple(_row_case(row, group_pattern) for row in rows), channels, {}, ())


def _row_case(row: Row, group_pattern: str | None) -> CaseFiles:
    known = row.group if row.group and group_pattern is None else None
    return CaseFiles(row.name, row.images, row.label, known or _group(row.name, group_pattern))


def _folders_in(data: Path) -> tuple[Path, Path]:
    for images, labels in _FOLDER_NAMES:
        if (data / images).is_dir() and (data / labels).is_dir():
            return data / images, data / labels
    raise UserError("has no imagesTr and labelsTr", LAYOUTS, path=data)


def _subset(data: DataSet, wanted: Sequence[str]) -> DataSet:
    by_name = {case.name: case for case in data.cases}
    lacking = [name for name in wanted if name not in by_name]
    if lacking:
        raise UserError(
            f"{len(lacking)} of the {len(wanted)} cases asked for lack an image or a label map, "
            f"the first is {lacking[0]}",
            "add the files, or take the names off the list",
        )
    return replace(data, cases=tuple(by_name[name] for name in wanted))


def _by_name(folder: Path, folders: bool = False) -> dict[str, Path]:
    """Image files of a folder by name without suffix; with ``folders`` DICOM series as well."""
    if not folder.is_dir():
        raise UserError("is not a folder", "give the folder of the training files", path=folder)
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_dir():
            if not folders or not _is_series(path):
                continue
            name = path.name
        elif has_image_suffix(path):
            name = stem(path)
        else:
            continue
        if name in found:
            raise UserError(
                f"{found[name]} and {path.name} have the same name",
                "keep one of them, or list the files in a CSV table",
            )
        found[name] = path
    return found


def _contrast_folders(folder: Path) -> dict[str, dict[str, Path]]:
    """Subfolders that hold a file per contrast: case name -> contrast -> file."""
    inside = {path.name: _by_name(path) for path in _visible(folder) if path.is_dir()}
    return {name: files for name, files in inside.items() if files}


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted; without the hidden files that macOS and editors leave."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_series(folder: Path) -> bool:
    """Whether a folder may be a DICOM series: files, none of them in an image format."""
    files = [path for path in _visible(folder) if path.is_file()]
    return bool(files) and not any(has_image_suffix(path) for path in files)


def _match(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """Case name -> what follows it in the image's name ("" for nothing) -> image file."""
    exact = {name: {"": images[name]} for name in images.keys() & labels.keys()}
    suffixed: dict[str, dict[str, Path]] = {}
    for name, path in images.items():
        ends = [n for n in range(len(name) - 1, 0, -1) if name[n] in _SEPARATORS]
        # The longest case name wins: p1_2_T1 is contrast T1 of p1_2 and not 2_T1 of p1.
        case = next((name[:end] for end in ends if name[:end] in labels), None)
        if case is not None:
            suffixed.setdefault(case, {})[name[len(case) + 1 :]] = path
    return exact if len(exact) >= len(suffixed) else suffixed


def _common_suffixes(matched: Mapping[str, Mapping[str, Path]]) -> list[str]:
    counts = Counter(suffix for files in matched.values() for suffix in files)
    return sorted(s for s, count in counts.items() if 2 * count >= len(matched))


def _channels(
    suffixes: list[str], named: tuple[str, ...], images: Path
) -> tuple[list[str], tuple[str, ...]]:
    """The suffixes in order, and the names of the channels they are."""
    are_numbers = all(re.fullmatch(r"\d{4}", suffix) for suffix in suffixes)
    if named and are_numbers:
        if int(suffixes[-1]) >= len(named):
            raise UserError(
                f"has images _{suffixes[-1]}, but dataset.json names {len(named)} channels",
                "name the others under channel_names",
                path=images,
            )
        return [f"{n:04}" for n in range(len(named))], named
    if named and suffixes == [""]:
        return suffixes, named
    if len(suffixes) == 1 and (are_numbers or not suffixes[0]):
        return suffixes, ("image",)
    return suffixes, tuple(f"image{int(s)}" if are_numbers else s for s in suffixes)


def _group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(
            f"The group pattern {pattern!r} is no regular expression", f"{error}"
        ) from (error)
    if match is None:
        raise UserError(
            f"The group pattern {pattern!r} does not match the case {name}",
            "change it so that it finds the patient in every case's name",
        )
    return (match.group(1) if match.re.groups else match.group()) or name


def _example(images: Mapping[str, object], labels: Mapping[str, object]) -> str:
    if not images or not labels:
        return f" ({'no images' if not images else 'no label maps'} are there)"
    return f" (the first are {next(iter(images))} and {next(iter(labels))})"
