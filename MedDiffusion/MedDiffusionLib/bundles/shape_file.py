"""The file of a label map generator: tensors, and the grid and the labels that they are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..compute.errors import UserError
from ..compute.files import atomic, file_sha256
from ..volumes.grids import GridSpec
from .files import check_file
from .manifest import Manifest, damaged, unreadable
from .names import MANIFEST_NAME, SHAPE_MODEL_NAME

Shapes = Mapping[str, tuple[int, ...]]
Tensors = dict[str, NDArray]


def write_shape_file(
    folder: Path, tensors: Mapping[str, NDArray], spec: GridSpec, label_values: Sequence[int]
) -> str:
    """Write ``shape.safetensors`` into a bundle folder; returns its SHA-256 for the manifest."""
    path = folder / SHAPE_MODEL_NAME
    with atomic(path) as temporary:
        content = save(dict(tensors), _metadata(spec, label_values))
        temporary.write_bytes(_in_order(content))
    return file_sha256(path)


def read_shape_file(
    folder: Path,
    manifest: Manifest,
    types: Mapping[str, str],
    fits: Callable[[Shapes], bool],
    optional: Sequence[str] = (),
) -> tuple[Path, Tensors]:
    """The file's path and its tensors, all finite, read only once their shapes are right.

    ``types``: of each tensor, as safetensors calls it; ``fits`` says whether their shapes suit the
    manifest; ``optional`` tensors may be missing. Raises UserError when the file is damaged, is not
    the one that the manifest vouches for, or was fitted on another grid or to other labels.
    """
    path = folder / SHAPE_MODEL_NAME
    check_file(folder, SHAPE_MODEL_NAME, manifest)
    try:
        with safe_open(path, framework="numpy") as file:
            names = [n for n in types if n not in optional or n in file.keys()]  # noqa: SIM118
            kinds = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(kind.get_shape()) for name, kind in kinds.items()}
            if (
                file.metadata() != _metadata(manifest.grid, [la.value for la in manifest.labels])
                or [kind.get_dtype() for kind in kinds.values()] != [types[n] for n in names]
                or any(not shape for shape in shapes.values())
                or not fits(shapes)
            ):
                raise UserError(
                    f"does not fit the grid or the labels in {MANIFEST_NAME}",
                    "fit the shape model anew",
                    path=path,
                )
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise damaged(path, "it has NaN or infinite numbers")
    return path, tensors


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in any order, and the
    same model is to be the same bytes."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(start - 8) + content[start:]


def _metadata(spec: GridSpec, label_values: Sequence[int]) -> dict[str, str]:
    """What the file's header says of the grid and the labels; compared as text when loading."""
    grid = [spec.orientation, [float(s) for s in spec.spacing], [int(n) for n in spec.size]]
    return {"grid": json.dumps(grid), "labels": json.dumps([int(v) for v in label_values])}
