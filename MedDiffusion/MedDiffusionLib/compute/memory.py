"""How much memory there is, and running out of it, in as many ways as there are allocators."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

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


def available_memory(device: torch.device) -> int | None:
    """Bytes of a device's memory that this process may still take; None where nobody tells.

    Of the main memory it is the least of what the system has free, what the process's group
    (container) may have, and what its own limit leaves.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    known = [n for n in (_system_memory(), _group_memory(), _limited_memory()) if n is not None]
    return max(0, min(known)) if known else None


def _system_memory() -> int | None:
    if sys.platform == "win32":
        return _windows_memory()
    if (free := _fields(Path("/proc/meminfo")).get("MemAvailable:")) is not None:
        return 1024 * free
    try:
        # macOS tells only what the machine has: what is in use there can mostly be put aside.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


if sys.platform == "win32":
    import ctypes

    class _MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in (
                "total", "free", "total_page", "free_page", "total_virtual", "free_virtual",
                "free_extended",
            )),
        )  # fmt: skip

    def _windows_memory() -> int | None:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return None
        return int(min(status.free, status.free_page))

else:

    def _windows_memory() -> int | None:
        return None


def _group_memory(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """What the control groups of the process leave of their limits (versions 2 and 1)."""
    free = []
    for line in _lines(own):
        _, controllers, group = line.split(":", 2)
        version_1 = "memory" in controllers.split(",")
        if not version_1 and controllers:
            continue
        base = root / "memory" if version_1 else root
        limit, used, inactive = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if version_1
            else ("memory.max", "memory.current", "inactive_file")
        )
        # Within a container a group's name may be that outside of it, and only the base is seen.
        inner = PurePosixPath(group.lstrip("/"))
        for folder in {base / part for part in (inner, *inner.parents)}:
            most, now = (next(iter(_lines(folder / name)), "") for name in (limit, used))
            if most.isdecimal() and now.isdecimal():
                cached = _fields(folder / "memory.stat").get(inactive, 0)
                free.append(int(most) - int(now) + cached)
    return min(free, default=None)


def _limited_memory() -> int | None:
    """What is left of the process's own limit of address space (``ulimit -v``)."""
    try:
        import resource
    except ImportError:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return None
    pages = next(iter(_lines(Path("/proc/self/statm"))), "0").split()[0]
    return most - int(pages) * resource.getpagesize()


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number in each line."""
    words = [line.split() for line in _lines(path)]
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
