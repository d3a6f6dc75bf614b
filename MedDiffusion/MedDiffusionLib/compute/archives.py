"""PyTorch checkpoints (the zip files that ``torch.save`` writes) read as data: nothing is executed.

:func:`read_archive` checks the whole file and gives its content with a reference in place of each
tensor; :meth:`StoredTensor.load` then reads that tensor alone.
"""

from __future__ import annotations

import io
import math
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from .errors import UserError
from .files import open_regular
from .parsing import shortened
from .pickles import MOST_BYTES, STORAGES, Name, unpickle
from .pickles import Record as Record
from .zip_records import ZipRecord, read_records

_MOST_AXES = 8
_LONGEST_AXIS = 2**31
_OTHER_KINDS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"7z\xbc\xaf": "a 7z file",
}
_SAVE_ANEW = (
    "open it with torch.load in the Python where it was made, save it with torch.save of PyTorch "
    "1.6 or later, and import that file"
)


@dataclass(frozen=True)
class _Storage:
    """Numbers of one type in one record of the file."""

    record: ZipRecord
    dtype: torch.dtype
    count: int


class StoredTensor:
    """A tensor in the file: shape and type are known, its numbers are read by :meth:`load`."""

    def __init__(
        self,
        archive: _Reader,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
    ) -> None:
        self.shape = torch.Size(shape)
        self._archive = archive
        self._storage = storage
        self._offset = offset
        self._stride = stride

    @property
    def dtype(self) -> torch.dtype:
        return self._storage.dtype

    def load(self) -> Tensor:
        """The tensor, on the CPU; tensors of one storage share it while one of them is alive.

        Raises UserError where the file is not what it was.
        """
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        base = self._archive.load(self._storage)
        return torch.as_strided(base, self.shape, self._stride, self._offset)


@dataclass(frozen=True)
class Archive:
    """A checkpoint: plain content with :class:`StoredTensor` and :class:`.pickles.Record` in it."""

    path: Path
    content: Any


def read_archive(path: Path) -> Archive:
    """Check a checkpoint and read its content, without the numbers of its tensors.

    Raises UserError for a file that is no checkpoint, is of another kind, is damaged, or would
    have something executed. Memory is bounded by the size of the file's pickle.
    """
    try:
        with open_regular(path) as file:
            start = file.read(512)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not start.startswith(b"PK\x03\x04"):
        raise _other_kind(path, start)
    try:
        return Archive(path, _Reader(path).content())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise UserError(
            f"is no checkpoint that can be read safely ({error})",
            "get the file anew from where it was published",
            path=path,
        ) from error


class _Reader:
    """The records of a file: content and storages."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records, self._root = _checkpoint_records(
            read_records(path, partial(_refuse_script, path))
        )
        self._storages: dict[str, _Storage] = {}
        self._loaded: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()

    def content(self) -> Any:
        """The content of the pickle; raises ValueError with a clause."""
        if self._small("version").strip() != b"3":
            raise ValueError("its record version is not 3")
        if "byteorder" in self._records and self._small("byteorder").strip() != b"little":
            raise ValueError("its numbers are not little-endian")
        pickle = self._records["data.pkl"]
        if pickle.size > MOST_BYTES:
            raise ValueError(f"its data.pkl has more than {MOST_BYTES:,} bytes")
        with open_regular(self._path) as file:
            data = bytes(pickle.read(file))
        try:
            return unpickle(data, _Storage, self._find, self._make)
        except ValueError as error:
            raise ValueError(f"of its data.pkl: {error}") from error

    def load(self, storage: _Storage) -> Tensor:
        """A storage's numbers; read once while they are in use."""
        found = self._loaded.get(storage.record.name)
        if found is not None:
            return found
        numbers = torch.empty(storage.count, dtype=storage.dtype)
        buffer = memoryview(numbers.view(torch.uint8).numpy())
        try:
            with open_regular(self._path) as file:
                file.seek(storage.record.start)
                whole = cast(io.BufferedReader, file).readinto(buffer) == len(buffer)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if not whole or zlib.crc32(buffer) != storage.record.crc:
            raise UserError("has changed while it was read", "import it again", path=self._path)
        if storage.dtype == torch.bool:
            numbers = numbers.view(torch.uint8) != 0
        self._loaded[storage.record.name] = numbers
        return numbers

    def _small(self, name: str) -> bytes:
        record = self._records.get(name)
        if record is None or record.size > 16:
            raise ValueError(f"its record {name} is missing or too large")
        with open_regular(self._path) as file:
            return bytes(record.read(file))

    def _find(self, kind: Name, key: str, count: int) -> _Storage:
        dtype: torch.dtype = getattr(torch, STORAGES[kind.name])
        record = self._records.get(f"data/{key}")
        if record is None:
            raise ValueError(f"its storage {shortened(key)} is not in the file")
        if record.size != count * dtype.itemsize:
            raise ValueError(
                f"its storage {key} has {record.size:,} bytes, and {shortened(str(count))} numbers "
                f"of {dtype.itemsize} bytes are declared"
            )
        storage = self._storages.setdefault(key, _Storage(record, dtype, count))
        if storage.dtype != dtype:
            raise ValueError(f"its storage {key} is declared with two types")
        return storage

    def _make(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> StoredTensor:
        if len(shape) != len(stride) or len(shape) > _MOST_AXES:
            raise ValueError("a tensor has axes in an unusual number")
        if min((offset, *shape, *stride)) < 0:
            raise ValueError("a tensor has a negative size, stride or offset")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        # A tensor that repeats its storage would be larger than what the file holds.
        fits = last < storage.count and math.prod(shape) <= storage.count
        if max((0, *shape)) > _LONGEST_AXIS or not (fits or 0 in shape):
            raise ValueError("a tensor is larger than its storage")
        return StoredTensor(self, storage, offset, shape, stride)


def _checkpoint_records(records: list[ZipRecord]) -> tuple[dict[str, ZipRecord], str]:
    """The records by their names within the root, and the root; raises as its caller does."""
    roots = [r.name.removesuffix("/data.pkl") for r in records if r.name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"it has {len(roots)} records data.pkl, not one")
    root = roots[0]
    named = {}
    for record in records:
        name = record.name.removeprefix(f"{root}/")
        if name == record.name:
            raise ValueError(f"its record {shortened(name)} is outside of {shortened(root)}")
        named[name] = record
    for name in named:
        number = name.removeprefix("data/")
        known = name in ("data.pkl", "version", "byteorder") or name.startswith(".")
        if not known and (number == name or not number.isascii() or not number.isdecimal()):
            raise ValueError(f"it has a record {shortened(name)}, which no checkpoint has")
    return named, root


def _refuse_script(path: Path, names: Sequence[str]) -> None:
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise UserError(
            "is a TorchScript program, not a checkpoint",
            "save the state_dict() of torch.jit.load's result with torch.save in the Python where "
            "it was made, and import that file",
            path=path,
        )


def _other_kind(path: Path, start: bytes) -> UserError:
    """The error for a file that is no zip file, by its first bytes."""
    if start.startswith(b"\x80") or start[257:262] == b"ustar":
        return UserError(
            "is in the format of PyTorch before 1.6, which cannot be read safely",
            _SAVE_ANEW,
            path=path,
        )
    if not start:
        kind = "is empty"
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**27:
        kind = "is a safetensors file, not a checkpoint that torch.save wrote"
    else:
        kinds = (kind for mark, kind in _OTHER_KINDS.items() if start.startswith(mark))
        kind = f"is {next(kinds, 'a file of another kind')}, not a checkpoint that torch.save wrote"
    return UserError(kind, "choose a checkpoint, a .pt, .pth or .ckpt file", path=path)


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot be read ({error.strerror or error})", "see to the file and its folder", path=path
    )
