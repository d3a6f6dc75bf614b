"""Where results go: every path worked out and looked at before anything is computed or made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..bundles.manifest import Channel, Manifest
from ..compute.errors import UserError
from ..compute.files import refuse_overlap
from ..compute.locks import folder_lock
from ..volumes.reading import image_files, is_series, stem
from ..volumes.volume import Kind
from ..volumes.writing import check_format, check_name, check_writable, writing
from .labels import refuse_label_map, refuse_no_label_map
from .settings import Settings

_ONE_CASE = sys.platform in ("win32", "darwin")
"""Whether the file systems of this system usually take ``A`` and ``a`` for one name."""


@dataclass(frozen=True)
class ResultFiles:
    """The files of a channel of a sample; None for what is not wanted."""

    volume: Path
    record: Path | None
    preview: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        """The record first: it vouches for the others, and tells what is missing."""
        return (path for path in (self.record, self.volume, self.preview) if path is not None)


@dataclass(frozen=True)
class Request:
    """One label map to synthesize from, or None, and where its results go: a row per sample, an
    entry for each channel that is wanted."""

    source: Path | None
    output: Path
    channels: tuple[Channel, ...]
    samples: tuple[tuple[ResultFiles, ...], ...]

    @property
    def name(self) -> str:
        """The label map's, without a path; empty where there is none."""
        return self.source.name if self.source is not None else ""

    def __iter__(self) -> Iterator[Path]:
        """All paths that may be written."""
        return (path for sample in self.samples for files in sample for path in files)


@dataclass(frozen=True)
class Plan:
    """What is to be made of a file or a folder; ``refused``: label maps of a folder that cannot be,
    whatever they hold."""

    requests: tuple[Request, ...]
    refused: tuple[UserError, ...]
    is_folder: bool
    folders: tuple[Path, ...]
    """Of the results; the last parts of these may have to be made."""

    @contextmanager
    def folders_held(self, *, shared: bool = False) -> Iterator[None]:
        """Make the folders and hold them: of a folder's results alone or ``shared``, of a single
        label map's shared. Raises UserError where they cannot be."""
        with ExitStack() as stack:
            for folder in self.folders:
                with writing(folder):
                    if self.is_folder:
                        # Another process that shards the same folder may have made it meanwhile.
                        folder.mkdir(exist_ok=True)
                    stack.enter_context(folder_lock(folder, shared=shared or not self.is_folder))
            yield


def plan_requests(
    source: Path,
    output: Path,
    preview: Path | None,
    bundle: Path,
    manifest: Manifest,
    settings: Settings,
    *,
    channel: str | None = None,
    with_records: bool = True,
) -> Plan:
    """One request for a file or a DICOM series, one per label map for any other folder (results
    are ``NAME.nii.gz``).

    With a folder, ``output`` and ``preview`` are folders too, whose parents exist. ``bundle`` is
    the model's folder, ``channel`` the only one wanted. Nothing is made yet. Raises UserError when
    the settings are out of range, when source, output or preview cannot be used, and when a path
    would be written that is read, that another result has, or that no file can have.
    """
    refuse_label_map(manifest)
    channels = _wanted(manifest, channel)
    samples = settings.resolve(manifest).samples

    def request(file: Path, output: Path, preview: Path | None) -> Request:
        rows = result_files(output, preview, samples, channels, with_records=with_records)
        return Request(file, output, channels, rows)

    with _reading(source):
        if not source.exists():
            raise UserError("does not exist", "check the path", path=source)
        has_series = is_series(source)
        is_folder = source.is_dir() and not has_series
        read = [source, *(p for p in bundle.iterdir() if p.is_file())]
        if has_series:
            read += [p for p in source.iterdir() if p.is_file()]
        if is_folder:
            files = label_maps(source)
            read += files
    if not is_folder:
        _check_files(output, preview)
        requests = [request(source, output, preview)]
        folders = [path.parent for path in (output, preview) if path is not None]
    else:
        folders = [folder for folder in (output, preview) if folder is not None]
        requests = [
            request(f, output / f"{name}.nii.gz", preview / f"{name}.png" if preview else None)
            for f, name in ((f, stem(f)) for f in files)
        ]
    for folder in folders:
        _check_folder(folder, may_be_made=is_folder)
    _refuse_twice(requests)
    usable, refused = [], []
    for planned in requests:
        try:
            refuse_overlap(planned, read)
            for path in planned:
                _refuse_folder(path)
        except UserError as error:
            if not is_folder:
                raise
            refused.append(error)
        else:
            usable.append(planned)
    return Plan(tuple(usable), tuple(refused), is_folder, tuple(_different(folders)))


def plan_generation(
    output: Path, preview: Path | None, bundle: Path, manifest: Manifest, settings: Settings
) -> Plan:
    """The one request of volumes without a label map; see :func:`plan_requests`."""
    refuse_no_label_map(manifest)
    samples = replace(settings, guidance=1.0).resolve(manifest).samples
    _check_files(output, preview)
    rows = result_files(output, preview, samples, manifest.channels)
    request = Request(None, output, manifest.channels, rows)
    folders = [path.parent for path in (output, preview) if path is not None]
    for folder in folders:
        _check_folder(folder, may_be_made=False)
    _refuse_twice([request])
    refuse_overlap(request, [p for p in bundle.iterdir() if p.is_file()])
    for path in request:
        _refuse_folder(path)
    return Plan((request,), (), False, tuple(_different(folders)))


def label_maps(folder: Path) -> list[Path]:
    """The image files of a folder; UserError where there is none, or two of one name."""
    files = image_files(folder)
    if not files:
        raise UserError("holds no label maps", "give a folder of image files", path=folder)
    names = [_folded(stem(p)) for p in files]
    twice = sorted({stem(p) for p in files if names.count(_folded(stem(p))) > 1})
    if twice:
        raise UserError(f"holds two label maps named {twice[0]}", "rename one", path=folder)
    return files


def result_files(
    output: Path,
    preview: Path | None,
    samples: int,
    channels: Sequence[Channel],
    *,
    with_records: bool = True,
) -> tuple[tuple[ResultFiles, ...], ...]:
    """The files of every sample (a row) and channel (an entry)."""

    def files(index: int, channel: Channel) -> ResultFiles:
        part = index, samples, channel.name, len(channels)
        volume = result_path(output, *part)
        record = provenance_path(volume) if with_records else None
        return ResultFiles(volume, record, result_path(preview, *part) if preview else None)

    return tuple(tuple(files(n, c) for c in channels) for n in range(samples))


def result_path(path: Path, index: int, samples: int, channel: str, channels: int) -> Path:
    """``out.nii.gz`` -> ``out_T1_sample-2.nii.gz``; a part is left out where there is but one."""
    name = stem(path)
    suffix = path.name[len(name) :]
    if channels > 1:
        name += f"_{channel}"
    if samples > 1:
        name += f"_sample-{index + 1}"
    return path.with_name(name + suffix)


def provenance_path(volume_path: Path) -> Path:
    """The record beside a volume: ``out.nii.gz`` -> ``out.json``."""
    return volume_path.with_name(stem(volume_path) + ".json")


def _wanted(manifest: Manifest, channel: str | None) -> tuple[Channel, ...]:
    wanted = tuple(c for c in manifest.channels if channel in (None, c.name))
    if not wanted:
        names = ", ".join(c.name for c in manifest.channels)
        raise UserError(f"{manifest.name} has no contrast {channel}", f"use {names}")
    return wanted


def _check_files(output: Path, preview: Path | None) -> None:
    """Raise UserError unless a volume and a preview can have these names."""
    check_name(output)
    if output.is_dir():
        raise UserError("is a folder", "give the name of the volume file to write", path=output)
    check_format(output, Kind.INTENSITY)
    if preview is not None and preview.suffix.lower() != ".png":
        raise UserError("is not a .png file name", "previews are PNG pictures", path=preview)


def _refuse_folder(path: Path) -> None:
    """Raise UserError where a result would be written over a folder, or can have no such name."""
    check_name(path)
    if path.is_dir():
        raise UserError("is a folder", "choose another name", path=path)


def _check_folder(folder: Path, *, may_be_made: bool) -> None:
    """Raise UserError unless the folder, or where it may be made its parent, can be written."""
    if may_be_made and not folder.is_dir():
        if folder.exists():
            raise UserError("is a file", "with a folder of label maps, give a folder", path=folder)
        check_writable(folder)
    else:
        check_writable(folder / "a")


def _refuse_twice(requests: Sequence[Request]) -> None:
    """Raise UserError where two results would go to one file."""
    seen: set[str] = set()
    for path in (path for request in requests for path in request):
        name = _folded(str(path.absolute()))
        if name in seen:
            raise UserError("would be written twice", "rename the label maps", path=path)
        seen.add(name)


def _different(folders: Sequence[Path]) -> list[Path]:
    """The folders without repetition, whatever they are called."""
    return list({os.path.realpath(folder): folder for folder in folders}.values())


def _folded(name: str) -> str:
    return name.casefold() if _ONE_CASE else name


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "check the path and its permissions", path=source
        ) from error
