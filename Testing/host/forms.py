"""Loads ``.ui`` files with the stand-ins, and refuses what Slicer would not understand either."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from host.pythonqt import loading_form
from host.standin import registry


class FormError(RuntimeError):
    """The form names a class, property, signal or slot that does not exist."""


class _Loader(QtUiTools.QUiLoader):
    """Qt's loader, which asks for every widget."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["made"] = {}
        self.__dict__["unknown"] = set()

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name in registry:
            widget = registry[class_name](parent)
            widget.setObjectName(name)
        elif hasattr(QtWidgets, class_name):
            widget = super().createWidget(class_name, parent, name)
        else:
            self.__dict__["unknown"].add(class_name)
            widget = QtWidgets.QWidget(parent)
        self.__dict__["made"][name] = widget
        return widget


class QUiLoader:
    """What ``slicer.util.loadUI`` uses."""

    def load(self, file: QtCore.QFile, parent: Any = None) -> Any:
        path = Path(file.fileName())
        root = ET.fromstring(path.read_bytes())
        # Qt's own loader cannot connect signals with MRML types: they are connected below.
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        loader = _Loader()
        buffer = QtCore.QBuffer()
        buffer.setData(ET.tostring(without_ctk_enums(root)))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        with loading_form():
            widget = loader.load(buffer, parent)
        made: dict[str, Any] = loader.__dict__["made"]
        if loader.__dict__["unknown"]:
            names = ", ".join(sorted(loader.__dict__["unknown"]))
            raise FormError(f"{path}: unknown widget classes: {names}")
        refuse_unknown_properties(path, root, made)
        for connection in connections if connections is not None else ():
            connect(path, connection, made)
        # Python's side of a widget lives as long as something in Python holds it.
        widget.__dict__["_host_widgets"] = list(made.values())
        return widget


def without_ctk_enums(root: ET.Element) -> ET.Element:
    """A copy for Qt's own loader, which cannot read values such as ``ctkPathLineEdit::Dirs``."""
    copied = copy.deepcopy(root)
    for widget in copied.iter("widget"):
        for item in widget.findall("property"):
            if (item.findtext("set") or item.findtext("enum") or "").startswith("ctk"):
                widget.remove(item)
    return copied


def refuse_unknown_properties(path: Path, root: ET.Element, made: dict[str, Any]) -> None:
    """A property with ``stdset="0"`` is dynamic (SlicerParameterName); others must exist."""
    for element in root.iter("widget"):
        widget = made[element.get("name", "")]
        for item in element.findall("property"):
            name = item.get("name", "")
            if item.get("stdset") != "0" and widget.metaObject().indexOfProperty(name) < 0:
                raise FormError(f"{path}: {element.get('class')} has no property '{name}'")


def connect(path: Path, connection: ET.Element, made: dict[str, Any]) -> None:
    texts = {key: connection.findtext(key, "") for key in ("sender", "signal", "receiver", "slot")}
    try:
        sender, receiver = made[texts["sender"]], made[texts["receiver"]]
        slot = getattr(receiver, texts["slot"].split("(")[0])
        sender.connect(texts["signal"], slot)
    except (KeyError, AttributeError, ValueError) as error:
        raise FormError(f"{path}: cannot connect {texts}: {error}") from error
