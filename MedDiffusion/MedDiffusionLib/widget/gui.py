"""Small things that all sections of the panel do the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import qt
import slicer

from .presenters.control import Control
from .wording import plain, tip

RICH = ("modelCard", "modelDetails", "planLabel")
"""The labels whose presenter makes rich text, and escapes what comes from files."""


def plain_labels(ui: Any) -> None:
    """No label of the form but these reads its text as rich text: it may come from a file."""
    for name, widget in vars(ui).items():
        if isinstance(widget, qt.QLabel) and name not in RICH:
            widget.textFormat = qt.Qt.PlainText


def plain_label(text: str) -> Any:
    """A label of its own that shows a text as it is."""
    label = qt.QLabel(plain(text))
    label.textFormat = qt.Qt.PlainText
    return label


def show_control(widget: Any, control: Control) -> None:
    """Let a widget look as a presenter says."""
    widget.enabled = control.enabled
    widget.toolTip = tip(control.tooltip)
    if control.text:
        widget.text = plain(control.text)


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
    label.text = plain(sentence)
    label.setVisible(bool(sentence))


def agrees(question: str) -> bool:
    """Whether the user agrees, once asked."""
    return bool(slicer.util.confirmOkCancelDisplay(tip(question)))


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """While this lasts, the cursor says that Slicer is busy."""
    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()
