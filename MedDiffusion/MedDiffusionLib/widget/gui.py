"""Small things that all sections of the panel do the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .presenters.control import Control


def show_control(widget: Any, control: Control) -> None:
    """Let a widget look as a presenter says."""
    widget.enabled = control.enabled
    widget.toolTip = control.tooltip
    if control.text:
        widget.text = control.text


def show_controls(ui: Any, controls: Mapping[str, Control]) -> None:
    """The same for several widgets of the form, by their names."""
    for name, control in controls.items():
        show_control(getattr(ui, name), control)


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
