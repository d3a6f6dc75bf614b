"""Small things that all sections of the panel do the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def allow(widget: Any, tip: str, refusal: str = "") -> None:
    """Enable a widget, or disable it with a tooltip that says why."""
    widget.enabled = not refusal
    widget.toolTip = refusal or tip


@contextlib.contextmanager
def silenced(widget: Any) -> Iterator[None]:
    """Change a widget without its signals: what is shown then was not chosen by the user."""
    before = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(before)


def say(label: Any, sentence: str) -> None:
    """Show a sentence in a label, which takes no room when there is nothing to say."""
    label.text = sentence
    label.setVisible(bool(sentence))
