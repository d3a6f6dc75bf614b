"""The section Model: which model, what it does, how to get another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from ..bundles.catalog import load_manifests
from ..bundles.installing import models_folder
from ..compute.errors import UserError
from .gui import say, silenced
from .presenters.models import ChosenModel, Found, add_model, by_name, choose, entries
from .wording import _, sentence


class ModelPanel:
    """Shows the models and keeps the chosen one in the parameter node."""

    def __init__(self, ui: Any, on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._on_changed = on_changed
        self._parameters: Any = None
        self._models: Found = {}
        ui.modelSelector.connect("currentIndexChanged(int)", self._on_selected)
        ui.importModelButton.connect("clicked(bool)", self._on_import)
        ui.modelsFolderButton.connect("clicked(bool)", self._on_open_folder)
        self._say("")

    @property
    def chosen(self) -> ChosenModel:
        """The model that the parameter node names, as it is now."""
        return choose(self._models, self._parameters.model if self._parameters else None)

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        self.refresh()

    def refresh(self) -> None:
        """List the models that are there now."""
        self._models = by_name(load_manifests())
        selector = self._ui.modelSelector
        with silenced(selector):
            selector.clear()
            for entry in entries(self._models):
                selector.addItem(entry.text, entry.name)
                selector.setItemData(selector.count - 1, entry.tip, qt.Qt.ToolTipRole)
        self.show()

    def show(self) -> None:
        """Bring the section up to the parameter node."""
        chosen, ui = self.chosen, self._ui
        with silenced(ui.modelSelector):
            ui.modelSelector.currentIndex = ui.modelSelector.findData(chosen.name or "")
        ui.modelCard.text = chosen.card
        ui.modelDetailsSection.setVisible(bool(chosen.details))
        if chosen.details:
            ui.modelDetails.text = chosen.details
            ui.modelDetails.toolTip = chosen.details_tip

    def _on_selected(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._say("")
            self._parameters.model = self._ui.modelSelector.itemData(index)

    def _on_import(self) -> None:
        title = _("Choose the folder of a model bundle")
        source = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if not source:
            return
        name, said = add_model(Path(source), slicer.util.confirmOkCancelDisplay)
        if said:
            self._say(said)
        if name is not None:
            if self._parameters is not None:
                self._parameters.model = name
            self.refresh()
            self._on_changed()

    def _on_open_folder(self) -> None:
        try:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(models_folder())))
        except UserError as error:
            self._say(sentence(error))

    def _say(self, text: str) -> None:
        say(self._ui.modelStatus, text)
