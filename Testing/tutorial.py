"""The README's tutorial, each step a click on the test host; its pictures are taken on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from module_panel import choose_model, listed, wait, wait_for_the_end

MODEL = "hippocampus-mr"
STROKES: dict[str, list[tuple[tuple[float, float, float], float]]] = {
    "anterior": [((-1, 17, -3), 4.0), ((0, 13, -4), 5.5), ((0, 8, -4), 5.5), ((0, 4, -3), 4.5)],
    "posterior": [((1, -1, -2), 4.5), ((2, -7, 0), 4.0), ((3, -13, 3), 3.5), ((3, -17, 6), 3.0)],
}
"""Where the brush goes: positions (RAS, mm) and radii (mm), along a hippocampus."""
MORE: list[tuple[tuple[float, float, float], float]] = [((2, 10, -6), 4.5), ((2, 14, -5), 4.5)]
"""A further stroke in the anterior part."""


class Tutorial:
    """One user's way through the open panel; ``look`` is called at each stage with its name."""

    def __init__(self, host: Any, widget: Any, look: Callable[[str], None]) -> None:
        self.host = host
        self.widget = widget
        self.ui = widget.ui
        self.look = look

    def choose_the_model(self) -> None:
        choose_model(self.widget, MODEL)

    def take_the_example(self) -> None:
        """The first press of two; the second is Synthesize."""
        self.ui.exampleButton.click()
        wait(self.host, lambda: self.widget.panel.labels.fit.ok, lambda: self.ui.fitLabel.text)

    def draw(self) -> None:
        """New canvas, then paint with the segment editor, a segment after the other."""
        self.ui.newCanvasButton.click()
        self._paint()
        self.look("drawn")

    def _paint(self) -> None:
        editor = self.widget.panel.labels.editor.widget
        editor.setActiveEffectByName("Paint")
        for name, stroke in STROKES.items():
            editor.setCurrentSegmentID(name)
            paint_stroke(editor, stroke)
        editor.setActiveEffectByName("")
        wait(self.host, lambda: self.widget.panel.labels.fit.ok, lambda: self.ui.fitLabel.text)
        center_views(self.host, (0, 4, -3))

    def follow_live(self) -> None:
        """Live on: the volume of what is drawn, and of the next stroke; and off again."""
        self.ui.liveCheck.click()
        volume, editor = self.widget.panel.live._volume, self.widget.panel.labels.editor.widget
        wait(self.host, lambda: volume.node is not None, lambda: self.ui.liveStatus.text)
        editor.setActiveEffectByName("Paint")
        editor.setCurrentSegmentID("anterior")
        paint_stroke(editor, MORE)
        wait(self.host, lambda: volume.busy, lambda: self.ui.liveStatus.text)
        wait(self.host, lambda: not volume.busy, lambda: self.ui.liveStatus.text)
        editor.setActiveEffectByName("")
        self.look("live")
        self.ui.liveCheck.click()

    def synthesize(self) -> None:
        """Press Synthesize and watch the volume appear."""
        self.ui.synthesizeButton.click()
        bar, status = self.ui.progressBar, self.ui.statusLabel
        wait(self.host, lambda: bar.value >= bar.maximum / 4 > 0, lambda: status.text)
        self.look("preview")
        wait_for_the_end(self.host, self.widget)
        self.look("result")

    def draw_on_a_scan(self) -> None:
        """What was drawn, drawn anew on a scan; a copy of the last volume stands in for one."""
        import slicer

        from MedDiffusionLib.scene.volumes import results

        last = results()[-1]
        affine = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(last))
        scan = slicer.util.addVolumeFromArray(
            slicer.util.arrayFromVolume(last).copy(), affine, "my scan"
        )
        scan.CreateDefaultDisplayNodes()
        self.host.process_events()
        self.ui.scanSelector.setCurrentNode(scan)
        self.ui.drawOnScanButton.click()
        self._paint()
        self.look("on-scan")

    def change_the_label_map(self) -> None:
        """A volume, then one stroke more: the volume's row says so."""
        self.ui.synthesizeButton.click()
        wait_for_the_end(self.host, self.widget)
        editor = self.widget.panel.labels.editor.widget
        editor.setCurrentSegmentID("anterior")
        paint_stroke(editor, MORE)
        wait(self.host, self._has_changed_row, lambda: listed(self.widget))
        self.look("changed")

    def _has_changed_row(self) -> bool:
        return any("changed since" in row for row in listed(self.widget))

    def look_without_outlines(self) -> None:
        self.ui.outlinesCheck.click()
        self.host.process_events()
        self.look("without outlines")
        self.ui.outlinesCheck.click()

    def make_another(self) -> None:
        """Another seed; the model is loaded by now."""
        self.ui.diceButton.click()
        self.ui.synthesizeButton.click()
        wait_for_the_end(self.host, self.widget)

    def step_through_the_results(self) -> None:
        self.ui.previousButton.click()
        self.ui.nextButton.click()

    def show_in_3d(self) -> None:
        self.ui.renderingCheck.click()
        self.host.process_events(50)
        self.look("3d")
        self.ui.renderingCheck.click()


def _ijk_to_ras(volume: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def paint_stroke(editor: Any, stroke: list[tuple[tuple[float, float, float], float]]) -> None:
    """Paint spheres into the selected segment, through Slicer's segment editor logic.

    This is what its Paint effect does: a modifier label map, added to the segment.
    """
    import slicer
    import vtk.util.numpy_support

    from MedDiffusionLib.scene.segment_images import image_affine

    logic = editor.__dict__["_logic"]
    logic.SaveStateForUndo()
    logic.UpdateReferenceGeometryImage()
    logic.ResetModifierLabelmapToDefault()
    modifier = logic.GetModifierLabelmap()
    size = modifier.GetDimensions()
    indices = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    affine = image_affine(modifier)
    positions = indices @ affine[:3, :3].T + affine[:3, 3]
    painted = np.zeros(size, bool)
    # A stroke: the brush passes over what lies between two of its positions.
    for (start, radius), (end, last) in itertools.pairwise(stroke):
        for share in np.linspace(0, 1, 8):
            center = (1 - share) * np.array(start) + share * np.array(end)
            reach = (1 - share) * radius + share * last
            painted |= np.linalg.norm(positions - center, axis=-1) <= reach
    scalars = vtk.util.numpy_support.vtk_to_numpy(modifier.GetPointData().GetScalars())
    scalars[:] = painted.transpose().ravel()
    modifier.Modified()
    add = slicer.vtkSlicerSegmentEditorLogic.ModificationModeAdd
    segment = editor.currentSegmentID()
    logic.ModifySegmentByLabelmap(editor.segmentationNode(), segment, modifier, add, False, False)


def center_views(host: Any, position: tuple[float, float, float]) -> None:
    """Scroll the slice views to a position."""
    import slicer

    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.JumpSliceByOffsetting(*position)
    host.process_events()
