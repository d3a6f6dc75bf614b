"""Files written whole or not at all; and the folder that is the user's."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def user_folder() -> Path:
    """The user's folder: ``MEDDIFFUSION_HOME``, or ``.meddiffusion`` in the home folder."""
    return Path(os.environ.get("MEDDIFFUSION_HOME") or Path.home() / ".meddiffusion")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffixes) that replaces it when the block succeeds.

    On any exception, Ctrl-C included, the temporary file is removed and ``path`` is untouched.
    Raises OSError where the folder cannot be written.
    """
    suffixes = "".join(path.suffixes[-2:])
    temporary = path.with_name(f".meddiffusion-{secrets.token_hex(8)}{suffixes}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            # A power failure must not leave the name without the content.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically, UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
