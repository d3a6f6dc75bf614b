"""The section Model: which models there are, what is said of the chosen one, how one is added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bundles.installing import check_bundle, import_bundle
from ...bundles.manifest import Manifest
from ...bundles.names import SHAPE_MODEL_NAME
from ...compute.errors import UserError
from ..wording import _, sentence
from .card import full_card, short_card

Found = Mapping[str, tuple[Path, Manifest | UserError]]
"""The models that are there, by name, each with its folder; or with what is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """A line of the list of models."""

    name: str
    text: str
    tip: str


def by_name(loaded: Sequence[tuple[Path, Manifest | UserError]]) -> Found:
    """What the catalog has found."""
    return {folder.name: (folder, found) for folder, found in loaded}


def entries(models: Found) -> list[Entry]:
    """The list of models: the unusable ones stand there too, with the reason."""
    return [
        Entry(name, f"{name}: {_title(found)}", _tip(found))
        for name, (_folder, found) in models.items()
    ]


def _title(found: Manifest | UserError) -> str:
    return found.title if isinstance(found, Manifest) else _("unusable")


def _tip(found: Manifest | UserError) -> str:
    return found.description if isinstance(found, Manifest) else sentence(found)


@dataclass(frozen=True)
class ChosenModel:
    """The model that the parameter node names."""

    name: str | None
    """None: there is no parameter node, as the scene is being closed."""
    folder: Path | None = None
    manifest: Manifest | None = None
    """None where it cannot be used."""
    refusal: str = ""
    """Why no synthesis can start with it; empty where one can."""

    @property
    def card(self) -> str:
        return short_card(self.manifest) if self.manifest else self.refusal

    @property
    def details(self) -> str:
        """Empty where there are none."""
        return full_card(self.manifest) if self.manifest else ""

    @property
    def details_tip(self) -> str:
        return _("Lies in {folder}").format(folder=self.folder)

    @property
    def has_shapes(self) -> bool:
        """Whether it can draw label maps by itself."""
        return self.folder is not None and (self.folder / SHAPE_MODEL_NAME).is_file()


def choose(models: Found, name: str | None) -> ChosenModel:
    """The chosen model, whatever may be wrong with it."""
    if name is None:
        return ChosenModel(None, refusal=_("The scene is being closed."))
    if name not in models:
        text = _("The model {name} is not on this computer: choose another, or import it.")
        return ChosenModel(name, refusal=text.format(name=name))
    folder, found = models[name]
    if isinstance(found, UserError):
        return ChosenModel(name, folder, refusal=sentence(found))
    return ChosenModel(name, folder, found)


def add_model(source: Path, agrees: Callable[[str], bool]) -> tuple[str | None, str]:
    """Copy a bundle to the user's models; ``agrees`` is asked before one is replaced.

    Returns the new model's name, None where nothing was copied, and what to say.
    """
    try:
        target = check_bundle(source)
        question = _("There is a model {name} already. Replace it?").format(name=target.name)
        replace = target.exists()
        if replace and not agrees(question):
            return None, ""
        name = import_bundle(source, replace)
    except UserError as error:
        return None, sentence(error)
    return name, _("Imported {name}.").format(name=name)
