"""The section Model: which model, what it does, how to get another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from ..bundles.catalog import DEFAULT_MODEL, load_manifests
from ..bundles.installing import is_checkpoint, models_folder
from ..bundles.names import MANIFEST_NAME
from ..compute.errors import UserError
from .gui import agrees, say, show_controls, silenced, waiting
from .import_form import ImportForm
from .presenters.models import (
    ChosenModel,
    Found,
    add_model,
    by_name,
    choose,
    controls,
    delete_model,
    entries,
    export_model,
    export_name,
)
from .runner import Runner
from .wording import _, sentence, tip


class ModelPanel:
    """Shows the models and keeps the chosen one in the parameter node."""

    def __init__(self, ui: Any, runner: Runner, on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._importing = ImportForm(ui, runner, self._say, self._on_imported)
        self._on_changed = on_changed
        self._parameters: Any = None
        self._models: Found = {}
        ui.modelSelector.connect("currentIndexChanged(int)", self._on_selected)
        ui.importModelButton.connect("clicked(bool)", self._on_import)
        ui.exportModelButton.connect("clicked(bool)", self._on_export)
        ui.deleteModelButton.connect("clicked(bool)", self._on_delete)
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
                selector.setItemData(selector.count - 1, tip(entry.tip), qt.Qt.ToolTipRole)
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
            ui.modelDetails.toolTip = tip(chosen.details_tip)
        show_controls(ui, controls(chosen, _own_models()))

    def _on_selected(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._say("")
            self._parameters.model = self._ui.modelSelector.itemData(index)

    def _on_import(self) -> None:
        title = _("Choose a model: its zip file, model.json in its folder, or a checkpoint")
        kinds = _("Models and checkpoints (*.zip model.json *.pt *.pth *.ckpt);;All files (*)")
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", kinds)
        if not chosen:
            return
        source = Path(chosen)
        if source.name != MANIFEST_NAME and is_checkpoint(source):
            self._say("")
            self._importing.ask(source)
            return
        name, said = add_model(source, agrees)
        if name is not None:
            self._on_imported(name)
        if said:
            self._say(said)

    def _on_imported(self, name: str) -> None:
        """A model has been added: it is the chosen one now."""
        if self._parameters is not None:
            self._parameters.model = name
        self.refresh()
        self._on_changed()

    def cleanup(self) -> None:
        """What is imported still is, but nobody is told."""
        self._importing.cleanup()

    def _on_export(self) -> None:
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Export the model"),
            export_name(self.chosen),
            _("Models (*.zip)"),
        )
        if path:
            with waiting():
                said = export_model(self.chosen, path)
            self._say(said)

    def _on_delete(self) -> None:
        gone, said = delete_model(self.chosen, agrees)
        if said:
            self._say(said)
        if gone:
            if self._parameters is not None:
                self._parameters.model = DEFAULT_MODEL
            self.refresh()
            self._on_changed()

    def _on_open_folder(self) -> None:
        try:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(models_folder())))
        except UserError as error:
            self._say(sentence(error))

    def _say(self, text: str) -> None:
        say(self._ui.modelStatus, text)


def _own_models() -> Path | None:
    """The folder of the user's own models; None where there can be none."""
    try:
        return models_folder()
    except UserError:
        return None
