"""The stand-in of the embedded segment editor: Slicer's own editor logic without its buttons.

It has no effects (they are Qt classes of the desktop program). What matters to a module is here:
which node is edited, in which order it is set up, and whether shortcuts and view observations are
taken back.
"""

from __future__ import annotations

from typing import Any

import shiboken6
import slicer
import slicer.util

from host.qmrml import Observers, qMRMLWidget
from host.standin import StandIn, emit

EFFECTS = ("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds", "Islands")


class qMRMLSegmentEditorWidget(qMRMLWidget, metaclass=StandIn):
    """Keeps the parameter set node, segmentation and source volume in Slicer's editor logic."""

    _defaults = {"autoShowSourceVolumeNode": True}  # noqa: RUF012

    def _setup(self) -> None:
        self.__dict__.update(_node=None, shortcuts=0, view_observations=0)
        self.__dict__["_logic"] = slicer.vtkSlicerSegmentEditorLogic()
        self.__dict__["_observers"] = Observers(self)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not None and self.mrmlSegmentEditorNode() is None:
            # Slicer itself would go on, and lose the choices that the node keeps.
            raise RuntimeError("setMRMLSegmentEditorNode must come before setMRMLScene")
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(scene)
        qMRMLWidget.setMRMLScene(self, scene)
        if scene is not None and slicer.app.layoutManager() is not None:
            slicer.app.layoutManager().connect("layoutChanged(int)", self._on_layout)

    def mrmlSegmentEditorNode(self) -> Any:
        return self.__dict__["_node"]

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLSegmentEditorNode"):
            raise ValueError(f"{node.GetClassName()} is not a vtkMRMLSegmentEditorNode")
        self.__dict__["_node"] = node
        self._logic.SetSegmentEditorNode(node)

    def segmentationNode(self) -> Any:
        return self._logic.GetSegmentationNode()

    def setSegmentationNode(self, node: Any) -> None:
        self._require_node("setSegmentationNode")
        if node is not self.segmentationNode():
            self._logic.SetSegmentationNode(node)
            self.setActiveEffect(None)
            if node is not None:
                role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
                self.setSourceVolumeNode(node.GetNodeReference(role))
                slicer.util.setSliceViewerLayers(label=None)
            emit(self, "segmentationNodeChanged(vtkMRMLSegmentationNode*)", node)

    def sourceVolumeNode(self) -> Any:
        return self._logic.GetSourceVolumeNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        self._require_node("setSourceVolumeNode")
        if node is not self.sourceVolumeNode():
            self._logic.SetSourceVolumeNode(node)
            self._show_source_volume()
            emit(self, "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)", node)

    def currentSegmentID(self) -> str:
        node = self.mrmlSegmentEditorNode()
        return (node.GetSelectedSegmentID() or "") if node else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._require_node("setCurrentSegmentID").SetSelectedSegmentID(segment_id)
        emit(self, "currentSegmentIDChanged(QString)", segment_id)

    def setActiveEffect(self, effect: Any) -> None:
        if effect is not None:
            raise NotImplementedError("the test host has no effects; use setActiveEffectByName")
        if self.mrmlSegmentEditorNode() is not None:
            self.mrmlSegmentEditorNode().SetActiveEffectName("")

    def setActiveEffectByName(self, name: str) -> None:
        self._require_node("setActiveEffectByName").SetActiveEffectName(
            name if name in EFFECTS else ""
        )

    def installKeyboardShortcuts(self, _parent: Any = None) -> None:
        self.__dict__["shortcuts"] += 1

    def uninstallKeyboardShortcuts(self) -> None:
        self.__dict__["shortcuts"] = 0

    def removeViewObservations(self) -> None:
        self.__dict__["view_observations"] = 0

    def updateWidgetFromMRML(self) -> None:
        """Nothing is shown, so nothing needs updating."""

    def _on_layout(self, _layout: int) -> None:
        if shiboken6.isValid(self):
            self._show_source_volume()

    def _show_source_volume(self) -> None:
        """The editor takes over the views unless it was told not to."""
        if self.autoShowSourceVolumeNode and self.sourceVolumeNode() is not None:
            slicer.util.setSliceViewerLayers(background=self.sourceVolumeNode())

    def _require_node(self, name: str) -> Any:
        """Slicer only logs an error here; on the host the order is a rule."""
        if self.mrmlSegmentEditorNode() is None:
            raise RuntimeError(f"{name} before setMRMLSegmentEditorNode")
        return self.mrmlSegmentEditorNode()
