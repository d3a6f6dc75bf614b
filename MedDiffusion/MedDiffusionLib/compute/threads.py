"""How torch's threads wait for each other on a CPU, and how many cores there are."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

POLICY = "OMP_WAIT_POLICY"
CHOICE = {POLICY: "PASSIVE", "GOMP_SPINCOUNT": "2000"}
"""PASSIVE makes a waiting thread sleep, with every OpenMP runtime that torch comes with: Intel's
(Windows), LLVM's (macOS) and GNU's (Linux). With GNU's, waking it takes longer than most loops of a
small network: there it looks 2,000 times first, some microseconds, instead of 300,000 times."""
SETTINGS = (*CHOICE, "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Where one of these is set, the user has chosen how threads wait."""


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait for others sleep soon, in this process or in one with ``environment``.

    By default they spin for some milliseconds at the end of every parallel loop. A small 3D network
    has thousands of those, and where other programs use the CPU too, the spinning keeps the very
    threads that are waited for from running. OpenMP reads the setting once: call this before
    torch is loaded. Processes started from this one inherit it.
    """
    if not any(name in environment for name in SETTINGS):
        environment.update(CHOICE)


def cores() -> int:
    """How many cores this process has, where several of a run share a machine's."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (known or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
