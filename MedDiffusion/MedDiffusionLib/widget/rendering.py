"""A result in 3D: the volume as if of glass, cropped to its labels, and their surfaces in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..compute.errors import UserError
from ..scene.geometry import node_affine
from ..scene.label_maps import read_label_node
from ..scene.synthetic import LABELS_ROLE

GLASS = 0.05
"""The share of its opacity that a volume keeps which surfaces are to be seen in."""
MARGIN = 3.0
"""What is rendered around the labels, in mm."""
SURFACES = "MedDiffusion.surfaces"
"""The attribute of a segmentation's display whose surfaces were made for a result, with the opacity
that they had before."""
SURFACE_OPACITY = 0.8


def show_rendering(node: Any, visible: bool) -> None:
    """Show a result in 3D, cropped to its labels and with their surfaces, or hide it."""
    labels = node.GetNodeReference(LABELS_ROLE)
    logic = slicer.modules.volumerendering.logic()
    display = logic.GetFirstVolumeRenderingDisplayNode(node)
    first = display is None and visible
    if first:
        display = logic.CreateDefaultVolumeRenderingNodes(node)
        if isinstance(labels, slicer.vtkMRMLSegmentationNode):
            _make_glass(display.GetVolumePropertyNode())
        if labels is not None:
            _crop(logic, display, node, labels)
    if display is not None:
        display.SetVisibility(visible)
    if isinstance(labels, slicer.vtkMRMLSegmentationNode):
        if visible:
            _show_surfaces(labels)
        elif not _is_rendered_with(labels):
            hide_surfaces(labels)
    if first:
        slicer.app.layoutManager().resetThreeDViews()


def hide_surfaces(labels: Any) -> None:
    """Take away the surfaces that were made for a result; the user's own stay."""
    display = labels.GetDisplayNode()
    if display is not None and display.GetAttribute(SURFACES):
        labels.RemoveClosedSurfaceRepresentation()
        display.SetOpacity3D(float(display.GetAttribute(SURFACES)))
        display.RemoveAttribute(SURFACES)


def _show_surfaces(labels: Any) -> None:
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if labels.GetSegmentation().ContainsRepresentation(surface):
        return
    labels.CreateClosedSurfaceRepresentation()
    display = labels.GetDisplayNode()
    display.SetAttribute(SURFACES, str(display.GetOpacity3D()))
    display.SetOpacity3D(SURFACE_OPACITY)


def _is_rendered_with(labels: Any) -> bool:
    """Whether some result of this label map is shown in 3D."""
    return any(
        display.GetVisibility()
        and display.GetVolumeNode() is not None
        and display.GetVolumeNode().GetNodeReference(LABELS_ROLE) is labels
        for display in slicer.util.getNodesByClass("vtkMRMLVolumeRenderingDisplayNode")
    )


def _make_glass(property_node: Any) -> None:
    opacity = property_node.GetVolumeProperty().GetScalarOpacity()
    point = [0.0] * 4
    for index in range(opacity.GetSize()):
        opacity.GetNodeValue(index, point)
        point[1] *= GLASS
        opacity.SetNodeValue(index, point)
    property_node.Modified()


def _crop(logic: Any, display: Any, node: Any, labels: Any) -> None:
    """Render no more of a volume than what is labelled, and a margin."""
    try:
        found = read_label_node(labels).labels
    except UserError:
        return  # It is empty by now: all of the volume is shown.
    to_world = vtk.vtkMatrix4x4()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
    # All in the volume's own frame, below its transform; the box lies along its axes.
    affine = np.linalg.inv(slicer.util.arrayFromVTKMatrix(to_world)) @ found.affine
    axes = node_affine(node)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    low, high = found.label_statistics.box(affine, axes)
    place = np.eye(4)
    place[:3, :3] = axes
    place[:3, 3] = axes @ (low + high) / 2
    if np.linalg.det(axes) < 0:
        place[:3, 2] *= -1  # The same box, in a frame that is right-handed.
    roi = logic.CreateROINode(display)
    roi.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(place))
    roi.SetSize(*(high - low + 2 * MARGIN))
    roi.CreateDefaultDisplayNodes()
    roi.SetDisplayVisibility(False)
    display.SetCroppingEnabled(True)
