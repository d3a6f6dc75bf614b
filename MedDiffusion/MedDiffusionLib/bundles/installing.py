"""Copies models into the user's models folder, from a folder or an exported zip file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import open_regular, user_folder
from .files import bundle_files, check_files, most_bytes
from .manifest import read_manifest
from .sharing import SUFFIX, open_zip


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


def is_checkpoint(source: Path) -> bool:
    """Whether it is for ``importers.import_checkpoint``: a file that is not called a zip file."""
    return source.is_file() and source.suffix.lower() != SUFFIX


def check_bundle(source: Path) -> Path:
    """Where the model of a folder or a zip file would be copied to.

    A folder's has the folder's name, a zip file's that of its manifest. Raises UserError where it
    is no model.
    """
    if not source.is_dir():
        with open_zip(source) as found:
            return models_folder() / found.manifest.name
    bundle_files(source, read_manifest(source))
    target = models_folder() / source.resolve().name
    if target.resolve() == source.resolve():
        raise UserError("is in the models folder already", "choose it by its name", path=source)
    return target


def import_bundle(
    source: Path, replace: bool = False, check: Callable[[Path], object] = read_manifest
) -> str:
    """Copy a model from its folder or from an exported zip file, and return its name.

    Whole or not at all: the copy gets its name only when its files are those that the manifest
    vouches for and ``check`` has not refused it, and what it replaces is only removed then. Raises
    UserError, also where there is such a model and ``replace`` is false.
    """
    target = check_bundle(source)
    if not replace:
        refuse_existing_model(target)
    with new_model(target, source) as new:
        if source.is_dir():
            _copy(source, new)
        else:
            with open_zip(source) as found:
                found.unpack(new)
        check_files(new, read_manifest(new))
        check(new)
    return target.name


@contextlib.contextmanager
def new_model(target: Path, source: Path) -> Iterator[Path]:
    """An empty folder that becomes the model's folder ``target`` when the block succeeds.

    What it replaces is only removed then. Raises UserError where ``source`` cannot be copied.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=target.parent) as work:
            new = Path(work) / "new"
            new.mkdir()
            yield new
            if target.exists():
                target.rename(Path(work) / "old")
            new.rename(target)
    except OSError as error:
        raise UserError(
            f"cannot be copied to {target} ({error.strerror or error})",
            "see to room and permissions",
            path=source,
        ) from error


def refuse_existing_model(target: Path) -> None:
    """Raise UserError where there is a model of this folder's name."""
    if target.exists():
        raise UserError(
            f"There is a model {target.name} already",
            "allow it to be replaced",
            code="output-exists",
        )


def _copy(source: Path, target: Path) -> None:
    """Copy a bundle's own files."""
    manifest = read_manifest(source)
    for name in bundle_files(source, manifest):
        with open_regular(source / name) as old, (target / name).open("xb") as new:
            if (source / name).stat().st_size > most_bytes(name, manifest):
                raise UserError(f"has a {name} that is too large", "copy it anew", path=source)
            shutil.copyfileobj(old, new)
