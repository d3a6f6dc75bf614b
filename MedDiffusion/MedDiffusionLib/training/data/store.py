"""The folder ``cases`` in a run's output: what is known of its cases, and their voxels.

``fingerprint.json`` holds a record a case. Each case has a folder, named by the digest of its
files, so that renaming a case or moving the data loses nothing: the label map as it was read; the
images as they were read, until they are prepared for a plan; then what training draws samples
from. Voxels are ``.npy`` files that all processes of a run map into memory, each for as long as it
looks at them. They are removed once the bundle is written, since a model is passed on and must not
carry patients' scans; the fingerprint stays, with its digests and statistics. A run that goes on
after that reads its files anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...bundles.manifest import Manifest
from ...compute.errors import UserError
from ...compute.files import atomic, write_json
from ...compute.locks import remove_temporaries
from ...compute.parsing import read_json
from ...compute.version import __version__
from ...volumes.volume import Grid, Kind, Volume
from .cases import CaseFiles
from .fingerprint import CaseRecord, FileStamp, digest_of, read_case, split_samples, take_stamps
from .loaded_cases import Case, StoredCase, make_case

FOLDER_NAME = "cases"
FINGERPRINT_NAME = "fingerprint.json"
_PREPARED_NAME = "prepared.json"
VIEWS_NAME = "views.json"
"""Vouches for the latents of a prepared case: see :mod:`.latents`."""
_VERSION = 1
_MOST_BYTES = 2**30
_PAUSE = 5.0
"""Seconds between two writings of the fingerprint: what a crash may lose is read again."""


class CaseStore:
    """The cases of an output folder; see the module. Nothing is written before it is needed.

    One process of a run writes; the others may open what it has prepared and saved.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / FOLDER_NAME
        self._records = _read_fingerprint(self.folder / FINGERPRINT_NAME)
        self._saved = time.monotonic()

    def record(self, case: CaseFiles) -> CaseRecord:
        """What is known of a case. Its files are decoded only where they are new or have changed.

        A file of the same name, size and time is not even hashed; with another time, or in another
        place, the digest of its contents decides. Raises UserError where the folder cannot be
        written.
        """
        known = self._records.get(case.name)
        stamps = take_stamps(case, known.stamps if known else ())
        if known and known.stamps == stamps and (not known.is_good or self._has_voxels(known)):
            return known
        digest = digest_of(stamps)
        twin = next((r for r in self._records.values() if self._is_of(r, digest, case)), None)
        record = twin.named(case.name, stamps) if twin else self._read(case, stamps)
        self._records[case.name] = record
        if known and known.digest not in {r.digest for r in self._records.values()}:
            shutil.rmtree(self._folder(known), ignore_errors=True)
        if time.monotonic() - self._saved > _PAUSE:
            self.save()
        return record

    def save(self) -> None:
        """Write the fingerprint; raises UserError where that is not possible."""
        content = {
            "version": _VERSION,
            "meddiffusion": __version__,
            "cases": [record.to_json() for record in self._records.values()],
        }
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / FINGERPRINT_NAME, content)
        self._saved = time.monotonic()

    def samples(self, record: CaseRecord, image: int) -> tuple[NDArray, NDArray]:
        """Intensities of a good case's image: of evenly chosen voxels, and of labelled ones."""
        samples = np.load(self._folder(record) / f"samples{image}.npy")
        return split_samples(samples, record.images[image])

    def label_map(self, case: CaseFiles) -> Volume:
        """The label map of a case that was prepared, int32, as its file has it."""
        record = self._records[case.name]
        array = np.load(self._folder(record) / "labels.npy").astype(np.int32)
        return Volume(array, np.array(record.labels.affine), Kind.LABEL)

    def images(self, cases: Iterable[CaseFiles]) -> list[str]:
        """The digests of the voxels of all images of cases that were recorded."""
        records = [self._records[case.name] for case in cases]
        return [image.voxels for record in records for image in record.images]

    def prepare(self, case: CaseFiles, manifest: Manifest) -> StoredCase:
        """Prepare a case for a plan as :func:`make_case` does; the images as read are removed.

        Raises UserError where the case does not fit the plan, or cannot be used.
        """
        record = self.record(case)
        _check_fits(case, record, manifest)
        key, folder = _key(manifest), self._folder(record)
        if not _is_prepared(folder, key):
            if not (folder / "image0.npy").is_file():
                # They were prepared for another plan.
                self._read(case, record.stamps)
            images = [self._image(record, number) for number in range(len(record.images))]
            made = make_case(
                case.name, images, self.label_map(case), manifest.grid,
                [label.value for label in manifest.labels], manifest.intensity,
            )  # fmt: skip
            self._write_prepared(folder, key, made)
        for path in folder.glob("image*.npy"):
            path.unlink()
        return self.prepared(case, manifest)

    def prepared(self, case: CaseFiles, manifest: Manifest) -> StoredCase:
        """A case that was prepared; raises UserError where this process cannot see it."""
        record = self._records.get(case.name)
        if record is None or not _is_prepared(self._folder(record), _key(manifest)):
            raise UserError(
                f"lacks the case {case.name}, which the main process has prepared there",
                "use an output folder that all processes see",
                path=self.folder,
            )
        folder = self._folder(record)
        content = read_json(folder / _PREPARED_NAME)
        return StoredCase(
            case.name, folder, len(record.images), np.array(content["scan"]),
            np.array(content["labels"]), np.array(content["annotated"], bool),
            Grid(manifest.grid.size, np.array(content["fov"])),
        )  # fmt: skip

    def clear_half_written(self) -> None:
        """Remove what a killed process left half written."""
        for folder in (self.folder, *self._case_folders()):
            with contextlib.suppress(FileNotFoundError):
                remove_temporaries(folder)

    def remove_voxels(self) -> None:
        """Remove all voxels; the fingerprint stays."""
        for folder in self._case_folders():
            shutil.rmtree(folder, ignore_errors=True)

    def _case_folders(self) -> list[Path]:
        """What was made here: the user's own files may lie in a folder of this name."""
        return [
            folder
            for folder in self.folder.glob("*")
            if re.fullmatch("[0-9a-f]{64}", folder.name) and folder.is_dir()
        ]

    def _is_of(self, record: CaseRecord, digest: str, case: CaseFiles) -> bool:
        """Whether a record is of these contents; a bad one is not, so that it is tried again."""
        same = record.digest == digest and len(record.images) == len(case.images)
        return same and record.is_good and self._has_voxels(record)

    def _has_voxels(self, record: CaseRecord) -> bool:
        folder = self._folder(record)
        needed = ["labels", *(f"samples{number}" for number in range(len(record.images)))]
        if not all((folder / f"{name}.npy").is_file() for name in needed):
            return False
        last_image = folder / f"image{len(record.images) - 1}.npy"
        return last_image.is_file() or (folder / _PREPARED_NAME).is_file()

    def _folder(self, record: CaseRecord) -> Path:
        return self.folder / record.digest

    def _read(self, case: CaseFiles, stamps: tuple[FileStamp, ...]) -> CaseRecord:
        folder = self.folder / digest_of(stamps)

        def keep(name: str, array: NDArray) -> None:
            with writing(self.folder):
                write_array(folder, name, array)

        record = read_case(case, stamps, keep)
        if not record.is_good:
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def _image(self, record: CaseRecord, number: int) -> Volume:
        array = np.load(self._folder(record) / f"image{number}.npy", mmap_mode="r")
        return Volume(array, np.array(record.images[number].affine), Kind.INTENSITY)

    def _write_prepared(self, folder: Path, key: str, case: Case) -> None:
        with writing(self.folder):
            # First the description goes, which vouches for the arrays, and last it comes back.
            for name in (_PREPARED_NAME, VIEWS_NAME):
                (folder / name).unlink(missing_ok=True)
            for number, (image, spline) in enumerate(
                zip(case.images, case.coefficients, strict=True)
            ):
                write_array(folder, f"scan{number}", image.array)
                write_array(folder, f"spline{number}", spline.array)
            write_array(folder, "indices", case.labels.array)
            content = {
                "key": key,
                "scan": case.scan.affine.tolist(),
                "labels": case.labels.affine.tolist(),
                "annotated": case.annotated.tolist(),
                "fov": case.fov.affine.tolist(),
            }
            write_json(folder / _PREPARED_NAME, content)


def is_fingerprint(path: Path) -> bool:
    """Whether a file is a fingerprint, of any version of MedDiffusion."""
    try:
        content = read_json(path, _MOST_BYTES)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() == {"version", "meddiffusion", "cases"}


def _read_fingerprint(path: Path) -> dict[str, CaseRecord]:
    """The records of an earlier run; none where there is none that this version can use.

    Another version might read files that this one refused, or the other way round.
    """
    try:
        content = read_json(path, _MOST_BYTES)
        if (content["version"], content["meddiffusion"]) != (_VERSION, __version__):
            return {}
        records = [CaseRecord.from_json(case) for case in content["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {record.name: record for record in records}


def _check_fits(case: CaseFiles, record: CaseRecord, manifest: Manifest) -> None:
    """Raises UserError where a case is not one of this plan."""
    if len(case.images) != len(manifest.channels):
        raise UserError(
            f"Case {case.name} has {len(case.images)} images and the model "
            f"{len(manifest.channels)} channels",
            "add or remove contrasts, or leave the case out",
        )
    grid = record.labels.grid
    for path, contents in zip((*case.images, case.labels), (*record.images, record.labels),
                              strict=True):  # fmt: skip
        if contents.problem:
            raise UserError(contents.problem, contents.remedy, path=path)
        if grid and contents.grid and not contents.grid.equals(grid):
            raise UserError(
                f"lies on another grid than {path}",
                "resample one onto the other",
                path=case.labels,
            )
    values = record.facts.voxels if record.facts else {}
    if unknown := sorted(set(values) - {label.value for label in manifest.labels}):
        raise UserError(
            f"has the values {unknown} that the preset does not name",
            "add them to the preset's labels, or set them to 0",
            path=case.labels,
        )


def _key(manifest: Manifest) -> str:
    """What prepared arrays depend on besides their files, as a digest."""
    grid = manifest.grid
    content = [
        grid.orientation, grid.spacing, grid.size, asdict(manifest.intensity),
        [label.value for label in manifest.labels],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_prepared(folder: Path, key: str) -> bool:
    try:
        content = read_json(folder / _PREPARED_NAME)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("key") == key


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise UserError where nothing can be written into a folder of cases, or there is no room."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "choose an output folder in which you may write, with room for the cases",
            path=folder,
        ) from error


def write_array(folder: Path, name: str, array: NDArray) -> None:
    """Write ``name.npy``, whole or not at all; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / f"{name}.npy") as temporary:
        np.save(temporary, array)
