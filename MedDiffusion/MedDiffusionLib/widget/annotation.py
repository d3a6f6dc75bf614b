"""In the corner of every view that shows a synthetic volume stands that it does.

An actor in the view's own renderer: whatever takes a picture of the view takes it along. (The
corner annotations of the views belong to Slicer's DataProbe, which writes them anew with each move
of the mouse.)
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..scene.synthetic import is_synthetic
from .wording import _

FONT_SIZE = 14
COLOR = (1.0, 0.75, 0.2)
CORNER = (0.985, 0.98)
"""Where the text ends: the upper right, in shares of the view."""
RENDERING = "vtkMRMLVolumeRenderingDisplayNode"


class Annotations(VTKObservationMixin):
    """Follows what the views of the layout show, as long as Slicer runs."""

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self._actors: dict[str, vtk.vtkTextActor] = {}
        scene = slicer.mrmlScene
        for event in (
            scene.NodeAddedEvent,
            scene.NodeRemovedEvent,
            scene.EndBatchProcessEvent,
            scene.EndCloseEvent,
        ):
            self.addObserver(scene, event, self._on_nodes_changed, priority=-20.0)
        slicer.app.layoutManager().connect("layoutChanged(int)", self._on_layout)
        self._on_nodes_changed(None, None)

    def update(self) -> None:
        """Bring the corners up to what the views show."""
        manager = slicer.app.layoutManager()
        in_slices = {
            composite.GetLayoutName()
            for composite in _nodes("vtkMRMLSliceCompositeNode")
            if _shows_synthetic(composite)
        }
        for name in manager.sliceViewNames():
            self._annotate(name, manager.sliceWidget(name).sliceView(), name in in_slices)
        for number in range(manager.threeDViewCount):
            widget = manager.threeDWidget(number)
            node = widget.mrmlViewNode()
            self._annotate(
                f"3D {node.GetID()}", widget.threeDView(), _shows_in_3d(node.GetID(), in_slices)
            )

    def close(self) -> None:
        """Let go of the scene and the views."""
        self.removeObservers()
        slicer.app.layoutManager().disconnect("layoutChanged(int)", self._on_layout)
        for actor in self._actors.values():
            actor.SetVisibility(False)
        self._actors.clear()

    def _annotate(self, key: str, view: Any, synthetic: bool) -> None:
        actor = self._actors.get(key)
        if actor is None and synthetic:
            actor = self._actors[key] = _text()
            view.renderWindow().GetRenderers().GetFirstRenderer().AddViewProp(actor)
        elif actor is None or bool(actor.GetVisibility()) == synthetic:
            return
        actor.SetVisibility(synthetic)
        view.scheduleRender()

    def _on_nodes_changed(self, _caller: Any, _event: Any) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return
        for kind in ("vtkMRMLSliceCompositeNode", "vtkMRMLSliceNode", RENDERING):
            for node in _nodes(kind):
                if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified):
                    self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.update()

    def _on_modified(self, _caller: Any, _event: Any) -> None:
        self.update()

    def _on_layout(self, _layout: int) -> None:
        self._on_nodes_changed(None, None)


_shared: list[Annotations] = []


def annotate_views() -> None:
    """See to it from now on; where Slicer runs without windows there is nothing to see to."""
    if not _shared and slicer.app.layoutManager() is not None:
        _shared.append(Annotations())


def _text() -> vtk.vtkTextActor:
    actor = vtk.vtkTextActor()
    actor.SetInput(_("Synthetic, not for diagnosis"))
    actor.SetTextScaleModeToNone()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(*CORNER)
    style = actor.GetTextProperty()
    style.SetFontSize(FONT_SIZE)
    style.SetColor(*COLOR)
    style.SetBackgroundColor(0, 0, 0)
    style.SetBackgroundOpacity(0.4)
    style.SetJustificationToRight()
    style.SetVerticalJustificationToTop()
    return actor


def _nodes(kind: str) -> list[Any]:
    return list(slicer.util.getNodesByClass(kind))


def _shows_synthetic(composite: Any) -> bool:
    volumes = [composite.GetBackgroundVolumeID()]
    if composite.GetForegroundOpacity() > 0:
        volumes.append(composite.GetForegroundVolumeID())
    return any(is_synthetic(slicer.mrmlScene.GetNodeByID(v)) for v in volumes if v)


def _shows_in_3d(view_id: str, in_slices: set[str]) -> bool:
    """Whether a 3D view shows a rendered synthetic volume, or a slice of one."""
    rendered = (
        display.GetVisibility()
        and display.IsDisplayableInView(view_id)
        and is_synthetic(display.GetVolumeNode())
        for display in _nodes(RENDERING)
    )
    slices = (
        node.GetSliceVisible()
        and node.IsDisplayableInThreeDView(view_id)
        and node.GetLayoutName() in in_slices
        for node in _nodes("vtkMRMLSliceNode")
    )
    return any(rendered) or any(slices)
