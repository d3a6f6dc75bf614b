"""What can be known of a study's files without looking at a voxel."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import open_regular
from .study import ANSWERS_NAME, CASES_NAME, PROTOCOL_NAME, STUDY_NAME, Study

_MOST_HEADER = 2**16
_ANSWERS = re.compile(r"[A-Za-z0-9_-]+\.(jsonl|last)")

TEXT = ("name", "permissions", "owner", "attributes", "header")
"""Facts that must be the same for all files: what differs may be read."""
NUMBERS = ("size", "date", "place in the case")
"""Facts that must be the same, or tell nothing of the arm."""
ORDERS = ("order of the cases", "order of creation")
"""Facts that cannot be the same, and must tell nothing of the arm."""


def facts_of(study: Study, path: Path) -> dict[str, str | float]:
    """The facts of a case's file, by name; raises UserError where it cannot be read."""
    number, letter = re.findall(r"-(\d+)([a-i]?)\.", path.name)[0]
    try:
        status = path.stat()
        return {
            # A case to practise on is named so, and a place in a choice has its letter.
            "name": re.sub(r"\d", "#", re.sub(r"^(case|training)|[a-i](?=\.)", "", path.name)),
            "permissions": stat.filemode(status.st_mode),
            "owner": f"{status.st_uid}:{status.st_gid}",
            "attributes": _attributes(path),
            "header": _header(path),
            "size": float(status.st_size),
            "date": float(status.st_mtime_ns),
            "place in the case": float(ord(letter or "a")),
            "order of the cases": float(number),
            "order of creation": float(status.st_ctime_ns),
        }
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "see to its permissions", path=path
        ) from error


def strays(study: Study) -> list[str]:
    """The files and folders below a study's that do not belong to it, by their paths in it."""
    known = {STUDY_NAME, PROTOCOL_NAME, CASES_NAME, ANSWERS_NAME, *study.hashes}
    found = []
    for path in sorted(study.folder.rglob("*")):
        name = path.relative_to(study.folder).as_posix()
        is_answer = path.parent.name == ANSWERS_NAME and _ANSWERS.fullmatch(path.name)
        if name not in known and not is_answer:
            found.append(name)
    return found


def shown(facts: Mapping[Path, str | float]) -> str:
    """The first two different values of a fact, and which files have them."""
    (first, value), *rest = facts.items()
    other = next(path for path, found in rest if found != value)
    return f"{first.name} is unlike {other.name}"


def _header(path: Path) -> str:
    """The text before the voxels of a NRRD file."""
    with open_regular(path) as file:
        return file.read(_MOST_HEADER).split(b"\n\n", 1)[0].decode("latin-1")


def _attributes(path: Path) -> str:
    """The extended attributes of a file, where the system has such."""
    if not hasattr(os, "listxattr"):
        return ""
    try:
        names = sorted(os.listxattr(path))
        return repr([(name, os.getxattr(path, name)) for name in names])
    except OSError:
        return ""
