"""New segmentations for a model: empty ones to draw in, on a scan or on nothing, or filled ones."""

from __future__ import annotations

import numpy as np
import slicer

from ..bundles.manifest import Label, Manifest
from ..volumes.segments import terminology_entry
from ..volumes.volume import Grid, Segment, Volume
from .geometry import world_affine
from .synthetic import ATTRIBUTE, is_synthetic
from .translation import _
from .volumes import place_beside, put_voxels, show_in_grays

CANVAS = ATTRIBUTE + "canvas"
"""The attribute of the empty volumes that are drawn on where there is no scan."""


def new_canvas(
    scene: slicer.vtkMRMLScene, manifest: Manifest, name: str
) -> tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLScalarVolumeNode]:
    """An empty segmentation with the model's labels as segments, and the volume it is drawn on.

    The volume is empty, on the model's grid, centered at RAS (0, 0, 0): the segment editor needs
    one to know where voxels are.
    """
    return _add(scene, manifest, manifest.grid.centered(), name)


def is_scan(node: slicer.vtkMRMLVolumeNode | None) -> bool:
    """Whether a volume is an image that one may want to draw on: neither ours nor hidden."""
    return (
        node is not None
        and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData() is not None
        and not node.GetAttribute(CANVAS)
        and not is_synthetic(node)
    )


def draw_on(
    scene: slicer.vtkMRMLScene,
    manifest: Manifest,
    scan: slicer.vtkMRMLScalarVolumeNode,
    name: str,
) -> slicer.vtkMRMLSegmentationNode:
    """An empty segmentation with the model's labels on a scan: in its geometry, and where it lies.

    It lies under the scan's parent transform, and beside it in the subject hierarchy. Raises
    UserError where no volume can be made of what is drawn there.
    """
    world_affine(scan, np.eye(4))
    node = _add_segmentation(scene, manifest, scan, name)
    place_beside(scene, node, scan)
    return node


def add_label_map(
    scene: slicer.vtkMRMLScene, manifest: Manifest, labels: Volume, name: str
) -> tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLScalarVolumeNode]:
    """A label map with the model's label values as a segmentation, and an empty volume under it."""
    segmentation, volume = _add(scene, manifest, labels.grid, name)
    for label in manifest.labels:
        mask = (labels.array == label.value).astype(np.uint8).transpose()
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, label.name, volume)
    return segmentation, volume


def _add(
    scene: slicer.vtkMRMLScene, manifest: Manifest, grid: Grid, name: str
) -> tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLScalarVolumeNode]:
    volume = scene.AddNewNodeByClass(
        "vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(_("{name} grid").format(name=name))
    )
    put_voxels(volume, np.zeros(grid.size, np.uint8, order="F"), grid.affine)
    show_in_grays(volume, (0, 255))
    volume.SetAttribute(CANVAS, "1")
    return _add_segmentation(scene, manifest, volume, name), volume


def _add_segmentation(
    scene: slicer.vtkMRMLScene, manifest: Manifest, volume: slicer.vtkMRMLVolumeNode, name: str
) -> slicer.vtkMRMLSegmentationNode:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    # Before the geometry, which is the volume's as seen from under the same transform.
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for label in manifest.labels:
        _add_segment(node, label)
    return node


def _add_segment(node: slicer.vtkMRMLSegmentationNode, label: Label) -> None:
    """The label as an empty segment: its name is the segment ID, too."""
    color = [c / 255 for c in label.color]
    segment_id = node.GetSegmentation().AddEmptySegment(label.name, label.name, color)
    if label.code:
        node.GetSegmentation().GetSegment(segment_id).SetTag(
            slicer.vtkSegment.GetTerminologyEntryTagName(),
            terminology_entry(Segment(label.value, label.name, label.code)),
        )
