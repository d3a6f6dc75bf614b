"""Running out of memory, which comes in as many ways as there are allocators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import UserError

_WORDS = ("out of memory", "allocate memory", "not enough memory", "alloc_cpu", "bad_alloc")
"""What the RuntimeErrors of CUDA, MPS, the CPU allocator and ITK have in common."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


@contextmanager
def out_of_memory_as_user_error() -> Iterator[None]:
    """Turn the several ways of running out of memory into one UserError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "Out of memory",
            "crop the label map to the region of interest or give it a coarser spacing, stay on "
            "the model's own grid, close other programs, or compute on the CPU if this was a GPU",
            code="out-of-memory",
        ) from error
