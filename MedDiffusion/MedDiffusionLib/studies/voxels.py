"""The volumes of a study's cases, each read once: its hash and its voxels are of the same bytes.

They have the one plain form that the pipeline writes, so that no other library is needed: Slicer's
own process reads them, while it must neither wait nor be brought down.
"""

from __future__ import annotations

import hashlib
import math
import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from ..compute.files import open_regular
from ..compute.parsing import parse_integer, parse_number
from ..volumes.volume import LPS_TO_RAS, Kind, Volume
from .study import Case, Study, changed

_MOST_HEADER = 2**16
_FORM = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
}


def read_case(study: Study, case: Case) -> tuple[Volume, ...]:
    """The volumes of a case, ``[i, j, k]`` int16 with the first axis fastest in memory.

    Raises UserError for a file that cannot be read, has another hash than when the study was made,
    or is not of the pipeline's form.
    """
    return tuple(_read(study, path) for path in case.files)


class ReadAhead:
    """Reads cases in a thread of its own, one after the other, and keeps those asked for last.

    Nearly all of it is done without Python's lock. Slicer's event loop holds that lock while
    nothing happens, so whoever waits lets the thread have it now and then, by :meth:`take`.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._reading = ThreadPoolExecutor(1, "meddiffusion-cases")
        self._asked: dict[str, Future[tuple[Volume, ...]]] = {}

    def ask(self, *cases: Case) -> None:
        """Read these cases, those that are not there yet, in this order; forget all others."""
        kept = {case.id: self._asked.get(case.id) for case in cases}
        for case_id, future in self._asked.items():
            if case_id not in kept:
                future.cancel()
        self._asked = {
            case.id: kept[case.id] or self._reading.submit(read_case, self._study, case)
            for case in cases
        }

    def take(self, case: Case, seconds: float) -> tuple[Volume, ...] | None:
        """The volumes of a case that was asked for; None where that takes longer than ``seconds``.

        Raises UserError as :func:`read_case` does; then it is read anew when it is asked for again.
        """
        future = self._asked[case.id]
        wait([future], seconds)
        if not future.done():
            return None
        if future.exception() is not None:
            del self._asked[case.id]
        return future.result()

    def turn(self, seconds: float) -> bool:
        """Let the thread work for so long at most; whether there is anything left for it to do."""
        return bool(wait(self._asked.values(), seconds).not_done)

    def close(self) -> None:
        """Forget all; what is being read is read to its end, and dropped."""
        self._asked.clear()
        self._reading.shutdown(wait=False, cancel_futures=True)


def _read(study: Study, path: Path) -> Volume:
    name = path.relative_to(study.folder).as_posix()
    try:
        header, voxels = _content(path)
    except OSError as error:
        raise UserError(
            "cannot be read",
            "see to the disk and its permissions, and try again",
            path=path,
            code="case-unreadable",
            detail=error.strerror or str(error),
        ) from error
    digest = hashlib.sha256(header)
    digest.update(voxels.data)
    if digest.hexdigest() != study.hashes[name]:
        raise changed(study.folder, name)
    try:
        return _volume(header, voxels)
    except (ValueError, KeyError) as error:
        raise UserError(
            "is not of the form that studies have", "make the study anew", path=path, code="study"
        ) from error


def _content(path: Path) -> tuple[bytes, NDArray[np.int16]]:
    """The header, up to the blank line that ends it, and the numbers after it."""
    with open_regular(path) as file:
        start, blank, _ = file.read(_MOST_HEADER).partition(b"\n\n")
        file.seek(len(start) + len(blank))
        return start + blank, np.fromfile(file, "<i2")


def _volume(header: bytes, voxels: NDArray[np.int16]) -> Volume:
    first, *lines = header.decode("ascii").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != "#")
    if not first.startswith("NRRD") or {k: fields.get(k) for k in _FORM} != _FORM:
        raise ValueError("another form")
    i, j, k = (parse_integer(word) for word in fields["sizes"].split())
    if min(i, j, k) < 1 or voxels.size != math.prod((i, j, k)):
        raise ValueError("another number of voxels")
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ _numbers(fields["space directions"], 9).reshape(3, 3).T
    affine[:3, 3] = LPS_TO_RAS @ _numbers(fields["space origin"], 3)
    array = voxels.astype(np.int16, copy=False).reshape(k, j, i).transpose()
    return Volume(array, affine, Kind.INTENSITY)


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    numbers = [parse_number(word) for word in re.findall(r"[^\s(),]+", text)]
    if len(numbers) != count:
        raise ValueError("another number of numbers")
    return np.array(numbers)
