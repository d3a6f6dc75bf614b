"""A result in 3D: the volume, cropped to what is labelled, and the labels' surfaces in it."""

from __future__ import annotations

from typing import Any

import slicer

GRAYS_PRESET = "MR-Default"


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
