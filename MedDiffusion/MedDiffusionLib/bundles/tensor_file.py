"""Writes weights as a safetensors file, one tensor in memory after the other.

The library's own ``save`` holds the file as a whole, beside the tensors that it is made of; the
bytes are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

_NAMES = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""The types, in the order in which the library writes them: what is wide stays aligned."""
_ALIGNED = 8
"""Bytes of which the header's length is a multiple."""


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], stored: Mapping[str, torch.dtype]
) -> None:
    """Write tensors, each in its ``stored`` type, by that type and then by name.

    Raises OSError.
    """
    order = list(_NAMES)
    names = sorted(tensors, key=lambda name: (order.index(stored[name]), name))
    header: dict[str, object] = {}
    end = 0
    for name in names:
        shape, kind = list(tensors[name].shape), stored[name]
        start, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        tensor = tensors[name].detach().to("cpu", stored[name]).contiguous()
        file.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
