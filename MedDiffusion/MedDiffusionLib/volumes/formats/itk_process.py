"""The reading process: ITK and GDCM where a crash, a hang or a flood costs one file.

Both are C++ that trusts what it reads; damaged content can end the process, keep it for ever, or
take all memory. They run in here, which :mod:`.itk_client` starts on first need and asks for a file
at a time. One line of JSON comes in on standard input; one line of JSON and the bytes of the voxels
go out. The process ends itself when a file takes longer than its request allows, when its memory is
used up (where the system has such a limit), on Ctrl-C, and when its standard input ends, as it does
with the process that started it. What the libraries print goes nowhere.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .content import MAX_VOXELS

if TYPE_CHECKING:
    import SimpleITK as sitk

START_SECONDS = 120.0
"""Loading the libraries takes no longer; a cold disk and an antivirus take a minute."""
_MAX_SLICE_GAP_DEVIATION = 0.25
"""Relative to the usual gap between DICOM slices; rounded positions stay below it."""
_BYTES_A_SECOND = 2**22
"""Of a file and its voxels: a machine ten times slower than a slow one is as fast."""
_LONGEST_REASON = 1000
_MEMORY, _COPIES = 2**30, 3
"""The libraries themselves, and as often as they hold the voxels at one time."""


class Refused(Exception):
    """What a file is instead of a volume: problem and remedy, as in UserError."""


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _end_after(START_SECONDS, nowhere)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    _limit(core=0)
    _reply(replies, {"ready": True})
    for line in sys.stdin.buffer:
        facts: dict[str, Any] = {}
        try:
            image = _read(json.loads(line), facts, nowhere)
        except Refused as refusal:
            _reply(replies, {"refused": refusal.args})
        except (RuntimeError, ValueError, MemoryError, TypeError) as error:
            _reply(replies, {**facts, "damaged": str(error)[:_LONGEST_REASON]})
        else:
            array = sitk.GetArrayViewFromImage(image)
            facts["dtype"], facts["shape"] = array.dtype.str, array.shape
            _reply(replies, facts, array)
            del image, array


def _read(request: dict[str, Any], facts: dict[str, Any], nowhere: int) -> sitk.Image:
    """The image of a request: of the file ``path``, with the ``reader`` of ITK's and the bytes that
    its voxels ``need``, or of the DICOM ``series`` in a folder. ``stored`` is their size in bytes,
    ``seconds`` the time that they have beside that for their size.

    ``facts`` is filled with what is known of it, also before an exception.
    """

    def allow(needed: int) -> None:
        size = request["stored"] + needed
        _end_after(request["seconds"] + size / _BYTES_A_SECOND, nowhere)
        _limit(memory=_MEMORY + _COPIES * size)

    allow(0)
    if "series" in request:
        image = _read_series(request["series"], allow)
        facts.update(_geometry(image), components=image.GetNumberOfComponentsPerPixel())
        return image
    reader = _reader(request["path"], request["reader"])
    facts.update(_geometry(reader), components=reader.GetNumberOfComponents())
    if _voxel_bytes(reader) != request["needed"]:
        raise ValueError("the header can be read in several ways")
    allow(request["needed"])
    return reader.Execute()


def _geometry(image: sitk.Image | sitk.ImageFileReader) -> dict[str, Any]:
    return {
        "size": image.GetSize(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }


def _reader(path: str, name: str = "") -> sitk.ImageFileReader:
    """A reader that has read a file's header."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(name)
    reader.SetFileName(path)
    reader.ReadImageInformation()
    return reader


def _voxel_bytes(reader: sitk.ImageFileReader) -> int:
    import SimpleITK as sitk

    components = reader.GetNumberOfComponents()
    one = sitk.Image([1, 1], reader.GetPixelID(), components if components > 1 else 0)
    return math.prod(reader.GetSize()) * int(sitk.GetArrayViewFromImage(one).nbytes)


def _read_series(folder: str, allow: Callable[[int], None]) -> sitk.Image:
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder)
    if not series:
        raise Refused("is a folder without a DICOM series", "give an image file")
    if len(series) > 1:
        raise Refused(
            f"holds {len(series)} DICOM series", "put the one to use into a folder of its own"
        )
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series[0])
    first = _reader(names[0], "GDCMImageIO")
    if first.GetNumberOfComponents() > 1:
        raise Refused("is a series of colour pictures", "give one of grey values")
    if math.prod(first.GetSize()) * len(names) > MAX_VOXELS:
        raise Refused(
            f"is too large (more than {MAX_VOXELS:,} voxels)",
            "crop it to the region of interest or resample it",
        )
    allow(_voxel_bytes(first) * len(names))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    # Else a tilted gantry's slices would be stacked upright.
    reader.ForceOrthogonalDirectionOff()
    image = reader.Execute()
    if len(names) > 1:
        _check_slices(reader, len(names))
    return image


def _check_slices(reader: sitk.ImageSeriesReader, count: int) -> None:
    """Slices must be evenly spaced: SimpleITK takes their mean distance whatever is missing."""
    try:
        places = [reader.GetMetaData(n, "0020|0032").split("\\") for n in range(count)]
    except RuntimeError as error:
        raise Refused(
            "has slices without a position", "it is no DICOM series of a volume"
        ) from error
    gaps = np.linalg.norm(np.diff(np.array(places, float), axis=0), axis=1)
    usual = np.median(gaps)
    if usual == 0 or not np.abs(gaps - usual).max() <= _MAX_SLICE_GAP_DEVIATION * usual:
        raise Refused(
            "has missing, doubled or unevenly spaced slices",
            "complete the series, or resample it and save it as one file",
        )


def _end_after(seconds: float, nowhere: int) -> None:
    """End this process, whatever it is doing, unless it is asked again or done by then."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)


def _limit(memory: int | None = None, core: int | None = None) -> None:
    """Bound this process's memory, or what it leaves when it crashes, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, core)):
        if value is not None:
            most = resource.getrlimit(kind)[1]
            within = value if most == resource.RLIM_INFINITY else min(value, most)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (within, most))


def _reply(replies: IO[bytes], facts: dict[str, Any], array: NDArray | None = None) -> None:
    faulthandler.cancel_dump_traceback_later()
    replies.write(json.dumps(facts).encode() + b"\n")
    if array is not None:
        replies.write(memoryview(array).cast("B"))
    replies.flush()


if __name__ == "__main__":
    main()
