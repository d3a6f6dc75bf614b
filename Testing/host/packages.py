"""Stands in for everything in Slicer that installs Python packages: it only writes down what."""

from __future__ import annotations

import importlib
from typing import Any

import slicer.util

requested: list[tuple[str, ...]] = []


def pip_ensure(requirements: Any, *_: Any, **__: Any) -> None:
    """Record the requirements; never install."""
    several = requirements if isinstance(requirements, list | tuple) else [requirements]
    requested.append(tuple(str(requirement) for requirement in several))


def install() -> None:
    """Replace Slicer's functions, its own files' too: a test must not change its environment."""
    packaging: Any = importlib.import_module("slicer.packaging")
    packaging.pip_ensure = packaging.pip_install = pip_ensure
    slicer.util.pip_install = pip_ensure
    slicer.util.pip_uninstall = pip_ensure
