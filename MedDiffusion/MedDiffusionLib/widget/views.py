"""What the slice and 3D views show: previews, results, outlines, two images side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..scene.synthetic import is_synthetic

LAYOUT = slicer.vtkMRMLLayoutNode


def composite_nodes() -> list[Any]:
    """One per slice view: it says which volumes the view blends."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def slice_nodes() -> list[Any]:
    """One per slice view: where it cuts."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))


def show_volume(node: Any, fit: bool = False) -> None:
    """Show a volume in all slice views; ``fit`` also turns, moves and zooms them to it."""
    empty = all(composite.GetBackgroundVolumeID() is None for composite in composite_nodes())
    fit = fit or empty
    slicer.util.setSliceViewerLayers(background=node, fit=fit, rotateToVolumePlane=fit)
    for composite in composite_nodes():
        if is_synthetic(slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")):
            composite.SetForegroundVolumeID(None)  # It was blended over another volume.


def blend(result: Any, source: Any, opacity: float) -> None:
    """Show a result over the image that its label map was drawn on.

    ``opacity`` from 0, the source alone, to 1, the result alone. Where there is no source (None),
    the result is shown alone.
    """
    if source is None or opacity >= 1:
        show_volume(result)
        return
    slicer.util.setSliceViewerLayers(
        background=source, foreground=result, foregroundOpacity=max(0.0, opacity)
    )


class PreviewLayer:
    """Lends the slice views to a preview, and gives them back."""

    def __init__(self) -> None:
        self._preview_id = ""
        self._lent: dict[str, tuple[str | None, str | None]] = {}
        self._geometry: dict[str, tuple[Any, ...]] = {}

    def show(self, node: Any) -> None:
        """Show the preview. A view whose volume the user changes meanwhile is left alone."""
        if self._lent:
            return
        for composite in composite_nodes():
            shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
            self._lent[composite.GetID()] = shown
        for view in slice_nodes():
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
        for composite_id, (background, foreground) in self._lent.items():
            composite = slicer.mrmlScene.GetNodeByID(composite_id)
            if composite is None:
                continue
            if composite.GetBackgroundVolumeID() in (None, self._preview_id):
                composite.SetBackgroundVolumeID(_existing(background))
                composite.SetForegroundVolumeID(_existing(foreground))
        for view_id, (matrix, field_of_view, origin) in self._geometry.items():
            view = slicer.mrmlScene.GetNodeByID(view_id)
            if view is not None:
                view.GetSliceToRAS().DeepCopy(matrix)
                view.SetFieldOfView(*field_of_view)
                view.SetXYZOrigin(*origin)
                view.UpdateMatrices()
        self.forget()


def _existing(node_id: str | None) -> str | None:
    return node_id if node_id and slicer.mrmlScene.GetNodeByID(node_id) is not None else None


OUTLINED = "MedDiffusion.outlined"
"""The attribute of a slice view whose label layer is drawn as outlines for a result."""
HIDDEN = "MedDiffusion.hidden"
"""The attribute of a segmentation's display that is hidden while another's result is shown."""


def show_outlines(node: Any, visible: bool) -> None:
    """Show a result's label map as outlines, or hide it; no other label map lies over the result.

    Segmentations that are hidden for it come back when they are shown, drawn in, or outlined.
    """
    _hide_other_segmentations(node)
    is_segmentation = isinstance(node, slicer.vtkMRMLSegmentationNode)
    _show_label_layer(node if visible and not is_segmentation else None, outlined=True)
    if is_segmentation:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        _unhide(display)
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(visible)


def show_label_map(node: Any) -> None:
    """Show a label map that was chosen, filled; the views turn to it, and go to where it is."""
    volume = source_volume(node)
    _hide_other_segmentations(node)
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        show_filled(node)
    else:
        _show_label_layer(node, outlined=False)
        volume = node
    if volume is not None and volume.GetImageData() is not None:
        _turn_to(volume)


def show_filled(node: Any) -> None:
    """Show a segmentation as it is when one draws in it."""
    if node is not None and node.GetDisplayNode() is not None:
        display = node.GetDisplayNode()
        _unhide(display)
        display.SetVisibility2DFill(True)
        display.SetVisibility2DOutline(True)


def show_new_label_map(node: Any) -> None:
    """Show a segmentation that was just made, alone, on its volume, in the middle of the views."""
    _hide_other_segmentations(node)
    _show_label_layer(None, outlined=False)
    show_filled(node)
    show_volume(source_volume(node), fit=True)


def _hide_other_segmentations(shown: Any) -> None:
    for other in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        display = other.GetDisplayNode()
        if other is not shown and display is not None and display.GetVisibility2D():
            display.SetVisibility2D(False)
            display.SetAttribute(HIDDEN, "1")


def _unhide(display: Any) -> None:
    """Undo the hiding of another result, not what the user hides."""
    if display.GetAttribute(HIDDEN):
        display.RemoveAttribute(HIDDEN)
        display.SetVisibility2D(True)


def _show_label_layer(node: Any, outlined: bool) -> None:
    """Put a label map volume into the label layer, or nothing; outlines as before afterwards."""
    for view in slice_nodes():
        if node is not None and outlined and not view.GetUseLabelOutline():
            view.SetUseLabelOutline(True)
            view.SetAttribute(OUTLINED, "1")
        elif not (node is not None and outlined) and view.GetAttribute(OUTLINED):
            view.SetUseLabelOutline(False)
            view.RemoveAttribute(OUTLINED)
    slicer.util.setSliceViewerLayers(label=node, labelOpacity=1.0)


def _turn_to(volume: Any) -> None:
    """Turn the slices into a volume's planes; those that miss it go to its middle."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    for view in slice_nodes():
        view.RotateToVolumePlane(volume)
        matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
        # How far the slice lies from the middle, and how far the box reaches along its normal.
        normal, origin = matrix[:3, 2], matrix[:3, 3]
        away = abs((origin - (low + high) / 2) @ normal)
        if away > (high - low) @ np.abs(normal) / 2:
            view.JumpSliceByCentering(*((low + high) / 2))
    if all(composite.GetBackgroundVolumeID() is None for composite in composite_nodes()):
        slicer.app.layoutManager().resetSliceViews()


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
        self._before: tuple[int, vtk.vtkMatrix4x4] | None = None

    @property
    def active(self) -> bool:
        return self._before is not None

    def show(self, image: Any, result: Any) -> None:
        left, right = self._views()
        if self._before is None:
            layout_manager = slicer.app.layoutManager()
            plane = vtk.vtkMatrix4x4()
            plane.DeepCopy(right[0].GetSliceToRAS())
            self._before = (layout_manager.layout, plane)
            layout_manager.setLayout(LAYOUT.SlicerLayoutSideBySideView)
            _set_plane(right[0], left[0].GetSliceToRAS())
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
        layout, plane = self._before
        self._before = None
        for view, composite in self._views():
            composite.SetLinkedControl(False)
            if view.GetLayoutName() == "Yellow":
                _set_plane(view, plane)
        slicer.app.layoutManager().setLayout(layout)

    @staticmethod
    def _views() -> list[tuple[Any, Any]]:
        logic = slicer.app.applicationLogic()
        found = []
        for name in ("Red", "Yellow"):
            slice_logic = logic.GetSliceLogicByLayoutName(name)
            found.append((slice_logic.GetSliceNode(), slice_logic.GetSliceCompositeNode()))
        return found


def _set_plane(view: Any, plane: vtk.vtkMatrix4x4) -> None:
    view.GetSliceToRAS().DeepCopy(plane)
    view.UpdateMatrices()
