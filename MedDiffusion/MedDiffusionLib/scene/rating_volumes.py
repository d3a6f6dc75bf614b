"""The volumes of a case in the scene: always the same nodes, which tell nothing but voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..volumes.volume import Volume
from .geometry import set_node_affine
from .translation import _
from .volumes import show_in_grays


class CaseVolumes:
    """One node for each of a case's volumes, made once; each case lends them its voxels.

    They have no storage, no attributes of their own, and are neither saved with the scene nor
    listed in selectors and the subject hierarchy.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []

    @property
    def nodes(self) -> list[Any]:
        """The nodes, in the order of the alternatives; those that the scene still has."""
        found = (slicer.mrmlScene.GetNodeByID(node_id) for node_id in self._ids)
        return [node for node in found if node is not None]

    def show(self, volumes: Sequence[Volume], window: tuple[float, float]) -> None:
        """Put the voxels of a case into the nodes, with the window of all cases."""
        if len(self.nodes) != len(volumes):
            self.remove()
            self._ids = [_new_node(n, len(volumes)).GetID() for n in range(1, len(volumes) + 1)]
        for node, volume in zip(self.nodes, volumes, strict=True):
            modified = node.StartModify()
            set_node_affine(node, volume.affine)
            node.SetAndObserveImageData(_image(volume))
            node.EndModify(modified)
            self._show_as_always(node, window)

    def remove(self) -> None:
        """Take the nodes, with their displays, out of the scene."""
        for node in self.nodes:
            display = node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(node)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)
        self._ids = []

    @staticmethod
    def _show_as_always(node: Any, window: tuple[float, float]) -> None:
        if node.GetDisplayNode() is None:
            show_in_grays(node, window)
            node.GetDisplayNode().SetSaveWithScene(False)
        display = node.GetDisplayNode()
        modified = display.StartModify()
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*window)
        display.SetApplyThreshold(False)
        display.SetInvertDisplayScalarRange(False)
        display.SetInterpolate(True)
        display.EndModify(modified)


def other_data() -> list[str]:
    """The names of what the scene holds that a user, or a module, has put there.

    Slicer itself has colors there, a camera for each 3D view, and hidden models of the slices.
    """
    nodes = slicer.util.getNodesByClass("vtkMRMLStorableNode")
    return [
        node.GetName() or node.GetID()
        for node in nodes
        if not node.GetHideFromEditors()
        and not node.GetSingletonTag()
        and not isinstance(node, slicer.vtkMRMLColorNode | slicer.vtkMRMLCameraNode)
    ]


def _new_node(number: int, count: int) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(_("Volume {number}").format(number=number) if count > 1 else _("Volume"))
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    hierarchy = slicer.vtkMRMLSubjectHierarchyConstants
    node.SetAttribute(hierarchy.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")
    return slicer.mrmlScene.AddNode(node)


def _image(volume: Volume) -> Any:
    """The voxels as VTK's image, in the memory where they are: VTK holds the array."""
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.array.shape)
    flat = volume.array.ravel(order="K")
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=False, array_type=vtk.VTK_SHORT))
    return image
