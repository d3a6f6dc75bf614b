"""What one read of each file of a case tells: its record, which JSON can hold, and its voxels.

The check, the plan, the identity of a run and the loading of its cases all take theirs from the
record, so that no file is decoded for each of them anew; :mod:`.store` keeps it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.membership import voxels_sha256
from ...compute.errors import UserError
from ...compute.files import file_sha256
from ...volumes.formats.content import MAX_FILE_BYTES
from ...volumes.grids import GridSpec, labelled_box
from ...volumes.reading import read_image, read_label_map
from ...volumes.volume import Grid, Kind, Volume
from .cases import CaseFiles
from .findings import CaseFacts
from .label_tables import read_label_table

MOST_SAMPLES = 10_000
"""Of each case, contrast and region, for the intensity percentiles; as many as nnU-Net takes."""
_RAS = GridSpec("RAS", (1.0, 1.0, 1.0), (1, 1, 1))

Keep = Callable[[str, NDArray], None]
"""Takes an array to be kept, and a name for it."""


@dataclass(frozen=True)
class FileStamp:
    """A file as it was when it was read: what shows that it is still the same.

    ``size`` in bytes, -1 where there is no file; ``modified`` in ns; ``sha256`` in hexadecimal,
    empty where the file cannot be read, or is larger than any volume.
    """

    name: str
    size: int
    modified: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What an image or a label map holds, or why it cannot be used.

    ``problem`` is a clause whose subject is the file, empty where there is none, and ``remedy`` an
    instruction. ``size`` and ``affine`` (4 x 4, row by row) are empty where no voxel can be read;
    ``voxels`` is the SHA-256 of the voxels, whatever the file's format.
    """

    problem: str = ""
    remedy: str = ""
    size: tuple[int, ...] = ()
    affine: tuple[tuple[float, ...], ...] = ()
    voxels: str = ""
    whole_numbers: bool = False

    @property
    def grid(self) -> Grid | None:
        if not self.size:
            return None
        i, j, k = self.size
        return Grid((i, j, k), np.array(self.affine))


@dataclass(frozen=True)
class CaseRecord:
    """What is known of a case. ``digest`` is that of its files' contents, whatever their names.

    ``images`` are in the order of the contrasts; ``label_names`` those that the label map itself
    has; ``facts`` is None where the label map cannot be read.
    """

    name: str
    digest: str
    stamps: tuple[FileStamp, ...]
    images: tuple[Contents, ...]
    labels: Contents
    label_names: Mapping[int, str]
    facts: CaseFacts | None

    @property
    def is_good(self) -> bool:
        """Whether all files can be used together."""
        grid = self.labels.grid
        return grid is not None and all(
            not image.problem and image.grid is not None and image.grid.equals(grid)
            for image in self.images
        )

    def named(self, name: str, stamps: tuple[FileStamp, ...]) -> CaseRecord:
        """The record of the same contents under another name, in other files."""
        facts = self.facts and replace(self.facts, name=name)
        return replace(self, name=name, stamps=stamps, facts=facts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseRecord:
        """The inverse of :meth:`to_json`; raises KeyError, TypeError or ValueError."""
        facts = content["facts"]
        return cls(
            content["name"],
            content["digest"],
            tuple(FileStamp(**stamp) for stamp in content["stamps"]),
            tuple(_contents(image) for image in content["images"]),
            _contents(content["labels"]),
            {int(value): name for value, name in content["label_names"].items()},
            None if facts is None else _case_facts(facts),
        )


def take_stamps(case: CaseFiles, known: Sequence[FileStamp] = ()) -> tuple[FileStamp, ...]:
    """The stamps of a case's files, in their order, those of a DICOM series by name.

    A file that has the name, size and time of one of the ``known`` is not read again.
    """
    before = {(s.name, s.size, s.modified): s for s in known if s.sha256}
    return tuple(_stamp(file, before) for path in case.files for file in files_of(path))


def digest_of(stamps: Sequence[FileStamp]) -> str:
    """SHA-256 over the contents of a case's files, in their order, as hexadecimal."""
    digest = hashlib.sha256()
    for stamp in stamps:
        digest.update(bytes.fromhex(stamp.sha256))
    return digest.hexdigest()


def read_case(case: CaseFiles, stamps: tuple[FileStamp, ...], keep: Keep) -> CaseRecord:
    """Read each file of a case once; its record says what is wrong, and raises nothing for it.

    A case without a label map has one in which nothing is labelled, on the grid of its first image.

    ``keep`` receives what fits together: the label map as ``labels`` in the smallest unsigned
    type, each image as ``image0``, ``image1``, ... (float32), and ``samples0``, ...: intensities of
    evenly chosen voxels, then those of labelled ones, each :data:`MOST_SAMPLES` or as many as there
    are. Raises UserError where this machine lacks what reading takes.
    """
    labels, label_map, names = _read_labels(case)
    images = []
    for number, path in enumerate(case.images):
        contents, image = _read(path, read_image)
        images.append(contents)
        if case.labels is None and number == 0 and image is not None:
            label_map = Volume(np.zeros(image.array.shape, np.uint8), image.affine, Kind.LABEL)
            labels = Contents(size=contents.size, affine=contents.affine, whole_numbers=True)
        if image is not None and label_map is not None and image.grid.equals(label_map.grid):
            keep(f"image{number}", image.array)
            keep(f"samples{number}", _samples(image.array, label_map.array))
    facts = None
    if label_map is not None:
        facts = _facts(case.name, label_map)
        keep("labels", label_map.array)
    return CaseRecord(case.name, digest_of(stamps), stamps, tuple(images), labels, names, facts)


def _read_labels(case: CaseFiles) -> tuple[Contents, Volume | None, Mapping[int, str]]:
    """What a case's label map holds, itself and the names that it gives to labels."""
    if case.labels is None:
        return Contents(), None, {}
    labels, label_map = _read(case.labels, read_label_map)
    if label_map is None:
        return labels, None, {}
    names = {segment.value: segment.name for segment in label_map.segments}
    return labels, label_map, names or read_label_table(case.labels)


def split_samples(samples: NDArray, contents: Contents) -> tuple[NDArray, NDArray]:
    """The samples that :func:`read_case` kept of an image: of all voxels, of labelled ones."""
    count = min(int(np.prod(contents.size)), MOST_SAMPLES)
    return samples[:count], samples[count:]


def thinned(values: NDArray, most: int) -> NDArray:
    """Evenly chosen values, at most so many, as a copy: they must not keep the volume alive."""
    count = min(values.size, most)
    return values[np.arange(count) * values.size // max(count, 1)].copy()


def files_of(path: Path) -> list[Path]:
    """The files of an image: those of a DICOM series' folder, sorted, else itself."""
    try:
        return sorted(p for p in path.iterdir() if p.is_file())
    except (OSError, ValueError):
        return [path]


def _stamp(file: Path, before: Mapping[tuple[str, int, int], FileStamp]) -> FileStamp:
    try:
        status = file.stat()
    except (OSError, ValueError):
        return FileStamp(file.name, -1, 0, "")
    key = file.name, status.st_size, status.st_mtime_ns
    if status.st_size > MAX_FILE_BYTES:
        # It is refused by its size, which takes no look at all of it.
        return FileStamp(*key, "")
    return before.get(key) or FileStamp(*key, _file_sha256(file))


def _file_sha256(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError:
        return ""


def _read(path: Path, read: Callable[[Path], Volume]) -> tuple[Contents, Volume | None]:
    try:
        volume = read(path)
    except UserError as error:
        if isinstance(error.__cause__, ImportError):
            # No fault of the file, and none that a record may remember.
            raise
        return Contents(error.problem, error.remedy), None
    array = volume.array
    problem = remedy = ""
    if volume.kind is Kind.INTENSITY and array.min() == array.max():
        problem, remedy = f"has the value {array.flat[0]:g} everywhere", "replace it with the scan"
    whole = array.dtype.kind != "f" or bool((array == np.rint(array)).all())
    affine = tuple(tuple(row) for row in volume.affine.tolist())
    return Contents(problem, remedy, volume.grid.size, affine, voxels_sha256(array), whole), volume


def _facts(name: str, labels: Volume) -> CaseFacts:
    grid = labels.grid
    order = _ras_order(grid.direction)
    size, spacing = np.array(grid.size)[order], grid.spacing[order]
    low, high = np.zeros(3), size * spacing
    if labels.array.any():
        low, high = labelled_box(labels, _RAS)
    return CaseFacts(
        name,
        (int(size[0]), int(size[1]), int(size[2])),
        triple(spacing),
        triple(size * spacing),
        triple(high - low),
        {v: n for v, n in labels.label_statistics.counts.items() if v != 0},
    )


def _ras_order(direction: NDArray[np.float64]) -> list[int]:
    """Which voxel axis runs most nearly along x, y and z (RAS), each used once."""
    best = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(direction[row, axis]) for row, axis in enumerate(axes)),
    )
    return list(best)


def triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Three numbers as a tuple of Python's."""
    return float(values[0]), float(values[1]), float(values[2])


def _samples(image: NDArray, labels: NDArray) -> NDArray:
    # Where nothing is labelled all of it is what the case is of.
    parts = image.ravel(), image[labels != 0] if labels.any() else image.ravel()
    return np.concatenate([thinned(part, MOST_SAMPLES) for part in parts])


def _contents(content: Mapping[str, Any]) -> Contents:
    affine = tuple(tuple(row) for row in content["affine"])
    return Contents(**{**content, "size": tuple(content["size"]), "affine": affine})


def _case_facts(content: Mapping[str, Any]) -> CaseFacts:
    triples = {key: tuple(content[key]) for key in ("size", "spacing", "extent", "box")}
    voxels = {int(value): count for value, count in content["voxels"].items()}
    return CaseFacts(content["name"], voxels=voxels, **triples)
