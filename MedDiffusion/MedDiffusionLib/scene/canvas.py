"""New segmentations for a model: an empty canvas to draw on, or a label map as segments."""

from __future__ import annotations

import numpy as np
import slicer

from ..bundles.manifest import Label, Manifest
from ..volumes.segments import terminology_entry
from ..volumes.volume import Grid, Segment, Volume
from .volumes import put_voxels, show_in_grays


def new_canvas(
    scene: slicer.vtkMRMLScene, manifest: Manifest, name: str
) -> tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLScalarVolumeNode]:
    """An empty segmentation with the model's labels as segments, and the volume it is drawn on.

    The volume is empty, on the model's grid, centered at RAS (0, 0, 0): the segment editor needs
    one to know where voxels are.
    """
    return _add(scene, manifest, manifest.grid.centered(), name)


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
        "vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(f"{name} grid")
    )
    put_voxels(volume, np.zeros(grid.size, np.uint8, order="F"), grid.affine)
    show_in_grays(volume, (0, 255))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for label in manifest.labels:
        _add_segment(node, label)
    return node, volume


def _add_segment(node: slicer.vtkMRMLSegmentationNode, label: Label) -> None:
    """The label as an empty segment: its name is the segment ID, too."""
    color = [c / 255 for c in label.color]
    segment_id = node.GetSegmentation().AddEmptySegment(label.name, label.name, color)
    if label.code:
        node.GetSegmentation().GetSegment(segment_id).SetTag(
            slicer.vtkSegment.GetTerminologyEntryTagName(),
            terminology_entry(Segment(label.value, label.name, label.code)),
        )
