"""A scripted module's C++ side: its panel is made when first asked for, and can be reloaded."""

from __future__ import annotations

import sys
from typing import Any

import slicer
from PySide6 import QtWidgets

from host import qmrml  # noqa: F401  The panel's widget derives from one of these.
from host.standin import StandIn, declare

_LoadableModule: Any
_ModuleWidget: Any
_LoadableModule, _ModuleWidget = declare("qSlicerLoadableModule", "qSlicerAbstractModuleWidget")


class qSlicerScriptedLoadableModuleWidget(_ModuleWidget, metaclass=StandIn):
    """Holds the Python widget of a module."""

    def _setup(self) -> None:
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    def self(self) -> Any:
        return getattr(slicer.modules, f"{self.moduleName}Widget", None)

    def reload(self) -> None:
        """Make the Python widget anew in here, of the class as it is now; nobody enters it."""
        widget = getattr(sys.modules[self.moduleName], f"{self.moduleName}Widget")(self)
        setattr(slicer.modules, f"{self.moduleName}Widget", widget)
        widget.setup()


class qSlicerScriptedLoadableModule(_LoadableModule, metaclass=StandIn):
    """A module as Slicer lists it."""

    def widgetRepresentation(self) -> Any:
        """Return the panel, which is made when it is first asked for."""
        widget = getattr(slicer.modules, f"{self.name}Widget", None)
        if widget is not None:
            return widget.parent
        panel = slicer.qSlicerScriptedLoadableModuleWidget()
        panel.__dict__["_value_moduleName"] = self.name
        panel.reload()
        return panel
