"""The section Results: which of its controls can be used, where a step leads, what is said."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..wording import _, plain
from .control import Control

SUFFIXES = (".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd")
"""What the names of files end in that a volume can be saved as."""
SYNTHETIC = "synthetic"
_LONGEST_NAME = 120
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Results:
    """The list of synthetic volumes, the oldest first.

    ``row`` is that of the shown one, -1: none; ``selected`` says how many are marked.
    """

    count: int
    row: int = -1
    selected: int = 1

    def controls(self, has_image: bool) -> dict[str, Control]:
        """By their names in the form; ``has_image``: the label map was drawn on an image."""
        none = "" if self.count else _("There are no synthetic volumes yet.")
        unchosen = none or ("" if self.row >= 0 else _("Choose a volume in the list."))
        first = "" if self.step(-1) is not None else _("This is the first volume.")
        last = "" if self.step(1) is not None else _("This is the last volume.")
        no_image = "" if has_image else _("The label map of this volume was not drawn on an image.")
        opacity = Control(
            _("How much of this volume is seen over the image of the label map."),
            unchosen or no_image,
        )
        several = self.selected if self.selected > 1 else 0
        return {
            "previousButton": Control(_("Show the volume before this one."), unchosen or first),
            "nextButton": Control(_("Show the volume after this one."), none or last),
            "renameButton": Control(_("Give this volume another name."), unchosen),
            "saveButton": Control(_("Save this volume as a file."), unchosen),
            "saveAllButton": Control(
                _("Save the volumes that are marked in the list, or all of them, into a folder."),
                none,
                _("Save {n}…").format(n=several) if several else _("Save all…"),
            ),
            "deleteButton": Control(
                _("Take the volumes that are marked in the list out of the scene."),
                unchosen,
                _("Delete {n}").format(n=several) if several else _("Delete"),
            ),
            "outlinesCheck": Control(
                _("Show the outlines of the label map on the volume."), unchosen
            ),
            "renderingCheck": Control(_("Show this volume in 3D."), unchosen),
            "sideBySideCheck": Control(
                _("Show the image that the label map was drawn on beside this volume."),
                unchosen or no_image,
            ),
            "opacitySlider": opacity,
            "opacityLabel": opacity,
        }

    def step(self, by: int) -> int | None:
        """The row that a step leads to; None where the list ends."""
        row = self.row + by
        return row if 0 <= row < self.count else None

    def after_deletion(self, rows: Collection[int]) -> int | None:
        """The row, of those that remain, to choose once these are deleted."""
        remaining = self.count - len(rows)
        return min(*rows, remaining - 1) if remaining else None


def facts(attributes: Mapping[str, str], prefix: str) -> str:
    """What made a volume, a fact a line, of its attributes that begin with ``prefix``."""
    named = {k.removeprefix(prefix): v for k, v in attributes.items() if k.startswith(prefix)}
    return "\n".join(f"{name}: {plain(named[name])}" for name in sorted(named))


def row_text(name: str, changed: bool) -> str:
    """A line of the list; ``changed``: its label map is not what it was made from any more."""
    if not changed:
        return plain(name)
    return _("(label map changed since) {name}").format(name=plain(name))


def renamed(text: str, before: str) -> str:
    """The new name of a volume: that it is synthetic stays in it."""
    name = " ".join(plain(text).split())
    if not name:
        return before
    return name if SYNTHETIC in name.lower() else f"{name} {SYNTHETIC}"


def file_name(name: str) -> str:
    """A name for a file, safe on every system, that says that the volume is synthetic."""
    safe = re.sub(r"[^\w.+() -]+", "_", renamed(name, SYNTHETIC)).strip(" .")
    if _RESERVED.fullmatch(safe.split(".")[0]):
        safe = f"_{safe}"
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[: _LONGEST_NAME - len(SYNTHETIC) - 1].rstrip(' .')} {SYNTHETIC}"
    return f"{safe}.nrrd"


def free_path(folder: Path, name: str, taken: Collection[Path]) -> Path:
    """Where a volume goes in a folder: no file is there yet, and no other volume goes there."""
    stem, number = name.removesuffix(".nrrd"), 1
    used = {path.name.lower() for path in taken}
    path = folder / name
    while path.exists() or path.is_symlink() or path.name.lower() in used:
        number += 1
        path = folder / f"{stem} ({number}).nrrd"
    return path


def name_problem(path: str) -> str:
    """Why a volume cannot be saved under a name, whatever the folder; empty where it can."""
    name = Path(path).name
    if any(name.lower().endswith(s) and len(name) > len(s) for s in SUFFIXES):
        return ""
    text = _("{name} does not say which format it is: let it end in .nrrd, .nii.gz or .mha.")
    return text.format(name=name)


def saved(path: str, done: bool) -> str:
    """What to say of a volume that was to be saved."""
    if done:
        return _("Saved {name}.").format(name=Path(path).name)
    return _("{path} cannot be written: choose another folder or name.").format(path=path)


def all_saved(folder: str, done: int, count: int) -> str:
    """What to say of several volumes that were to be saved into a folder."""
    if done == count:
        return _("Saved {n} volumes in {folder}.").format(n=done, folder=folder)
    text = _("Saved {n} of {count} volumes in {folder}: see to its room and permissions.")
    return text.format(n=done, count=count, folder=folder)


def delete_question(count: int) -> str:
    """What is asked before more than one volume goes."""
    return _("Take {n} volumes out of the scene?").format(n=count)
