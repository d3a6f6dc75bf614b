"""Checkpoints as ``torch.save`` writes them, good ones and a catalogue of hostile and damaged ones.

Each bad one is made of the small good one and has words that its refusal must contain.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

Records = dict[str, bytes]
Make = Callable[[Path, Path], Path]
"""Makes a bad file in a folder, from the good one."""

STEPS = 4
MARK = "EXECUTED"
"""The environment's name for the file that a payload would make."""


# ---- a small good one


def small_state(blocks: int = 1) -> OrderedDict[str, Tensor]:
    """The state dictionary of a Med-DDPM of 32 channels, one level and four steps."""
    from MedDiffusionLib.bundles.importers.med_ddpm import schedule_buffers
    from MedDiffusionLib.diffusion.networks.med_ddpm import MedDDPMUNet
    from MedDiffusionLib.diffusion.schedules import cosine_betas

    torch.manual_seed(0)
    network = MedDDPMUNet(1, 2, (1, 1, 1), 32, [1], blocks, [], -1, "kji")
    return OrderedDict(
        **schedule_buffers(cosine_betas(STEPS)),
        **{f"denoise_fn.{name}": tensor for name, tensor in network.state_dict().items()},
    )


def small_content() -> dict[str, Any]:
    state = small_state()
    return {"step": 7, "model": OrderedDict(state), "ema": state}


def write_good(path: Path) -> Path:
    torch.save(small_content(), path)
    return path


# ---- archives by hand


def records_of(path: Path) -> Records:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(records: Records | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    items = records.items() if isinstance(records, dict) else records
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in items:
            archive.writestr(name, data)
    return file.getvalue()


def name_of(records: Records, end: str) -> str:
    return next(name for name in records if name.endswith(end))


def with_pickle(data: bytes) -> Make:
    """The good file with another pickle."""

    def make(folder: Path, good: Path) -> Path:
        records = records_of(good)
        records[name_of(records, "/data.pkl")] = data
        return written(folder, zipped(records))

    return make


def with_content(change: Callable[[dict[str, Any]], Any]) -> Make:
    """Saved by torch, its content changed; what the change returns, where it returns something."""

    def make(folder: Path, good: Path) -> Path:
        content = small_content()
        changed = change(content)
        torch.save(content if changed is None else changed, folder / "bad.pt")
        return folder / "bad.pt"

    return make


def with_records(change: Callable[[Records], Any]) -> Make:
    """The good file's records changed, or replaced by what the change returns."""

    def make(folder: Path, good: Path) -> Path:
        records = records_of(good)
        changed = change(records)
        return written(folder, zipped(records if changed is None else changed))

    return make


def with_bytes(change: Callable[[bytes], bytes], name: str = "bad.pt") -> Make:
    return lambda folder, good: written(folder, change(good.read_bytes()), name)


def written(folder: Path, data: bytes, name: str = "bad.pt") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


# ---- pickles by hand


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def pickle_of(ema: bytes, step: bytes = b"K\x07") -> bytes:
    """The pickle of a checkpoint, of the opcodes that make its ``ema`` and its ``step``."""
    return b"\x80\x02}(" + text("step") + step + text("ema") + ema + b"u."


def storage(
    key: str = "0", count: int = STEPS, kind: tuple[str, str] = ("torch", "FloatStorage")
) -> bytes:
    given = group(text("storage"), name(*kind), text(key), text("cpu"), number(count))
    return given + b"Q"


def tensor(
    base: bytes | None = None,
    offset: int = 0,
    size: tuple[int, ...] = (STEPS,),
    stride: tuple[int, ...] = (1,),
) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + group(
            base or storage(),
            number(offset),
            group(*map(number, size)),
            group(*map(number, stride)),
            b"\x89",
            hooks,
        )
        + b"R"
    )


def state_of(value: bytes, key: str = "denoise_fn.input_blocks.0.0.weight") -> bytes:
    return b"}" + text(key) + value + b"s"


COMMAND = f'touch "${MARK}"'


class _Reduced:
    """Pickled as a call of os.system."""

    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


def _doubled(levels: int) -> bytes:
    """A tuple that holds the one before it twice, as often: written out it has no end."""
    made = b")q\x00"
    for level in range(levels):
        made += b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return made


def _within_itself() -> bytes:
    return b"}q\x00" + text("denoise_fn.input_blocks.0.0.weight") + b"h\x00s"


# ---- changes of a good file


def _ema(change: Callable[[dict[str, Any]], Any]) -> Make:
    def changed(content: dict[str, Any]) -> None:
        change(content["ema"])

    return with_content(changed)


def _set(key: str, value: Callable[[Tensor], Tensor]) -> Make:
    def change(state: dict[str, Any]) -> None:
        state[key] = value(state[key])

    return _ema(change)


def _flip(end: str) -> Make:
    """A byte of a record is another, its CRC is that of before."""

    def make(folder: Path, good: Path) -> Path:
        data = bytearray(good.read_bytes())
        with zipfile.ZipFile(good) as archive:
            info = archive.getinfo(name_of(records_of(good), end))
            header = good.read_bytes()[info.header_offset : info.header_offset + 30]
        lengths = struct.unpack("<HH", header[26:30])
        data[info.header_offset + 30 + sum(lengths) + info.file_size // 2] ^= 0x10
        return written(folder, bytes(data))

    return make


def _in_directory(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    """Overwrites bytes of the directory's first entry (APPNOTE.TXT, 4.3.12)."""

    def change(content: bytes) -> bytes:
        start = content.index(b"PK\x01\x02") + offset
        return content[:start] + data + content[start + len(data) :]

    return change


def _renamed(change: Callable[[str], str]) -> Make:
    return with_records(lambda records: [(change(key), data) for key, data in records.items()])


def _one_more(key: str, data: bytes = b"x") -> Make:
    return with_records(lambda records: [*records.items(), (key, data)])


def _with_nul(folder: Path, good: Path) -> Path:
    path = _one_more("good/data/9_9")(folder, good)
    return written(folder, path.read_bytes().replace(b"data/9_9", b"data/9\0009"))


def _twice(records: Records) -> list[tuple[str, bytes]]:
    return [*records.items(), (name_of(records, "/data.pkl"), pickle_of(b"}"))]


def _shorter(records: Records) -> None:
    key = name_of(records, "/data/0")
    records[key] = records[key][:-4]


def _lost(records: Records) -> None:
    del records[name_of(records, "/data/0")]


def _big_endian(records: Records) -> Records:
    return {**records, f"{next(iter(records)).partition('/')[0]}/byteorder": b"big"}


def _version(records: Records) -> None:
    records[name_of(records, "/version")] = b"99\n"


def _legacy(folder: Path, good: Path) -> Path:
    torch.save(small_content(), folder / "bad.pt", _use_new_zipfile_serialization=False)
    return folder / "bad.pt"


def _tar(folder: Path, good: Path) -> Path:
    with tarfile.open(folder / "bad.pt", "w") as archive:
        for entry in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(entry), io.BytesIO())
    return folder / "bad.pt"


def _script(folder: Path, good: Path) -> Path:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "bad.pt"))
    return folder / "bad.pt"


def _hdf5() -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(1000)


def _bomb(folder: Path, good: Path) -> Path:
    """A record that says it has 4 GB, deflated to some kilobytes."""
    records = records_of(good)
    records[name_of(records, "/data/0")] = bytes(2**24)
    return written(folder, zipped(records, zipfile.ZIP_DEFLATED))


def _other_network(folder: Path, good: Path) -> Path:
    """The MONAI variant of Medical Diffusion's network."""
    state = {"denoise_fn.inc.conv.weight": torch.zeros(8, 1, 3, 3, 3), "betas": torch.zeros(4)}
    torch.save({"step": 1, "model": state, "ema": state}, folder / "bad.pt")
    return folder / "bad.pt"


def _only_numbers(folder: Path, good: Path) -> Path:
    torch.save([torch.zeros(3)], folder / "bad.pt")
    return folder / "bad.pt"


def _autoencoder(folder: Path, good: Path) -> Path:
    state = {"encoder.conv.weight": torch.zeros(4), "post_quant.weight": torch.zeros(4)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "bad.ckpt")
    return folder / "bad.ckpt"


WEIGHT = "denoise_fn.middle_block.0.in_layers.2.weight"
LONG = "l" * 100_000

BAD: dict[str, tuple[str, Make]] = {
    # What would be executed.
    "reduce-in-ema": ("system", with_content(lambda c: c.update(ema=_Reduced()))),
    "reduce-in-step": ("system", with_content(lambda c: c.update(step=_Reduced()))),
    "reduce-beside": ("system", with_content(lambda c: c.update(scaler=_Reduced()))),
    "reduce-in-metadata": (
        "system",
        _ema(lambda state: setattr(state, "_metadata", _Reduced())),
    ),
    "reduce-in-a-weight": ("system", _ema(lambda state: state.update({WEIGHT: _Reduced()}))),
    "eval": ("eval", with_pickle(pickle_of(name("builtins", "eval") + group(text("1")) + b"R"))),
    "getattr-chain": (
        "getattr",
        with_pickle(
            pickle_of(name("builtins", "getattr") + group(name("os", "path"), text("os")) + b"R")
        ),
    ),
    "attribute-of-torch": (
        "torch.load",
        with_pickle(pickle_of(name("torch", "load") + group(text("x")) + b"R")),
    ),
    "dotted-name": (
        "torch.storage",
        with_pickle(pickle_of(name("torch", "storage._load_from_bytes"))),
    ),
    "calls-a-tensor": ("no function", with_pickle(pickle_of(tensor() + b")R"))),
    "calls-a-storage": (
        "unusual way",
        with_pickle(pickle_of(name("torch", "FloatStorage") + b")R")),
    ),
    "ordered-dict-of-something": (
        "unusual way",
        with_pickle(pickle_of(name("collections", "OrderedDict") + group(b"]") + b"R")),
    ),
    "newobj": ("subprocess", with_pickle(pickle_of(name("subprocess", "Popen") + b")\x81"))),
    "newobj-of-a-known-name": (
        "makes an object",
        with_pickle(pickle_of(name("collections", "OrderedDict") + b")\x81")),
    ),
    "newobj-ex": ("NEWOBJ_EX", with_pickle(pickle_of(b")}" + b"\x92"))),
    "inst": ("INST", with_pickle(pickle_of(b"(" + text(COMMAND) + b"iposix\nsystem\n"))),
    "obj": ("OBJ", with_pickle(pickle_of(b"(" + text(COMMAND) + b"o"))),
    "stack-global": (
        "STACK_GLOBAL",
        with_pickle(pickle_of(text("posix") + text("system") + b"\x93")),
    ),
    "extension-code": ("EXT1", with_pickle(pickle_of(b"\x82\x01"))),
    "persistent-text": ("PERSID", with_pickle(pickle_of(b"Pmodule\n"))),
    "persistent-other": (
        "persistent id",
        with_pickle(
            pickle_of(group(text("module"), text("x"), text("0"), text("cpu"), b"K\x01") + b"Q")
        ),
    ),
    "persistent-of-a-class": (
        "persistent id",
        with_pickle(pickle_of(storage(kind=("collections", "OrderedDict")))),
    ),
    "build-on-a-list": ("a state to what has none", with_pickle(pickle_of(b"]}b"))),
    "build-on-a-dict": (
        "a state to what has none",
        with_pickle(pickle_of(b"}}" + text("__class__") + b"K\x01sb")),
    ),
    "build-of-another-name": (
        "a state to what has none",
        with_pickle(
            pickle_of(name("collections", "OrderedDict") + b")R}" + text("update") + b"K\x01sb")
        ),
    ),
    "build-with-a-tuple": (
        "a state",
        with_pickle(pickle_of(name("collections", "OrderedDict") + b")R)b")),
    ),
    # Pickles that are too much, or damaged.
    "protocol-4": ("protocol 2", with_pickle(pickle.dumps({"ema": 1}, 4))),
    "protocol-0": ("protocol 2", with_pickle(pickle.dumps({"ema": 1}, 0))),
    "tuple-bomb": ("no kind", with_pickle(pickle_of(_doubled(30)))),
    "key-bomb": ("neither text", with_pickle(pickle_of(b"}" + _doubled(40) + b"K\x01s"))),
    "memo-bomb": ("damaged", with_pickle(pickle_of(b"}r" + struct.pack("<I", 2**31)))),
    "memo-of-nothing": ("damaged", with_pickle(pickle_of(b"h\x63"))),
    "deep-tuples": ("nested", with_pickle(pickle_of(b")" + b"\x85" * 50_000))),
    "within-itself": ("within itself", with_pickle(pickle_of(_within_itself()))),
    "many-opcodes": ("opcodes", with_pickle(pickle_of(b"](" + b"}" * 300_000 + b"e"))),
    "large-pickle": ("more than", with_pickle(pickle_of(text("x" * 2**23)))),
    "long-number": ("64 bits", with_pickle(pickle_of(b"\x8a\xff" + bytes(255)))),
    "huge-text": ("ends too early", with_pickle(pickle_of(b"X\xff\xff\xff\xff"))),
    "no-stop": ("ends too early", with_pickle(pickle_of(b"}")[:-1])),
    "after-the-end": ("damaged", with_pickle(pickle_of(b"}") + b"cos\nsystem\n")),
    "empty-pickle": ("ends too early", with_pickle(b"")),
    "a-key-twice": (
        "twice",
        with_pickle(pickle_of(b"}(" + text("a") + b"K\x01" + text("a") + b"K\x02u")),
    ),
    # Tensors that are not in the file.
    "storage-of-10^12": ("are declared", with_pickle(pickle_of(tensor(storage(count=10**12))))),
    "storage-of-10^30": ("64 bits", with_pickle(pickle_of(tensor(storage(count=10**30))))),
    "negative-count": ("are declared", with_pickle(pickle_of(tensor(storage(count=-1))))),
    "storage-elsewhere": ("not in the file", with_pickle(pickle_of(tensor(storage("../../x"))))),
    "storage-of-two-types": (
        "two types",
        with_pickle(pickle_of(group(storage(), storage(kind=("torch", "IntStorage"))))),
    ),
    "size-out-of-bounds": ("larger", with_pickle(pickle_of(tensor(size=(5,))))),
    "offset-out-of-bounds": ("larger", with_pickle(pickle_of(tensor(offset=4, size=(1,))))),
    "stride-out-of-bounds": ("larger", with_pickle(pickle_of(tensor(stride=(2,))))),
    "negative-stride": ("negative", with_pickle(pickle_of(tensor(stride=(-1,))))),
    "negative-offset": ("negative", with_pickle(pickle_of(tensor(offset=-1)))),
    "repeated-by-stride-0": (
        "larger",
        with_pickle(pickle_of(tensor(size=(10**9, 10**9), stride=(0, 0)))),
    ),
    "empty-but-huge": ("larger", with_pickle(pickle_of(tensor(size=(0, 10**18), stride=(1, 1))))),
    "overflowing-size": (
        "larger",
        with_pickle(pickle_of(tensor(size=(2**62, 4), stride=(2**62, 1)))),
    ),
    "too-many-axes": (
        "unusual number",
        with_pickle(pickle_of(tensor(size=(1,) * 70, stride=(1,) * 70))),
    ),
    "tensor-of-no-storage": ("unusual way", with_pickle(pickle_of(tensor(b"N")))),
    "storage-too-short": ("are declared", with_records(_shorter)),
    "storage-missing": ("not in the file", with_records(_lost)),
    # Files that are no such archive, or not whole.
    "empty-file": ("empty", with_bytes(lambda data: b"")),
    "text": ("another kind", with_bytes(lambda data: b"These are no weights.\n")),
    "html": ("another kind", with_bytes(lambda data: b"<html>404 Not found</html>")),
    "hdf5": ("HDF5", with_bytes(lambda data: _hdf5())),
    "gzip": ("gzip", with_bytes(gzip.compress)),
    "safetensors": (
        "safetensors",
        with_bytes(lambda data: save_safetensors({"a": torch.zeros(2)})),
    ),
    "legacy": ("before 1.6", _legacy),
    "tar": ("before 1.6", _tar),
    "torchscript": ("TorchScript", _script),
    "numpy": ("another kind", with_bytes(lambda data: _npy())),
    "two-pickles": ("two records of one name", with_records(_twice)),
    "two-roots": ("2 records data.pkl", _one_more("other/data.pkl", pickle_of(b"}"))),
    "no-pickle": ("0 records data.pkl", _renamed(lambda key: key.replace("data.pkl", "data.bin"))),
    "outside-of-the-root": ("outside of", _one_more("elsewhere/data/0")),
    "parent-name": ("odd name", _one_more("bad/../../x")),
    "absolute-name": ("odd name", _one_more("/etc/passwd")),
    "backslash-name": ("odd name", _one_more("bad\\x")),
    "nul-in-a-name": ("odd name", _with_nul),
    "long-name": ("odd name", _one_more(f"good/{'x' * 5000}")),
    "unknown-record": ("no checkpoint has", _one_more("good/data/x.py")),
    "deflated": ("compressed", lambda folder, good: written(folder, zipped(records_of(good), 8))),
    "bomb": ("compressed", _bomb),
    "encrypted": ("encrypted", with_bytes(_in_directory(8, b"\x01\x08"))),
    "offset-outside": ("zip file", with_bytes(_in_directory(42, b"\xff\xff\xff\x7f"))),
    "offset-elsewhere": ("where the directory says", with_bytes(_in_directory(42, b"\x07\0\0\0"))),
    "size-too-large": ("the file", with_bytes(_in_directory(20, b"\xff\xff\xff\x7f" * 2))),
    "big-endian": ("little-endian", with_records(_big_endian)),
    "other-version": ("version", with_records(_version)),
    "crc-of-the-pickle": ("CRC", _flip("/data.pkl")),
    "crc-of-a-weight": ("CRC", _flip("/data/20")),
    "cut-at-100": ("zip file", with_bytes(lambda data: data[:100])),
    "cut-in-the-middle": ("zip file", with_bytes(lambda data: data[: len(data) // 2])),
    "cut-at-the-end": ("zip file", with_bytes(lambda data: data[:-1])),
    "without-its-start": ("another kind", with_bytes(lambda data: data[100:])),
    # Checkpoints of something else, or not as they should be.
    "a-list": ("no kind", _only_numbers),
    "an-autoencoder": ("no kind", _autoencoder),
    "other-network": ("calls UNet", _other_network),
    "no-ema": ("no weights ema", with_content(lambda c: {"step": 1, "model": c["model"]})),
    "ema-of-a-number": ("no weights ema", with_content(lambda c: c.update(ema=3))),
    "step-of-text": ("training steps", with_content(lambda c: c.update(step="x"))),
    "entry-of-text": ("no tensor", _ema(lambda s: s.update({WEIGHT: "x"}))),
    "missing-weight": ("lacks", _ema(lambda s: s.pop(WEIGHT))),
    "missing-buffer": ("lacks", _ema(lambda s: s.pop("posterior_mean_coef3"))),
    "extra-weight": ("has the tensor", _ema(lambda s: s.update({"denoise_fn.x.y": s[WEIGHT]}))),
    "extra-buffer": ("has the tensor", _ema(lambda s: s.update({"more": torch.zeros(4)}))),
    "long-key": ("has the tensor", _ema(lambda s: s.update({f"denoise_fn.{LONG}": s[WEIGHT]}))),
    "wrong-shape": ("not [32, 32, 3, 3, 3]", _set(WEIGHT, lambda w: w[:, :1])),
    "no-masks": ("masks", _set("denoise_fn.input_blocks.0.0.weight", lambda w: w[:, :1])),
    "nan": ("NaN", _set(WEIGHT, lambda w: w * np.nan)),
    "infinite": ("infinite", _set(WEIGHT, lambda w: w / 0)),
    "integers": ("floating-point", _set(WEIGHT, lambda w: w.int())),
    "betas-out-of-range": ("between 0 and 1", _set("betas", lambda b: b + 1)),
    "other-schedule": ("agree", _set("alphas_cumprod", lambda b: b / 2)),
    "one-step": ("2 to 1,000 steps", _set("betas", lambda b: b[:1])),
    "schedule-of-two-lengths": ("one length", _set("alphas_cumprod", lambda b: b[:2])),
}


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(10))
    return file.getvalue()


def write_bad_files(folder: Path) -> dict[str, Path]:
    """The catalogue's files by their names, each in a folder of its own."""
    good = write_good(folder / "good.pt")
    paths = {}
    for key, (_words, make) in BAD.items():
        (folder / key).mkdir()
        with warnings.catch_warnings():
            # Of names given twice, and of TorchScript being old.
            warnings.simplefilter("ignore")
            paths[key] = make(folder / key, good)
    return paths
