"""Keys that rate: each alone, without Ctrl or Alt, but never while somebody writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

FOCUS_CHANGED = "focusChanged(QWidget*,QWidget*)"


class Keys:
    """Shortcuts of the whole of Slicer while a study is shown, whichever view has the focus."""

    def __init__(self, parent: Any) -> None:
        """``parent`` is a widget of the panel: while it cannot be seen, no key does anything."""
        self._parent = parent
        self._shortcuts: dict[str, Any] = {}
        self._actions: dict[str, Callable[[], None]] = {}
        slicer.app.connect(FOCUS_CHANGED, self._on_focus)

    def set(self, actions: Mapping[str, Callable[[], None]]) -> None:
        """These keys and no others, by the names that Qt has for them."""
        self._actions = dict(actions)
        for key in self._shortcuts.keys() - actions.keys():
            shortcut = self._shortcuts.pop(key)
            shortcut.setEnabled(False)
            # Not at once: it may be the one whose key was pressed just now.
            shortcut.deleteLater()
        for key in actions.keys() - self._shortcuts.keys():
            self._shortcuts[key] = self._shortcut(key)
        self._on_focus()

    def take_over(self) -> None:
        """End what is being written, also in a field that was hidden meanwhile."""
        if is_written_in(qt.QApplication.focusWidget()):
            self._parent.setFocus()

    def close(self) -> None:
        self.set({})
        slicer.app.disconnect(FOCUS_CHANGED, self._on_focus)

    def _shortcut(self, key: str) -> Any:
        shortcut = qt.QShortcut(self._parent)
        shortcut.setKey(qt.QKeySequence(key))
        shortcut.setContext(qt.Qt.ApplicationShortcut)
        shortcut.setAutoRepeat(False)
        shortcut.connect("activated()", lambda: self._actions[key]())
        return shortcut

    def _on_focus(self) -> None:
        writes = is_written_in(qt.QApplication.focusWidget())
        for shortcut in self._shortcuts.values():
            shortcut.setEnabled(not writes)


def is_written_in(widget: Any) -> bool:
    """Whether keys write into a widget (or None)."""
    kinds = (qt.QLineEdit, qt.QTextEdit, qt.QPlainTextEdit, qt.QAbstractSpinBox, qt.QComboBox)
    return isinstance(widget, kinds)
