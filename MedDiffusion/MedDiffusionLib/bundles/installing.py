"""Copies a model bundle into the user's models folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import user_folder
from .manifest import read_manifest
from .names import MANIFEST_NAME, SHAPE_MODEL_NAME, WEIGHTS_NAME

_REQUIRED = (MANIFEST_NAME, WEIGHTS_NAME)
_OPTIONAL = (SHAPE_MODEL_NAME,)


def models_folder() -> Path:
    """The user's models folder, made where it does not exist yet."""
    home = user_folder()
    if home is None:
        raise UserError("There is no home folder", "set MEDDIFFUSION_HOME to one for models")
    folder = home / "models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot be made ({error.strerror})", "see to its permissions", path=folder
        ) from error
    return folder


def check_bundle(source: Path) -> Path:
    """Where the bundle would be copied to; raises UserError where it is none."""
    read_manifest(source)
    if lacking := [name for name in _REQUIRED if not (source / name).is_file()]:
        raise UserError(
            f"is no whole model bundle (it has no {', '.join(lacking)})",
            "choose the folder of a bundle",
            path=source,
        )
    target = models_folder() / source.resolve().name
    if target.resolve() == source.resolve():
        raise UserError("is in the models folder already", "choose it by its name", path=source)
    return target


def import_bundle(source: Path, replace: bool = False) -> str:
    """Copy a bundle's files and return the model's name.

    Whole or not at all: the copy gets its name only when it is complete, and what it replaces is
    only removed then. Raises UserError, also where there is such a model and ``replace`` is false.
    """
    target = check_bundle(source)
    if target.exists() and not replace:
        raise UserError(
            f"There is a model {target.name} already",
            "allow it to be replaced",
            code="output-exists",
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=target.parent) as work:
            new = Path(work) / "new"
            new.mkdir()
            for name in (*_REQUIRED, *_OPTIONAL):
                if (source / name).is_file():
                    shutil.copyfile(source / name, new / name)
            if target.exists():
                target.rename(Path(work) / "old")
            new.rename(target)
    except OSError as error:
        raise UserError(
            f"cannot be copied to {target} ({error.strerror})",
            "see to room and permissions",
            path=source,
        ) from error
    return target.name
