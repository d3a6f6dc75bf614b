"""A model as one zip file: what is passed on is the model and nothing else of its folder.

Writing is deterministic: the same model gives the same bytes. Reading trusts nothing: not names,
not sizes, not what the zip says of itself. Needs neither torch nor safetensors.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ..compute.errors import UserError
from ..compute.files import atomic, open_regular, refuse_existing, refuse_overlap
from ..compute.parsing import shortened
from ..compute.zip_records import DAMAGE, ENCRYPTED, MOST_READ, Bounded
from .files import bundle_files, check_files, most_bytes
from .manifest import MOST_MANIFEST_BYTES, Manifest, parse_manifest, read_manifest
from .names import MANIFEST_NAME, SHAPE_MODEL_NAME, TEXT_NAMES, WEIGHTS_NAME

SUFFIX = ".zip"
_KNOWN = (MANIFEST_NAME, WEIGHTS_NAME, SHAPE_MODEL_NAME, *TEXT_NAMES)
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3


def export_bundle(folder: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write the model's files, and only these, to a zip file that :func:`.import_bundle` takes.

    The zip appears whole or not at all. Raises UserError where the bundle is not whole, or the
    file exists and ``overwrite`` is false, or cannot be written.
    """
    if target.suffix.lower() != SUFFIX:
        raise UserError(f"is no name of a {SUFFIX} file", "choose one", path=target)
    if not overwrite:
        refuse_existing([target])
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    names = bundle_files(folder, manifest)
    refuse_overlap([target], [folder / name for name in names])
    try:
        with atomic(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in names:
                _add(archive, folder / name, f"{manifest.name}/{name}")
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "choose a folder in which you may write, with room for the model",
            path=target,
        ) from error


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = _UNIX, _MODE
    entry.file_size = path.stat().st_size
    with open_regular(path) as file, archive.open(entry, "w") as member:
        shutil.copyfileobj(file, member, MOST_READ)


class ModelZip:
    """A zip file that holds a model; see :func:`open_zip`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._entries = _model_entries(path, archive.infolist())
        if lacking := [name for name in _KNOWN[:2] if name not in self._entries]:
            raise _refused(path, f"holds no whole model (it has no {', '.join(lacking)})")
        content = self._read(MANIFEST_NAME)
        self.manifest: Manifest = parse_manifest(content, path / MANIFEST_NAME)

    def unpack(self, folder: Path) -> None:
        """Write the files into an empty folder; raises UserError and OSError."""
        with _sentences(self._path):
            for name, entry in self._entries.items():
                if entry.file_size > most_bytes(name, self.manifest):
                    raise _refused(self._path, f"has a {name} that is too large for its model")
                with self._archive.open(entry) as member, (folder / name).open("xb") as file:
                    shutil.copyfileobj(member, file, MOST_READ)

    def _read(self, name: str) -> bytes:
        entry = self._entries[name]
        if entry.file_size > MOST_MANIFEST_BYTES:
            raise _refused(self._path, f"has a {name} that is too large")
        return self._archive.read(entry)


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[ModelZip]:
    """Open a model's zip; raises UserError where it is none, or not safe to unpack.

    The model's files lie in it at the top or in one folder, and nothing else does. The size to
    which one is unpacked is bounded by what the manifest says of it.
    """
    with contextlib.ExitStack() as stack:
        try:
            with _sentences(path):
                # The zip module reads the directory at once, however large it says that it is.
                raw = cast(io.BufferedReader, open_regular(path)).detach()
                file = stack.enter_context(Bounded(raw))
                archive = stack.enter_context(zipfile.ZipFile(cast(BinaryIO, file)))
                opened = ModelZip(path, archive)
        except OSError as error:
            raise UserError(
                f"cannot be read ({error.strerror or error})", "check the file", path=path
            ) from error
        yield opened


def _model_entries(path: Path, found: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The entries by the names of a bundle's files; raises UserError for anything else."""
    files = [entry for entry in found if not entry.is_dir()]
    folders = {entry.filename.rpartition("/")[0] for entry in files}
    inside = folders.pop() if len(folders) == 1 else None
    if inside is None or "/" in inside:
        raise _refused(path, "does not hold a model's files in one place")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in files:
        name = entry.filename.rpartition("/")[2]
        shown = shortened(entry.filename)
        if name not in _KNOWN:
            raise _refused(path, f"holds {shown}, which is no file of a model")
        if name in entries:
            raise _refused(path, f"holds {shown} twice")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(path, f"holds {shown} as a link or a device")
        if entry.flag_bits & ENCRYPTED:
            raise _refused(path, f"holds {shown} encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(path, f"holds {shown} compressed in an unusual way")
        entries[name] = entry
    return entries


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, ValueError) as error:
        raise _refused(path, f"is no zip file that can be read ({shortened(str(error))})") from (
            error
        )


def _refused(path: Path, problem: str) -> UserError:
    return UserError(problem, "give a file that MedDiffusion has exported", path=path)
