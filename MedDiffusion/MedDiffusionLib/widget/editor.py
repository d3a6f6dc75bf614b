"""The segment editor inside the panel, with the order of calls that it needs."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .views import show_filled, source_volume

TAG = "MedDiffusion"


class Editor(VTKObservationMixin):
    """Draws in the chosen segmentation; apart from the Segment Editor module's own choices.

    It is active, with its brush and its keys, while the panel is entered and its section is open.
    """

    def __init__(self, section: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._section = section
        self.widget = slicer.qMRMLSegmentEditorWidget()
        # The views show results: they are the panel's to change.
        self.widget.autoShowSourceVolumeNode = False
        self.widget.setMaximumNumberOfUndoStates(10)
        self.widget.segmentationNodeSelectorVisible = False
        self.widget.switchToSegmentationsButtonVisible = False
        section.layout().addWidget(self.widget)
        self._node: Any = None
        self._segmentation: Any = None
        self._entered = False
        self.active = False
        """Whether one can draw now."""
        self.fills = True
        """Whether taking up a brush fills the segments, and hides what is under them."""
        self._effect = ""
        self._select_node()
        self.widget.setMRMLScene(slicer.mrmlScene)
        section.connect("contentsCollapsed(bool)", self._on_collapsed)

    def enter(self) -> None:
        self._entered = True
        self._select_node()
        self.edit(self._segmentation)
        self._activate()

    def exit(self) -> None:
        self._entered = False
        self._activate()

    def edit(self, segmentation: Any) -> None:
        """Draw in this segmentation, on the volume that it has its geometry from."""
        self._segmentation = segmentation
        if self._node is None:
            return  # A scene is closing or was closed: once it is entered again.
        if self.widget.segmentationNode() is not segmentation:
            self.widget.setSegmentationNode(segmentation)
            volume = source_volume(segmentation)
            if volume is not None:
                self.widget.setSourceVolumeNode(volume)
        self.widget.enabled = segmentation is not None

    def on_start_close(self) -> None:
        """The scene closes: let go of everything in it."""
        self.widget.setSegmentationNode(None)
        self.widget.removeViewObservations()
        self.removeObservers()
        self._node = self._segmentation = None

    def cleanup(self) -> None:
        self.exit()
        self.removeObservers()
        self._section.disconnect("contentsCollapsed(bool)", self._on_collapsed)
        node, self._node = self._node, None
        self.widget.setMRMLSegmentEditorNode(None)
        self.widget.setMRMLScene(None)
        if node is not None and node.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(node)

    def _select_node(self) -> None:
        node = slicer.mrmlScene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(TAG)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self._node:
            self.removeObservers()
            self._node = node
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified)
            self.widget.setMRMLSegmentEditorNode(node)

    def _on_collapsed(self, _collapsed: bool) -> None:
        self._activate()

    def _activate(self) -> None:
        """A brush, or a key that paints or undoes, only where one sees what it does."""
        active = self._entered and not self._section.collapsed
        if active and not self.active:
            self.widget.installKeyboardShortcuts()
            self.widget.updateWidgetFromMRML()
        elif self.active and not active:
            self.widget.setActiveEffect(None)
            self.widget.uninstallKeyboardShortcuts()
            self.widget.removeViewObservations()
        self.active = active

    def _on_modified(self, node: Any, _event: Any) -> None:
        """Who takes up a brush must see what is drawn, whatever the results show."""
        effect = node.GetActiveEffectName() or ""
        if effect and effect != self._effect and self.fills:
            show_filled(node.GetSegmentationNode())
        self._effect = effect
