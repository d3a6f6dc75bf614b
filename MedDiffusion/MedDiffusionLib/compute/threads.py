"""How torch's threads wait for each other on a CPU."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPIN = {"GOMP_SPINCOUNT": "12000", "KMP_BLOCKTIME": "1"}
"""A short spin, then sleep. GNU's OpenMP (torch on Linux) counts turns, of which a default spin
has 300,000; Intel's and LLVM's (Windows, macOS) count milliseconds, 200 by default."""
SETTINGS = (*SPIN, "OMP_WAIT_POLICY", "KMP_LIBRARY")
"""Where one of these is set, the user has chosen how threads wait."""


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait for others soon sleep, in this process or in one with ``environment``.

    By default they spin for some milliseconds at the end of every parallel loop. A small 3D network
    has thousands of those, and where other programs use the CPU too, the spinning keeps the very
    threads that are waited for from running. Sleeping at once (OMP_WAIT_POLICY=PASSIVE) would cost
    a fifth on an idle CPU; benchmarks/threads.py measures what a short spin costs. OpenMP reads the
    setting once: call this before torch is loaded. Processes started from this one inherit it.
    """
    if not any(name in environment for name in SETTINGS):
        environment.update(SPIN)
