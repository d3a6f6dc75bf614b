"""The promises that every command keeps, whatever it is given."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_MOST_HASHED = 2**25
_LONGEST_SENTENCE = 2000
_CODES = (0, 1, 2, 130, 143)
_UNFORESEEN = "Something unexpected happened"
"""How the command says that it knows no more than the exception."""
_STRAY = re.compile(r"\.meddiffusion-.*")
ERROR = "meddiffusion: error: "

Tree = dict[str, tuple[Any, ...]]
"""What lies in a folder: relative path -> what must not change of it."""


class Broken(Exception):
    """A promise that was not kept, in words."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str
    kib: int
    cpu: float
    stopped: str = ""
    left_processes: bool = False
    killed: bool = False
    """By the test itself, which then expects no more of it."""

    @property
    def error_lines(self) -> list[str]:
        """What it said of what failed."""
        return [line for line in self.err.splitlines() if line.startswith(ERROR)]


def check_end(ended: Ended) -> None:
    """It came to an end of its own, in bounds, with an exit code that means something."""
    if "Traceback (most recent call last)" in ended.err:
        last = [line for line in ended.err.strip().splitlines() if line.strip()][-1]
        raise Broken(f"traceback: {last[:200]}")
    if _UNFORESEEN in ended.err:
        raise Broken(f"not foreseen: {ended.err[ended.err.index(_UNFORESEEN) :][:250].strip()}")
    if ended.stopped:
        raise Broken(ended.stopped)
    if ended.code < 0:
        raise Broken(f"death by signal {-ended.code}")
    if ended.code not in _CODES:
        raise Broken(f"exit code {ended.code}")
    if ended.left_processes:
        raise Broken("left a process behind")


def check_words(
    ended: Ended,
    most_errors: int = 1,
    summary: bool = False,
    report: bool = False,
    longest_given: int = 0,
) -> None:
    """It said nothing but its own sentences, one for each thing that failed.

    ``summary``: of a folder, whose failures are counted in a line of their own. ``report``: of a
    check, which may have said on stdout what is wrong. ``longest_given``: characters of the
    longest argument, which a sentence may quote.
    """
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        bad = [c for c in text.replace("\n", "") if _is_control(c)]
        if bad:
            raise Broken(f"control character {bad[0]!r} on {name}")
    lines = ended.err.splitlines()
    strange = [line for line in lines if not line.startswith("meddiffusion: ")]
    if strange:
        raise Broken(f"on stderr beside the sentence: {strange[0][:200]!r}")
    if any(len(line) > _LONGEST_SENTENCE + longest_given for line in lines):
        raise Broken(f"a sentence of {max(map(len, lines))} characters")
    if ended.code == 0:
        if ended.error_lines:
            raise Broken(f"exit code 0 with an error: {ended.error_lines[0][:200]}")
        return
    if ended.code in (130, 143):
        return
    least_errors = 0 if report and ended.out else 1
    if not least_errors <= len(ended.error_lines) <= most_errors:
        raise Broken(f"{len(ended.error_lines)} error sentences, exit code {ended.code}")
    rest = [line for line in lines if not line.startswith((ERROR, "meddiffusion: warning: "))]
    if len(rest) > (1 if summary else 0):
        raise Broken(f"on stderr beside the sentence: {rest[0][:200]!r}")
    if ended.code == 1 and not all(line.endswith(".") for line in ended.error_lines):
        raise Broken(f"no sentence: {ended.error_lines[0][-200:]!r}")


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in "\u202e\u2066"


def look_at(folder: Path) -> Tree:
    """All that lies in a folder, links not followed."""
    tree: Tree = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            tree[os.path.relpath(path, folder)] = _facts(path)
    return tree


def _facts(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return ("link", str(path.readlink()))
    if not stat.S_ISREG(mode):
        return (stat.S_IFMT(mode), stat.S_IMODE(mode))
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            digest.update(file.read(_MOST_HASHED))
            if status.st_size > 2 * _MOST_HASHED:
                file.seek(-_MOST_HASHED, os.SEEK_END)
            digest.update(file.read(_MOST_HASHED))
    except PermissionError:
        return ("closed", status.st_size, status.st_mtime_ns)
    return ("file", status.st_size, digest.hexdigest())


def check_kept(before: Tree, after: Tree, replaced: Iterable[str] = ()) -> None:
    """What was there is there, as it was, but for what was to be replaced."""
    given = set(replaced)
    for name, facts in before.items():
        if name in given or _STRAY.fullmatch(Path(name).name):
            continue
        if name not in after:
            raise Broken(f"data lost: {name!r} is gone")
        if after[name] != facts:
            raise Broken(f"data lost: {name!r} was changed")


def check_new(
    before: Tree, after: Tree, wanted: Iterable[str], allowed: Callable[[str], bool], done: bool
) -> None:
    """What is new is what was asked for, whole and without anything beside it.

    ``wanted`` must all be there when the command is ``done``; ``allowed`` says what else may be.
    """
    new = after.keys() - before.keys()
    strays = [name for name in new if _STRAY.fullmatch(Path(name).name)]
    if strays:
        raise Broken(f"stray file {strays[0]!r}")
    asked = set(wanted)
    beside = sorted(name for name in new if not allowed(name) and not (done and name in asked))
    if beside:
        what = "beside what was asked for" if done else "left after a refusal"
        raise Broken(f"{beside[0]!r} is {what}")
    lacking = sorted(name for name in asked if name not in after) if done else []
    if lacking:
        raise Broken(f"exit code 0 without {lacking[0]!r}")


@dataclass(frozen=True)
class Geometry:
    """Where a label map lies: its size, and its affine (index to RAS in mm)."""

    size: tuple[int, int, int]
    affine: NDArray[np.float64]


def read_result(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """The voxels ``[i, j, k]`` and the affine of a file that the command wrote."""
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            image = nibabel.load(path)
            return np.asarray(image.dataobj), np.asarray(image.affine)
        with tempfile.TemporaryDirectory() as folder:
            # By a plain name: suffixes in capitals it does not know, and of a name that is not
            # UTF-8 this very process would die.
            plain = Path(folder, f"a{path.suffix.lower()}")
            plain.symlink_to(path.resolve())
            image = sitk.ReadImage(str(plain))
    except Exception as error:
        raise Broken(f"{path.name} cannot be read: {error}") from error
    affine = np.eye(4)
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3] = np.diag([-1.0, -1, 1]) @ np.column_stack([axes, image.GetOrigin()])
    return sitk.GetArrayFromImage(image).transpose(), affine


def check_volume(path: Path, geometry: Geometry | None = None) -> None:
    """A synthetic volume is whole, finite, where its label map is, and has its record."""
    array, affine = read_result(path)
    if array.ndim != 3 or not np.isfinite(array).all() or not np.isfinite(affine).all():
        raise Broken(f"{path.name} has numbers that are not finite")
    if array.min() == array.max():
        raise Broken(f"{path.name} is one number everywhere")
    if geometry is not None:
        if array.shape != geometry.size:
            raise Broken(f"{path.name} is {array.shape} instead of {geometry.size}")
        step = np.abs(geometry.affine[:3, :3]).max()
        if not np.allclose(affine, geometry.affine, rtol=1e-5, atol=1e-4 * step):
            raise Broken(f"{path.name} lies elsewhere than its label map")
    check_record(record_of(path))


def record_of(volume: Path) -> Path:
    """The JSON file beside a volume."""
    name = volume.name
    for suffix in (".nii.gz", ".nii", ".nrrd", ".mha"):
        if name.lower().endswith(suffix):
            return volume.with_name(name[: -len(suffix)] + ".json")
    return volume.with_suffix(".json")


def check_record(path: Path) -> None:
    """A record is JSON by the standard, and says that the volume is synthetic."""

    def refuse(name: str) -> None:
        raise Broken(f"{path.name} holds {name}")

    try:
        content = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise Broken(f"{path.name} is no whole record: {error}") from error
    if content.get("synthetic") is not True:
        raise Broken(f"{path.name} does not say that the volume is synthetic")


def check_picture(path: Path) -> None:
    """A preview is a whole PNG picture."""
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or content[-8:-4] != b"IEND":
        raise Broken(f"{path.name} is no whole picture")
