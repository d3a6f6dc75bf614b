"""The rows for the labels that the model does not know by themselves, as widgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt

from .gui import plain_label, silenced
from .presenters.overrides import Table, row_tip
from .wording import tip


class LabelTable:
    """A row per foreign label; ``on_overrides`` takes all the overrides after each choice."""

    def __init__(self, ui: Any, on_overrides: Callable[[dict[str, str]], None]) -> None:
        self._section = ui.tableSection
        self._form = ui.tableRows.layout()
        self._on_overrides = on_overrides
        self._overrides: dict[str, str] = {}
        self._table = Table()
        self._widgets: dict[str, Any] = {}
        self._section.setVisible(False)
        ui.leaveOutButton.connect("clicked(bool)", self._on_leave_out)

    def show(self, table: Table, overrides: Mapping[str, str]) -> None:
        """Bring the rows up to a table and to the overrides so far."""
        self._overrides = dict(overrides)
        if table != self._table:
            self._table = table
            self._fill()
        for name, widget in self._widgets.items():
            with silenced(widget):
                widget.currentIndex = table.chosen(name, overrides)
        self._section.setVisible(bool(table.names))

    def _fill(self) -> None:
        for widget in self._widgets.values():
            self._take_out(widget)
        self._widgets = {}
        for name in self._table.names:
            widget = qt.QComboBox()
            for text, choice in self._table.choices:
                widget.addItem(text, choice)
            widget.toolTip = tip(row_tip(name))
            widget.connect("currentIndexChanged(int)", lambda index, name=name: self._choose(name))
            self._form.addRow(plain_label(name), widget)
            self._widgets[name] = widget

    def _take_out(self, widget: Any) -> None:
        """Remove the first row; its widgets end later: one may be telling of a choice now."""
        label = self._form.labelForField(widget)
        for part in (label, widget):
            self._form.removeWidget(part)
            part.hide()
            part.deleteLater()
        self._form.removeRow(0)

    def _choose(self, name: str) -> None:
        widget = self._widgets[name]
        self._on_overrides({**self._overrides, name: widget.itemData(widget.currentIndex)})

    def _on_leave_out(self) -> None:
        self._on_overrides(self._table.with_the_rest_left_out(self._overrides))
