"""The section Model: which models there are, what is said of the chosen one, how one is added."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bundles.installing import check_bundle, import_bundle
from ...bundles.manifest import Manifest
from ...bundles.names import MANIFEST_NAME, SHAPE_MODEL_NAME
from ...bundles.sharing import SUFFIX, export_bundle
from ...compute.errors import UserError
from ...compute.locks import folder_lock
from ..wording import _, plain, rich, sentence
from .card import full_card, short_card
from .control import Control

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
        Entry(name, plain(f"{name}: {_title(found)}"), _tip(found))
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
        return short_card(self.manifest) if self.manifest else rich(self.refusal)

    @property
    def details(self) -> str:
        """Empty where there are none."""
        return full_card(self.manifest) if self.manifest else ""

    @property
    def details_tip(self) -> str:
        return _("Lies in {folder}").format(folder=self.folder)

    @property
    def takes_labels(self) -> bool:
        """Whether it makes volumes from label maps; else it makes them by itself."""
        return self.manifest is None or bool(self.manifest.labels)

    @property
    def has_shapes(self) -> bool:
        """Whether it can draw label maps by itself."""
        return self.folder is not None and (self.folder / SHAPE_MODEL_NAME).is_file()


def controls(model: ChosenModel, models: Path | None) -> dict[str, Control]:
    """The buttons by their names in the form; ``models``: the folder of the user's own models."""
    own = model.folder is not None and models is not None and model.folder.parent == models
    not_own = "" if own else _("This model is not one of your own: it came with the extension.")
    return {
        "exportModelButton": Control(
            _("Write the chosen model to a zip file that can be passed on: its own files only."),
            model.refusal,
        ),
        "deleteModelButton": Control(
            _("Remove the chosen model, one of your own, from this computer."), not_own
        ),
    }


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
    """Copy a model to the user's models; ``agrees`` is asked before one is replaced.

    ``source`` is a zip file that was exported, or the folder of a model, or its ``model.json``.
    Returns the new model's name, None where nothing was copied, and what to say.
    """
    if source.name == MANIFEST_NAME:
        source = source.parent
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


def export_name(model: ChosenModel) -> str:
    """The suggested name of a model's zip file."""
    return f"{model.name}{SUFFIX}"


def export_model(model: ChosenModel, path: str) -> str:
    """Write a model to the file that the user has chosen; what to say.

    The dialog has asked before a file is replaced, but not of the name with the suffix.
    """
    target = Path(path)
    named = target.suffix.lower() == SUFFIX
    if not named:
        target = target.with_name(target.name + SUFFIX)
    if model.folder is None or model.manifest is None:
        return model.refusal
    try:
        export_bundle(model.folder, target, overwrite=named)
    except UserError as error:
        return sentence(error)
    text = _("Exported {name}. Who uses it has to keep to its license: {license}.")
    return text.format(name=target.name, license=model.manifest.license)


def delete_model(model: ChosenModel, agrees: Callable[[str], bool]) -> tuple[bool, str]:
    """Remove one of the user's models, after asking; whether it is gone, and what to say."""
    folder = model.folder
    if folder is None:
        return False, ""
    question = _("Delete the model {name} for good, with all that lies in {folder}?")
    if not agrees(question.format(name=model.name, folder=folder)):
        return False, ""
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            with folder_lock(folder):  # No training goes on in it.
                pass
            shutil.rmtree(folder)
    except UserError as error:
        return False, sentence(error)
    except OSError as error:
        text = _("{folder} cannot be deleted ({reason}): see to its permissions.")
        return False, text.format(folder=folder, reason=error.strerror)
    return True, _("Deleted {name}.").format(name=model.name)
