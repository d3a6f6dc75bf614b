"""Stand-ins of Slicer's widgets that look at the scene; they become attributes of ``slicer``."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import shiboken6
import slicer
import vtk
from PySide6 import QtWidgets

from host import ctk  # noqa: F401  Some of the widgets below derive from CTK's.
from host.standin import StandIn, declare, emit


class Observers:
    """VTK observers of one widget, all gone when the widget is."""

    def __init__(self, widget: Any) -> None:
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[Any, int]] = []
        widget.connect("destroyed()", self.clear)

    def watch(self, target: Any, events: Iterable[int], react: Callable[[Any], None]) -> None:
        """Call ``react(widget)`` on the events as long as the widget exists."""

        def observe(*_: Any) -> None:
            widget = self._widget()
            if widget is not None and shiboken6.isValid(widget):
                react(widget)

        for event in events:
            self._tags.append((target, target.AddObserver(event, observe)))

    def clear(self) -> None:
        while self._tags:
            target, tag = self._tags.pop()
            target.RemoveObserver(tag)


class qMRMLWidget(QtWidgets.QWidget, metaclass=StandIn):
    """A widget that knows the scene and passes it on by a signal."""

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.mrmlScene():
            self.__dict__["_scene"] = scene
            emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)


class qSlicerWidget(QtWidgets.QWidget, metaclass=StandIn):
    """As qMRMLWidget; the real one has no mrmlScene() for Python."""

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.__dict__.get("_scene"):
            self.__dict__["_scene"] = scene
            emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)


def _refill(widget: Any) -> None:
    widget._fill()


class qMRMLNodeComboBox(QtWidgets.QWidget, metaclass=StandIn):
    """Chooses a node of the scene: follows nodes that come, go, or change their names."""

    _defaults = {  # noqa: RUF012
        "showChildNodeTypes": True,
        "addEnabled": True,
        "removeEnabled": True,
        "noneDisplay": "None",
    }
    _after_nodeTypes = _after_noneEnabled = _after_showHidden = _refill
    _after_showChildNodeTypes = _after_hideChildNodeTypes = _after_noneDisplay = _refill

    def _setup(self) -> None:
        state = self.__dict__
        state.update(_scene=None, _current="", _wanted="")
        state["_scene_observers"] = Observers(self)
        state["_node_observers"] = Observers(self)
        state["_combo"] = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.connect("currentIndexChanged(int)", self._on_index)
        self.enabled = False

    def mrmlScene(self) -> Any:
        return self.__dict__["_scene"]

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self.mrmlScene():
            return
        self._scene_observers.clear()
        self.__dict__["_scene"] = scene
        self.enabled = scene is not None
        if scene is not None:
            kind = slicer.vtkMRMLScene
            events = (
                kind.NodeAddedEvent,
                kind.NodeRemovedEvent,
                kind.EndBatchProcessEvent,
                kind.EndCloseEvent,
                kind.EndImportEvent,
            )
            self._scene_observers.watch(scene, events, _refill)
        self._fill()
        if self._wanted:
            self.setCurrentNodeID(self._wanted)
            self.__dict__["_wanted"] = ""

    def currentNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetNodeByID(self._current) if scene and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if self.mrmlScene() is None:
            self.__dict__["_wanted"] = node_id or ""
        else:
            self._combo.currentIndex = self._combo.findData(node_id or "")

    def _get_currentNodeID(self) -> str:
        return str(self._current)

    def _set_currentNodeID(self, node_id: str) -> None:
        self.setCurrentNodeID(node_id)

    def _nodes(self) -> list[Any]:
        scene = self.mrmlScene()
        if scene is None:
            return []
        every = (scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))
        return [node for node in every if self._shows(node)]

    def _shows(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if any(node.IsA(kind) for kind in self.hideChildNodeTypes):
            return False
        fits = node.IsA if self.showChildNodeTypes else node.GetClassName().__eq__
        return any(fits(kind) for kind in self.nodeTypes)

    def _fill(self) -> None:
        """List the nodes anew; only a change of the current node is told."""
        scene = self.mrmlScene()
        if scene is not None and scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        self._node_observers.clear()
        for node in nodes:
            self._combo.addItem(node.GetName() or "", node.GetID())
            self._node_observers.watch(node, [vtk.vtkCommand.ModifiedEvent], _rename)
        known = [node.GetID() for node in nodes]
        if self._current not in known and not self.noneEnabled and known:
            # Where a node must be chosen: the first at first, the last when one was removed.
            self._combo.currentIndex = len(known) - 1 if self._current else 0
        else:
            self._combo.currentIndex = self._combo.findData(self._current)
            if self._current not in known:
                self._combo.currentIndex = 0 if self.noneEnabled else -1
        self._combo.blockSignals(blocked)
        self._on_index()

    def _on_index(self) -> None:
        chosen = self._combo.itemData(self._combo.currentIndex) or ""
        if chosen == self._current:
            return
        self.__dict__["_current"] = chosen
        node = self.currentNode()
        emit(self, "currentNodeChanged(vtkMRMLNode*)", node)
        emit(self, "currentNodeChanged(bool)", node is not None)
        emit(self, "currentNodeIDChanged(QString)", chosen)


def _rename(widget: Any) -> None:
    """Show the names that the nodes have now."""
    listed = [(node.GetName(), node.GetID()) for node in widget._nodes()]
    combo = widget._combo
    rows = [(combo.itemText(i), combo.itemData(i)) for i in range(combo.count)]
    if listed != [row for row in rows if row[1]]:
        widget._fill()


NAMES = (
    "qMRMLRangeWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
)
declare(*NAMES)
