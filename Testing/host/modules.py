"""Loads scripted modules and opens their panels as Slicer does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore

from host.standin import emit


def load_module(path: Path) -> Any:
    """Import a scripted module's file and make its module object; return the C++ side of it."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    python = importlib.import_module(name)
    module = slicer.qSlicerScriptedLoadableModule()
    module.__dict__.update(_value_name=name, _value_path=str(path))
    instance = getattr(python, name)(module)
    setattr(slicer.modules, name.lower(), module)
    setattr(slicer.modules, f"{name}Instance", instance)
    setattr(slicer.moduleNames, name, name)
    if hasattr(instance, "setup"):
        instance.setup()
    return module


def open_widget(module: Any) -> Any:
    """Enter a module's panel, which is made if there is none yet; return the Python widget."""
    widget = module.widgetRepresentation().self()
    set_entered(widget, True)
    return widget


def set_entered(widget: Any, entered: bool) -> None:
    """Enter or leave a panel, as switching to another module does."""
    state = widget.parent.__dict__
    if state.get("_value_isEntered", False) != entered:
        state["_value_isEntered"] = entered
        method = getattr(widget, "enter" if entered else "exit", None)
        if method is not None:
            method()


def close_widget(widget: Any) -> None:
    """Leave the panel, unload its module and delete its widgets, as closing Slicer does."""
    set_entered(widget, False)
    manager = slicer.app.moduleManager()
    emit(manager, "moduleAboutToBeUnloaded(QString)", widget.moduleName)
    delattr(slicer.modules, f"{widget.moduleName}Widget")
    widget.parent.deleteLater()
    slicer.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
    slicer.app.processEvents()
