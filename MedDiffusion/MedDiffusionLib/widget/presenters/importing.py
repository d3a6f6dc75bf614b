"""A checkpoint of another program on its way to a model: what the form asks, and what is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundles.installing import models_folder
from ..wording import _, plain

_LONGEST = 64
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def suggested_name(source: Path) -> str:
    """A name for the model of a file: that of the file, in the letters that names may have."""
    letters = re.sub(r"[^a-z0-9._-]+", "-", source.stem.lower()).strip("._-")
    return letters[:_LONGEST] or "imported"


@dataclass(frozen=True)
class Request:
    """What is to be imported; ``refusal`` says why it cannot be, and is empty where it can."""

    source: Path
    name: str
    license: str = ""
    options: str = ""
    """``KEY=VALUE``, several of them between semicolons."""

    @property
    def refusal(self) -> str:
        if len(self.name) > _LONGEST or not _NAME.fullmatch(self.name):
            return _("Give the model a name of small letters, digits, dots and dashes.")
        return ""

    def agreed(self, agrees: Callable[[str], bool]) -> dict[str, Any] | None:
        """The worker's request, once the user agrees to replace a model of this name; else None.

        Raises UserError where there can be no models.
        """
        there = (models_folder() / self.name).exists()
        question = _("There is a model {name} already. Replace it?").format(name=self.name)
        if there and not agrees(question):
            return None
        return {
            "do": "import",
            "source": str(self.source),
            "name": self.name,
            "license": self.license.strip() or None,
            "options": [part.strip() for part in self.options.split(";") if part.strip()],
            "overwrite": there,
        }


def under_way(request: Request) -> str:
    return _("Importing {name}…").format(name=plain(request.source.name))


def imported(name: str) -> str:
    return _("Imported {name}. Who uses it has to keep to the license of its weights.").format(
        name=name
    )
