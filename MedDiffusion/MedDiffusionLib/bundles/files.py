"""The files of a bundle: which are its own, and whether they are those that it vouches for.

Needs neither torch nor safetensors, so that a model can be passed on and taken in without them.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import file_sha256
from .manifest import Manifest, damaged, unreadable
from .names import MANIFEST_NAME, SHAPE_MODEL_NAME, TEXT_NAMES, WEIGHTS_NAME

_HEADER_BYTES = 2**24
"""More than the names and shapes of all tensors take in a safetensors file."""
_LEAST_BYTES, _MOST_BYTES = 2, 4
"""Of one number of the weights."""
_MOST_SHAPE_BYTES = 2**31
_MOST_TEXT_BYTES = 2**20


def bundle_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """The names of the files that are the model; all else in its folder is not.

    Raises UserError where one that the manifest vouches for is missing.
    """
    needed = [MANIFEST_NAME, *_hashes(manifest)]
    if lacking := [name for name in needed if not os.path.lexists(folder / name)]:
        raise UserError(
            f"is no whole model bundle (it has no {', '.join(lacking)})",
            "choose the folder of a bundle",
            path=folder,
        )
    return (*needed, *(name for name in TEXT_NAMES if (folder / name).is_file()))


def most_bytes(name: str, manifest: Manifest) -> int:
    """How large a file of a bundle may be at most."""
    if name == WEIGHTS_NAME and manifest.weights:
        return _HEADER_BYTES + _MOST_BYTES * manifest.weights.parameters
    return _MOST_SHAPE_BYTES if name == SHAPE_MODEL_NAME else _MOST_TEXT_BYTES


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise UserError unless weights and shape model are those that the manifest vouches for."""
    bundle_files(folder, manifest)
    for name in _hashes(manifest):
        check_file(folder, name, manifest)


def check_file(folder: Path, name: str, manifest: Manifest) -> None:
    """Raise UserError unless a file of a bundle is the one that the manifest vouches for.

    The size is looked at first: a huge file is not read.
    """
    path = folder / name
    try:
        size = path.stat().st_size
        fits = size <= most_bytes(name, manifest)
        if name == WEIGHTS_NAME and manifest.weights:
            fits = fits and size >= _LEAST_BYTES * manifest.weights.parameters
        same = fits and file_sha256(path) == _hashes(manifest).get(name)
    except FileNotFoundError as error:
        raise UserError(f"has no {name}", "copy the bundle anew", path=folder) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not fits:
        what = "too large" if size > most_bytes(name, manifest) else "too small"
        raise damaged(path, f"{size:,} bytes are {what} for what {MANIFEST_NAME} says of it")
    if not same:
        raise UserError(
            f"does not match the SHA-256 in {MANIFEST_NAME}",
            "the file is damaged or of another model; copy the bundle anew",
            path=path,
        )


def _hashes(manifest: Manifest) -> dict[str, str]:
    """The hashes that a manifest gives, by the names of the files."""
    given = {
        WEIGHTS_NAME: manifest.weights.sha256 if manifest.weights else None,
        SHAPE_MODEL_NAME: manifest.shape_model_sha256,
    }
    return {name: value for name, value in given.items() if value}
