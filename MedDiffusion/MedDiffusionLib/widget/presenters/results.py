"""The section Results: which of its controls can be used, where a step leads, what is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..wording import _
from .control import Control


@dataclass(frozen=True)
class Results:
    """The list of synthetic volumes, the oldest first, and the chosen row; -1: none."""

    count: int
    row: int = -1

    def controls(self, has_image: bool) -> dict[str, Control]:
        """By their names in the form; ``has_image``: the label map was drawn on an image."""
        none = "" if self.count else _("There are no synthetic volumes yet.")
        unchosen = none or ("" if self.row >= 0 else _("Choose a volume in the list."))
        first = "" if self.step(-1) is not None else _("This is the first volume.")
        last = "" if self.step(1) is not None else _("This is the last volume.")
        no_image = "" if has_image else _("The label map of this volume was not drawn on an image.")
        return {
            "previousButton": Control(_("Show the volume before this one."), unchosen or first),
            "nextButton": Control(_("Show the volume after this one."), none or last),
            "saveButton": Control(_("Save this volume as a file."), unchosen),
            "deleteButton": Control(_("Take this volume out of the scene."), unchosen),
            "outlinesCheck": Control(
                _("Show the outlines of the label map on the volume."), unchosen
            ),
            "renderingCheck": Control(_("Show this volume in 3D."), unchosen),
            "sideBySideCheck": Control(
                _("Show the image that the label map was drawn on beside this volume."),
                unchosen or no_image,
            ),
        }

    def step(self, by: int) -> int | None:
        """The row that a step leads to; None where the list ends."""
        row = self.row + by
        return row if 0 <= row < self.count else None

    def after_deletion(self) -> int | None:
        """The row, of those that remain, to choose once the chosen one is deleted."""
        remaining = self.count - 1
        return min(self.row, remaining - 1) if remaining else None


def facts(attributes: Mapping[str, str], prefix: str) -> str:
    """What made a volume, a fact a line, of its attributes that begin with ``prefix``."""
    named = {k.removeprefix(prefix): v for k, v in attributes.items() if k.startswith(prefix)}
    return "\n".join(f"{name}: {named[name]}" for name in sorted(named))


def saved(path: str, done: bool) -> str:
    """What to say of a volume that was to be saved."""
    if done:
        return _("Saved {name}.").format(name=Path(path).name)
    return _("{path} cannot be written: choose another folder or name.").format(path=path)
