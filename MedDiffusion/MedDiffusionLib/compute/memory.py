"""Running out of memory, which comes in as many ways as there are allocators."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "allocate memory", "not enough memory", "alloc_cpu", "bad_alloc")
"""What the RuntimeErrors of CUDA, MPS, the CPU allocator and ITK have in common."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
