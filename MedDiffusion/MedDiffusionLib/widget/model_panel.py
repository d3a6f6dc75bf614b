"""The section Model: which model, what it does, how to get another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles.catalog import load_manifests
from ..bundles.installing import check_bundle, import_bundle, models_folder
from ..bundles.manifest import Manifest
from ..compute.errors import UserError
from .card import full_card, short_card
from .gui import say, silenced


class ModelPanel:
    """Shows the models and keeps the chosen one in the parameter node."""

    def __init__(self, ui: Any, on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._on_changed = on_changed
        self._parameters: Any = None
        self._models: dict[str, tuple[Path, Manifest | UserError]] = {}
        ui.modelSelector.connect("currentIndexChanged(int)", self._on_selected)
        ui.importModelButton.connect("clicked(bool)", self._on_import)
        ui.modelsFolderButton.connect("clicked(bool)", self._on_open_folder)
        self._say("")

    @property
    def manifest(self) -> Manifest | None:
        """Of the chosen model; None where it cannot be used."""
        found = self._chosen()
        return found[1] if found and isinstance(found[1], Manifest) else None

    @property
    def folder(self) -> Path | None:
        found = self._chosen()
        return found[0] if found else None

    @property
    def refusal(self) -> str:
        """Why no synthesis can start with the chosen model; empty where it can."""
        found = self._chosen()
        if found is None:
            return self._gone() if self._parameters else _("The scene is being closed.")
        return str(found[1]) if isinstance(found[1], UserError) else ""

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        self.refresh()

    def refresh(self) -> None:
        """List the models that are there now."""
        self._models = {folder.name: (folder, found) for folder, found in load_manifests()}
        selector = self._ui.modelSelector
        with silenced(selector):
            selector.clear()
            for name, (_folder, found) in self._models.items():
                usable = isinstance(found, Manifest)
                title = found.content["title"] if isinstance(found, Manifest) else _("unusable")
                selector.addItem(f"{name}: {title}", name)
                tip = found.content["description"] if usable else str(found)  # type: ignore[union-attr]
                selector.setItemData(selector.count - 1, tip, qt.Qt.ToolTipRole)
        self.show()

    def show(self) -> None:
        """Bring the section up to the parameter node."""
        chosen = self._parameters.model if self._parameters else ""
        with silenced(self._ui.modelSelector):
            self._ui.modelSelector.currentIndex = self._ui.modelSelector.findData(chosen)
        manifest = self.manifest
        self._ui.modelCard.text = short_card(manifest) if manifest else self.refusal
        self._ui.modelDetailsSection.setVisible(manifest is not None)
        if manifest is not None and self.folder is not None:
            self._ui.modelDetails.text = full_card(manifest)
            self._ui.modelDetails.toolTip = _("Lies in {folder}").format(folder=self.folder)

    def _chosen(self) -> tuple[Path, Manifest | UserError] | None:
        return self._models.get(self._parameters.model) if self._parameters else None

    def _gone(self) -> str:
        text = _("The model {name} is not on this computer: choose another, or import it.")
        return text.format(name=self._parameters.model)

    def _on_selected(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._say("")
            self._parameters.model = self._ui.modelSelector.itemData(index)

    def _on_import(self) -> None:
        title = _("Choose the folder of a model bundle")
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if not chosen:
            return
        try:
            target = check_bundle(Path(chosen))
            question = _("There is a model {name} already. Replace it?").format(name=target.name)
            replace = target.exists()
            if replace and not slicer.util.confirmOkCancelDisplay(question):
                return
            name = import_bundle(Path(chosen), replace)
        except UserError as error:
            self._say(str(error))
            return
        self._say(_("Imported {name}.").format(name=name))
        if self._parameters is not None:
            self._parameters.model = name
        self.refresh()
        self._on_changed()

    def _on_open_folder(self) -> None:
        try:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(models_folder())))
        except UserError as error:
            self._say(str(error))

    def _say(self, sentence: str) -> None:
        say(self._ui.modelStatus, sentence)
