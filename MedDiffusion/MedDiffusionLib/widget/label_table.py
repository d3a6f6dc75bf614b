"""The table that says what the labels are that the model does not know by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from ..bundles.manifest import Manifest
from ..synthesis.labels import BACKGROUND
from .fit import Fit
from .gui import silenced

MOST_ROWS = 256
"""An image taken for a label map has thousands of values: nobody wants these as rows."""


class LabelTable:
    """A row per foreign label; ``on_told`` takes the whole table after each choice."""

    def __init__(self, ui: Any, on_told: Callable[[dict[str, str]], None]) -> None:
        self._section = ui.tableSection
        self._form = ui.tableRows.layout()
        self._on_told = on_told
        self._told: dict[str, str] = {}
        self._shown: tuple[Any, ...] = ()
        self._choices: dict[str, Any] = {}
        self._section.setVisible(False)
        ui.leaveOutButton.connect("clicked(bool)", self._on_leave_out)

    def show(self, fit: Fit, manifest: Manifest | None, told: Mapping[str, str]) -> None:
        """Bring the rows up to a fit and what was told so far."""
        self._told = dict(told)
        foreign = fit.foreign if manifest and len(fit.foreign) <= MOST_ROWS else ()
        if (foreign, manifest) != self._shown:
            self._shown = (foreign, manifest)
            self._fill(foreign, [label.name for label in manifest.labels] if manifest else [])
        for text, choice in self._choices.items():
            with silenced(choice):
                choice.currentIndex = max(0, choice.findData(self._told.get(text, "")))
        self._section.setVisible(bool(foreign))

    def _fill(self, foreign: tuple[str, ...], names: list[str]) -> None:
        while self._choices:
            self._choices.popitem()
            self._form.removeRow(0)
        for text in foreign:
            choice = qt.QComboBox()
            choice.addItem(_("choose…"), "")
            choice.addItem(_("leave out"), BACKGROUND)
            for name in names:
                choice.addItem(name, name)
            choice.toolTip = _("Which label of the model {label} is.").format(label=text)
            choice.connect("currentIndexChanged(int)", lambda index, text=text: self._tell(text))
            self._form.addRow(text, choice)
            self._choices[text] = choice

    def _tell(self, text: str) -> None:
        choice = self._choices[text]
        self._on_told({**self._told, text: choice.itemData(choice.currentIndex)})

    def _on_leave_out(self) -> None:
        undecided = [t for t, choice in self._choices.items() if choice.currentIndex == 0]
        self._on_told({**self._told, **dict.fromkeys(undecided, BACKGROUND)})
