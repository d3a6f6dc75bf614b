"""What the slice and 3D views show: previews, results, outlines, two images side by side."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

LAYOUT = slicer.vtkMRMLLayoutNode
GRAYS_PRESET = "MR-Default"


def composite_nodes() -> list[Any]:
    """One per slice view: it says which volumes the view blends."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def show_volume(node: Any, fit: bool = False) -> None:
    """Show a volume in all slice views; ``fit`` also moves and zooms them to it."""
    empty = all(composite.GetBackgroundVolumeID() is None for composite in composite_nodes())
    slicer.util.setSliceViewerLayers(background=node, fit=fit or empty)


class PreviewLayer:
    """Lends the background of the slice views to a preview, and gives it back."""

    def __init__(self) -> None:
        self._preview_id = ""
        self._lent: dict[str, str | None] = {}
        self._geometry: dict[str, tuple[Any, ...]] = {}

    def show(self, node: Any) -> None:
        """Show the preview. A view whose volume the user changes meanwhile is left alone."""
        if self._lent:
            return
        for composite in composite_nodes():
            self._lent[composite.GetID()] = composite.GetBackgroundVolumeID()
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            matrix = vtk.vtkMatrix4x4()
            matrix.DeepCopy(view.GetSliceToRAS())
            self._geometry[view.GetID()] = (matrix, view.GetFieldOfView(), view.GetXYZOrigin())
        self._preview_id = node.GetID()
        show_volume(node)

    def forget(self) -> None:
        """Leave the views as they are: another scene, maybe."""
        self._lent.clear()
        self._geometry.clear()

    def keep_place(self) -> None:
        """Let the user stay where they have moved and zoomed to; only the volume is restored."""
        self._geometry.clear()

    def restore(self) -> None:
        """Show again what was there before, where the preview is or was."""
        for composite_id, volume_id in self._lent.items():
            composite = slicer.mrmlScene.GetNodeByID(composite_id)
            if composite is None:
                continue
            if composite.GetBackgroundVolumeID() in (None, self._preview_id):
                kept = volume_id and slicer.mrmlScene.GetNodeByID(volume_id) is not None
                composite.SetBackgroundVolumeID(volume_id if kept else None)
        for view_id, (matrix, field_of_view, origin) in self._geometry.items():
            view = slicer.mrmlScene.GetNodeByID(view_id)
            if view is not None:
                view.GetSliceToRAS().DeepCopy(matrix)
                view.SetFieldOfView(*field_of_view)
                view.SetXYZOrigin(*origin)
                view.UpdateMatrices()
        self.forget()


def show_outlines(node: Any, visible: bool) -> None:
    """Show a label map as outlines over the volume, or hide it."""
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(visible)
        return
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.SetUseLabelOutline(True)
    slicer.util.setSliceViewerLayers(label=node if visible else None, labelOpacity=1.0)


def show_filled(node: Any) -> None:
    """Show a segmentation as it is when one draws in it."""
    if node is not None and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility2DFill(True)
        node.GetDisplayNode().SetVisibility2DOutline(True)


def source_volume(node: Any) -> Any:
    """The volume that a segmentation has its geometry from; None where there is none."""
    if not isinstance(node, slicer.vtkMRMLSegmentationNode):
        return None
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return node.GetNodeReference(role)


def source_image(node: Any) -> Any:
    """The image that a segmentation was drawn on; None where there is none, or an empty one."""
    volume = source_volume(node)
    if volume is None or volume.GetImageData() is None:
        return None
    low, high = volume.GetImageData().GetScalarRange()
    return volume if high > low else None


class SideBySide:
    """Two views of the same plane: the source image beside the result."""

    def __init__(self) -> None:
        self._before: tuple[int, str] | None = None

    @property
    def active(self) -> bool:
        return self._before is not None

    def show(self, image: Any, result: Any) -> None:
        left, right = self._views()
        if self._before is None:
            layout_manager = slicer.app.layoutManager()
            self._before = (layout_manager.layout, right[0].GetOrientation())
            layout_manager.setLayout(LAYOUT.SlicerLayoutSideBySideView)
            right[0].SetOrientation(left[0].GetOrientation())
            for _view, composite in (left, right):
                composite.SetLinkedControl(True)
        # Linked views copy a choice of volume to each other when the user makes it, not here.
        left[1].SetBackgroundVolumeID(image.GetID())
        right[1].SetBackgroundVolumeID(result.GetID())
        slicer.app.layoutManager().resetSliceViews()

    def end(self) -> None:
        """Back to the layout that was there before."""
        if self._before is None:
            return
        layout, orientation = self._before
        self._before = None
        for view, composite in self._views():
            composite.SetLinkedControl(False)
            if view.GetLayoutName() == "Yellow":
                view.SetOrientation(orientation)
        slicer.app.layoutManager().setLayout(layout)

    @staticmethod
    def _views() -> list[tuple[Any, Any]]:
        logic = slicer.app.applicationLogic()
        found = []
        for name in ("Red", "Yellow"):
            slice_logic = logic.GetSliceLogicByLayoutName(name)
            found.append((slice_logic.GetSliceNode(), slice_logic.GetSliceCompositeNode()))
        return found


def show_rendering(node: Any, visible: bool) -> None:
    """Show a volume in 3D, or hide it."""
    logic = slicer.modules.volumerendering.logic()
    display = logic.GetFirstVolumeRenderingDisplayNode(node)
    if display is None and visible:
        display = logic.CreateDefaultVolumeRenderingNodes(node)
        preset = logic.GetPresetByName(GRAYS_PRESET)
        if preset is not None:
            display.GetVolumePropertyNode().Copy(preset)
    if display is not None:
        display.SetVisibility(visible)
