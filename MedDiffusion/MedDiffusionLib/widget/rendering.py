"""A result in 3D: the volume, cropped to what is labelled, and the labels' surfaces in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..scene.geometry import node_affine
from ..scene.label_maps import read_label_node
from ..scene.synthetic import LABELS_ROLE

GRAYS_PRESET = "MR-Default"
MARGIN = 3.0
"""What is rendered around the labels, in mm."""
SURFACES = "MedDiffusion.surfaces"
"""The attribute of a segmentation's display whose surfaces are shown for a result."""
SURFACE_OPACITY = 0.6


def show_rendering(node: Any, visible: bool) -> None:
    """Show a result in 3D, cropped to its labels and with their surfaces, or hide it."""
    labels = node.GetNodeReference(LABELS_ROLE)
    logic = slicer.modules.volumerendering.logic()
    display = logic.GetFirstVolumeRenderingDisplayNode(node)
    if display is None and visible:
        display = logic.CreateDefaultVolumeRenderingNodes(node)
        preset = logic.GetPresetByName(GRAYS_PRESET)
        if preset is not None:
            display.GetVolumePropertyNode().Copy(preset)
        box = labelled_box(labels, node) if labels is not None else None
        if box is not None:
            _crop(display, node, *box)
    if display is not None:
        display.SetVisibility(visible)
    if isinstance(labels, slicer.vtkMRMLSegmentationNode):
        _show_surfaces(labels, visible)


def labelled_box(labels: Any, node: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The first and the last corner of what is labelled, with a margin, in voxels of a volume.

    None where nothing is labelled, or where it covers nothing of the volume.
    """
    try:
        read = read_label_node(labels)
    except UserError:
        return None
    ...
