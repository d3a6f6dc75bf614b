"""The engine's volumes as scalar volume nodes: geometry, display, place, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..volumes.volume import Volume
from .geometry import set_node_affine
from .label_maps import LabelInput
from .synthetic import ATTRIBUTE, LABELS_ROLE


def results() -> list[Any]:
    """The synthetic volumes of the scene, the oldest first."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in volumes if node.GetAttribute(ATTRIBUTE + "model")]


def add_result(
    scene: slicer.vtkMRMLScene,
    volume: Volume,
    source: LabelInput | None,
    name: str,
    display_range: tuple[float, float],
    attributes: Mapping[str, str],
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a synthetic volume in its label map's geometry, beside it and under its transform.

    One that was made from no label map (None) lies where the model put it.
    A volume on the label map's grid gets the node's own affine and parent transform, so that both
    geometries are equal; one on the model's grid stays in the world's frame. Who is told of the new
    node finds all of its facts on it already.
    """
    node = scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(name))
    for key, value in attributes.items():
        node.SetAttribute(key, value)
    label_node = scene.GetNodeByID(source.node_id) if source is not None else None
    if label_node is not None:
        node.SetNodeReferenceID(LABELS_ROLE, label_node.GetID())
    scene.AddNode(node)
    on_labels_grid = source is not None and volume.grid.equals(source.labels.grid)
    affine = source.affine if source is not None and on_labels_grid else volume.affine
    put_voxels(node, volume.array, affine)
    show_in_grays(node, display_range)
    if label_node is not None:
        if on_labels_grid:
            node.SetAndObserveTransformNodeID(label_node.GetTransformNodeID())
        place_beside(scene, node, label_node)
    return node


def save_volume(node: slicer.vtkMRMLScalarVolumeNode, path: str) -> bool:
    """Write a volume to a file; whether it was written.

    A storage node keeps what it complained of, and with a complaint every writing counts as failed.
    """
    storage = node.GetStorageNode()
    if storage is not None:
        storage.GetUserMessages().ClearMessages()
    return bool(slicer.util.saveNode(node, path, {}))


def put_voxels(
    node: slicer.vtkMRMLScalarVolumeNode, array: NDArray, affine: NDArray[np.float64]
) -> None:
    """Set a node's voxels ``[i, j, k]`` and its IJK to RAS matrix."""
    set_node_affine(node, affine)
    slicer.util.updateVolumeFromArray(node, array.transpose())


def show_in_grays(node: slicer.vtkMRMLScalarVolumeNode, display_range: tuple[float, float]) -> None:
    """Display a node in grays over a fixed range, the same for every sample of a model.

    The display node is complete before it meets the volume: none looks for a range of its own,
    which takes long in large volumes.
    """
    display = node.GetScene().CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.UnRegister(None)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*display_range)
    node.GetScene().AddNode(display)
    node.SetAndObserveDisplayNodeID(display.GetID())


def place_beside(
    scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, sibling: slicer.vtkMRMLNode
) -> None:
    """Give the node the sibling's parent in the subject hierarchy: the same study or folder."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    beside = hierarchy.GetItemByDataNode(sibling)
    parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
