"""Fixtures of tests on the host; a test file takes them by ``from host.fixtures import …``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def booted_mrml() -> Iterator[Any]:
    """MRML without Qt."""
    from host.mrml import boot

    booted = boot()
    yield booted
    booted.close()


@pytest.fixture
def scene(booted_mrml: Any) -> Iterator[Any]:
    """The scene, empty before and after."""
    yield booted_mrml.scene
    booted_mrml.scene.Clear(0)


@pytest.fixture(scope="module")
def started_host() -> Iterator[Any]:
    from host.application import start

    host = start()
    yield host
    host.close()


@pytest.fixture
def host(started_host: Any) -> Iterator[Any]:
    """The application; a test fails if an exception was swallowed anywhere, or a dialog shown.

    A test that expects one clears ``host.errors`` or ``host.dialogs.shown``.
    """
    from host import dialogs, packages

    started_host.errors.clear()
    dialogs.clear()
    packages.requested.clear()
    yield started_host
    started_host.process_events()
    started_host.scene.Clear(0)
    assert started_host.errors == [], "".join(started_host.errors)
    assert dialogs.shown == []
