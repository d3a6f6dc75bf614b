"""Files that ITK reads: checked by their format's own look at the header, read in another process.

NRRD, MetaImage, GIPL and DICOM come this way, since ITK and GDCM can crash and hang on damaged
content; NIfTI and MGH are read by nibabel, which is Python, in this process. A format says what its
header promises; what ITK makes of it must be the same number of bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from ..segments import parse_segments
from ..volume import LPS_TO_RAS
from .content import Content, check_affine, check_shape
from .itk_client import ask

_SECONDS = 15.0
"""A small file takes some hundredths of one; one that takes more than this hangs."""
_SECONDS_A_SLICE = 0.1
"""To open a file, several times, on a slow network."""
_LONGEST_SUFFIX = len(".gipl.gz")


@dataclass(frozen=True)
class Promise:
    """What a header says of a file: the bytes that its voxels need, and where they are."""

    needed: int
    data: Path | None = None
    """The file of the voxels where it is not the header's own."""
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_itk(path: Path, reader: str, promise: Promise) -> Content:
    """A file by a reader of ITK's, such as ``NrrdImageIO``.

    Raises UserError; ValueError, EOFError or OSError for a damaged file.
    """
    data = promise.data or path
    stored = sum(file.stat().st_size for file in {path, data})
    request = {
        "reader": reader,
        "needed": promise.needed,
        "stored": stored,
        "seconds": _SECONDS,
    }
    with ExitStack() as stack:
        at = path.absolute()
        if not _is_utf8(os.fspath(at)):
            # The end of the name has the suffix, by which ITK knows what is packed.
            plain = "image" + path.name[-_LONGEST_SUFFIX:].encode("ascii", "ignore").decode()
            links = {os.path.relpath(data, path.parent): data, plain: path}
            at = stack.enter_context(_linked(links)) / plain
        facts, array = ask({**request, "path": os.fspath(at)}, path)
    if "size" not in facts:
        raise ValueError(facts["damaged"])
    layers = facts["components"]
    segments = parse_segments(promise.metadata, layers)
    if layers > 1 and not segments:
        raise UserError(
            "has several values per voxel", "give one scalar volume per file", path=path
        )
    check_shape(facts["size"], path, layers)
    affine = _affine(facts, path)
    if array is None:
        raise ValueError(facts["damaged"])
    kji = tuple(facts["size"][2::-1])
    axes = (2, 1, 0, 3) if layers > 1 else (2, 1, 0)
    return array.reshape(kji + (layers,) * (layers > 1)).transpose(axes), affine, segments


def read_itk_series(folder: Path, names: Sequence[str], stored: int) -> Content:
    """A folder of files as one DICOM series; ``stored`` is their size in bytes.

    Raises UserError; ValueError, EOFError or OSError for damaged files.
    """
    with ExitStack() as stack:
        at = folder.absolute()
        if not _is_utf8(os.fspath(at) + "".join(names)):
            links = {f"{n}.dcm": folder / name for n, name in enumerate(names)}
            at = stack.enter_context(_linked(links))
        seconds = _SECONDS + _SECONDS_A_SLICE * len(names)
        request = {"series": os.fspath(at), "stored": stored, "seconds": seconds}
        facts, array = ask(request, folder)
    if array is None:
        raise ValueError(facts["damaged"])
    check_shape(facts["size"], folder)
    return array.transpose(), _affine(facts, folder), []


def _affine(facts: Mapping[str, Any], path: Path) -> NDArray[np.float64]:
    """The checked affine of an image of ITK's: its size, spacing, origin and direction."""
    axes = len(facts["size"])
    direction = np.array(facts["direction"]).reshape(axes, axes)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ direction * np.array(facts["spacing"][:3])
    affine[:3, 3] = LPS_TO_RAS @ np.array(facts["origin"][:3])
    check_affine(affine, path)
    return affine


def _is_utf8(text: str) -> bool:
    """Whether ITK takes a file name, which Python may have made of any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _linked(files: Mapping[str, Path]) -> Iterator[Path]:
    """A temporary folder in which files have these names; copies where links are impossible."""
    with tempfile.TemporaryDirectory(prefix="meddiffusion-") as folder:
        for name, file in files.items():
            link = Path(folder, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(file.absolute())
            except OSError:
                shutil.copyfile(file, link)
        yield Path(folder)
