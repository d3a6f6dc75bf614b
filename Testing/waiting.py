"""Waiting for what the host's event loop brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 600.0
"""Seconds that anything may take, on whatever machine: only what never happens takes them."""


def wait(
    host: Any, until: Callable[[], bool], seen: Callable[[], object] = lambda: "nothing to tell"
) -> None:
    """Let Slicer work until something is so; ``seen`` says what there was where it never is."""
    give_up = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < give_up, f"it did not happen; seen: {seen()}"
        host.process_events(5)
