"""What an audit has finished so far, in its output folder: a killed one goes on from there.

A file of arrays for each case and sample, and the encoder's weights. A file's name has the hash of
all that it depends on, so that another model, other data or settings find nothing of these. The
folder is removed once the report is written: it holds small pictures of patients.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ...compute.files import atomic

FOLDER_NAME = "audit-work"
_OWN = re.compile(r"[0-9a-f]{16}-[a-z]+[0-9a-f-]*\.(npz|safetensors)")

Arrays = dict[str, Any]
"""Arrays by name."""


class Work:
    """The folder of finished parts. ``identity``: all that they depend on."""

    def __init__(self, output: Path, identity: Any) -> None:
        self.folder = output / FOLDER_NAME
        content = json.dumps(identity, sort_keys=True).encode()
        self._key = hashlib.sha256(content).hexdigest()[:16]

    def read(self, name: str) -> Arrays | None:
        """The arrays of a part; None where it is not finished, or its file is damaged."""
        try:
            with np.load(self._path(name, ".npz"), allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, name: str, arrays: Arrays) -> None:
        """Keep the arrays of a part; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self._path(name, ".npz")) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def read_weights(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of a network, as :meth:`read`."""
        try:
            return load_file(self._path(name, ".safetensors"))
        except (OSError, SafetensorError):
            return None

    def write_weights(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Keep the tensors of a network; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self._path(name, ".safetensors")) as temporary:
            temporary.write_bytes(save(tensors))

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{self._key}-{name}{suffix}"


def remove_work(output: Path) -> None:
    """Remove all finished parts in an output folder, of whichever run, and nothing else."""
    folder = output / FOLDER_NAME
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _OWN.fullmatch(path.name):
                path.unlink()
