"""Fixtures of tests on the host; a test file takes them by ``from host.fixtures import …``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
_kept: dict[str, Any] = {}


def once(name: str, make: Callable[[], T]) -> T:
    """What a process makes once, however many files share it."""
    if name not in _kept:
        _kept[name] = make()
    return _kept[name]


@pytest.fixture(scope="module")
def booted_mrml(pytestconfig: pytest.Config) -> Any:
    """MRML without Qt."""
    from host.mrml import Mrml, boot

    def start() -> Mrml:
        booted = boot()
        pytestconfig.add_cleanup(booted.close)
        return booted

    return once("mrml", start)


@pytest.fixture
def scene(booted_mrml: Any) -> Iterator[Any]:
    """The scene, empty before and after."""
    yield booted_mrml.scene
    booted_mrml.scene.Clear(0)


@pytest.fixture(scope="module")
def started_host(pytestconfig: pytest.Config) -> Any:
    from host.application import Host, start

    def begin() -> Host:
        host = start()
        pytestconfig.add_cleanup(host.close)
        return host

    return once("host", begin)


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
