"""Keys that rate: each alone, without Ctrl or Alt, but never while somebody writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

FOCUS_CHANGED = "focusChanged(QWidget*,QWidget*)"


class Keys:
    """Shortcuts of the whole of Slicer while a study is shown, whichever view has the focus."""

    def __init__(self, parent: Any) -> None:
        """``parent`` is a widget of the panel: while it cannot be seen, no key does anything."""
        self._parent = parent
        self._shortcuts: list[Any] = []
        slicer.app.connect(FOCUS_CHANGED, self._on_focus)

    def set(self, actions: dict[str, Callable[[], None]]) -> None:
        """These keys and no others, by the names that Qt has for them."""
        self.clear()
        for key, act in actions.items():
            shortcut = qt.QShortcut(self._parent)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.setContext(qt.Qt.ApplicationShortcut)
            shortcut.setAutoRepeat(False)
            shortcut.connect("activated()", act)
            self._shortcuts.append(shortcut)
        self._on_focus()

    def take_over(self) -> None:
        """End what is being written, also in a field that was hidden meanwhile."""
        if is_written_in(qt.QApplication.focusWidget()):
            self._parent.setFocus()

    def clear(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.delete()
        self._shortcuts = []

    def close(self) -> None:
        self.clear()
        slicer.app.disconnect(FOCUS_CHANGED, self._on_focus)

    def _on_focus(self) -> None:
        writes = is_written_in(qt.QApplication.focusWidget())
        for shortcut in self._shortcuts:
            shortcut.setEnabled(not writes)


def is_written_in(widget: Any) -> bool:
    """Whether keys write into a widget (or None)."""
    kinds = (qt.QLineEdit, qt.QTextEdit, qt.QPlainTextEdit, qt.QAbstractSpinBox, qt.QComboBox)
    return isinstance(widget, kinds)
