"""The section Label map and the views, by clicks: drawing on a scan, and what lies over what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shiboken6

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    add_label_map,
    backgrounds,
    choose_model,
    drawn,
    home,
    module,
    own_user_folder,
    paint,
    panel,
    tiny,
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

OBLIQUE = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])


def add_scan(name: str = "scan", affine: Any = OBLIQUE) -> Any:
    import slicer.util

    values = np.arange(20 * 18 * 16, dtype=np.float32).reshape(20, 18, 16)
    node = slicer.util.addVolumeFromArray(values, affine, name)
    node.CreateDefaultDisplayNodes()
    return node


def result_of(label_node: Any, name: str) -> Any:
    """A volume as a synthesis of a label map leaves it."""
    import slicer.util

    from MedDiffusionLib.scene.synthetic import LABELS_ROLE

    node = slicer.util.addVolumeFromArray(np.ones((16, 16, 16), np.float32), name=name)
    node.SetAttribute("MedDiffusion.model", "tiny")
    node.SetNodeReferenceID(LABELS_ROLE, label_node.GetID())
    return node


def slice_views() -> list[Any]:
    import slicer.util

    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))


def label_layers() -> set[str | None]:
    import slicer.util

    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {composite.GetLabelVolumeID() for composite in composites}


# ---- Drawing on a scan


def test_without_a_scan_there_is_nothing_to_draw_on(host: Any, panel: Any) -> None:
    panel.ui.newCanvasButton.click()  # Its volume is no scan.
    host.process_events()
    assert panel.ui.drawOnScanButton.toolTip == "There is no scan to draw on: load one."
    assert not panel.ui.drawOnScanButton.enabled


def test_one_press_makes_the_models_labels_on_the_scan_in_its_place(host: Any, panel: Any) -> None:
    import slicer.util

    from MedDiffusionLib.widget.views import source_image

    scan = add_scan()
    moved = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    scan.SetAndObserveTransformNodeID(moved.GetID())
    host.process_events()
    assert panel.ui.scanSelector.currentNode() is scan
    panel.ui.drawOnScanButton.click()
    node = panel.panel.parameters.label_node
    assert node.GetName() == "scan tiny labels"
    assert node.GetParentTransformNode() is moved
    assert source_image(node) is scan
    assert backgrounds() == ["scan"] * 3
    assert panel.ui.editorSection.collapsed is False
    segments = node.GetSegmentation()
    assert [segments.GetNthSegment(i).GetName() for i in range(2)] == ["anterior", "posterior"]
    mask = np.zeros((20, 18, 16), np.uint8)
    mask[5:15, 4:12, 3:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "anterior", scan)
    from MedDiffusionLib.scene.label_maps import read_label_node

    read = read_label_node(node)
    assert (read.labels.array == mask.transpose()).all()
    np.testing.assert_allclose(read.labels.affine, matrix @ OBLIQUE, atol=1e-6)


def test_a_scan_that_nothing_can_be_made_on_says_why(host: Any, panel: Any) -> None:
    import slicer.util

    scan = add_scan()
    shear = np.eye(4)
    shear[0, 1] = 1
    bent = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bent")
    bent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shear))
    scan.SetAndObserveTransformNodeID(bent.GetID())
    host.process_events()
    assert "bent shears the voxels of scan" in panel.ui.drawOnScanButton.toolTip
    result = result_of(scan, "made")
    panel.ui.scanSelector.setCurrentNode(result)
    assert panel.ui.drawOnScanButton.toolTip == "made holds no scan: choose another volume."


# ---- Problems 3, 4 and 10: the segment editor


def test_one_can_draw_after_a_scene_was_closed_while_the_panel_was_left(
    host: Any, panel: Any
) -> None:
    panel.exit()
    host.scene.Clear(0)
    panel.enter()
    choose_model(panel, "tiny")
    panel.ui.newCanvasButton.click()
    editor = panel.panel.labels.editor.widget
    assert editor.segmentationNode() is panel.panel.parameters.label_node is not None
    assert editor.enabled


def test_a_label_map_chosen_while_the_panel_was_left_can_be_drawn_in(host: Any, panel: Any) -> None:
    panel.ui.newCanvasButton.click()
    node = panel.panel.parameters.label_node
    panel.exit()
    panel.panel.labels.editor.on_start_close()
    panel.panel.labels.show()
    panel.enter()
    assert panel.panel.labels.editor.widget.segmentationNode() is node
    assert panel.panel.labels.editor.widget.enabled


def test_the_editor_leaves_the_views_alone(host: Any, drawn: Any) -> None:
    import slicer

    result = result_of(drawn.panel.parameters.label_node, "made")
    drawn.panel.results.choose(result)
    assert backgrounds() == ["made"] * 3
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    drawn.exit()
    drawn.enter()
    assert backgrounds() == ["made"] * 3


def test_keys_and_brush_work_only_while_the_section_draw_is_open(panel: Any) -> None:
    panel.ui.newCanvasButton.click()
    editor = panel.panel.labels.editor.widget
    assert editor.shortcuts == 1
    editor.setActiveEffectByName("Paint")
    panel.ui.editorSection.collapsed = True
    assert editor.shortcuts == 0
    assert editor.mrmlSegmentEditorNode().GetActiveEffectName() == ""
    panel.exit()
    panel.ui.editorSection.collapsed = False
    assert editor.shortcuts == 0
    panel.enter()
    assert editor.shortcuts == 1


# ---- Problem 7: what lies over a result


def test_over_a_result_lie_the_outlines_of_its_own_label_map_alone(host: Any, drawn: Any) -> None:
    first = drawn.panel.parameters.label_node
    drawn.ui.newCanvasButton.click()
    paint(drawn, "posterior")
    second = drawn.panel.parameters.label_node
    other = add_label_map("other", np.ones((16, 16, 16), np.int16))
    drawn.panel.parameters.label_node = other
    assert label_layers() == {other.GetID()}
    results = [result_of(node, node.GetName()) for node in (first, second, other)]

    def shown() -> list[int]:
        return [node.GetDisplayNode().GetVisibility2D() for node in (first, second)]

    drawn.panel.results.choose(results[0])
    assert (shown(), label_layers()) == ([1, 0], {None})
    drawn.panel.results.choose(results[1])
    assert (shown(), label_layers()) == ([0, 1], {None})
    drawn.panel.results.choose(results[2])
    assert (shown(), label_layers()) == ([0, 0], {other.GetID()})
    assert all(view.GetUseLabelOutline() for view in slice_views())
    drawn.panel.parameters.label_node = first
    assert shown() == [1, 0]
    drawn.panel.results.choose(results[0])
    assert not any(view.GetUseLabelOutline() for view in slice_views())


def test_a_segmentation_that_the_user_hides_stays_hidden(host: Any, drawn: Any) -> None:
    from MedDiffusionLib.widget.views import show_filled, show_outlines

    node = drawn.panel.parameters.label_node
    node.GetDisplayNode().SetVisibility2D(False)
    show_outlines(node, True)
    show_filled(node)
    assert not node.GetDisplayNode().GetVisibility2D()


# ---- Problem 11


def test_a_label_map_volume_is_shown_when_it_is_chosen_and_the_slices_lie_in_its_planes(
    host: Any, panel: Any
) -> None:
    import slicer.util

    node = add_label_map("map", np.ones((16, 16, 16), np.int16))
    far = OBLIQUE.copy()
    far[:3, 3] = 500
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(far))
    panel.ui.labelSelector.setCurrentNode(node)
    assert label_layers() == {node.GetID()}
    for view in slice_views():
        matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
        aligned = np.abs(matrix[:3, :3].T @ OBLIQUE[:3, :3])
        np.testing.assert_allclose(np.sort(aligned, axis=1), [[0, 0, 1]] * 3, atol=1e-6)
        distance = (np.linalg.inv(far) @ matrix[:, 3])[:3]
        assert ((distance > -1) & (distance < 17)).any()


def test_a_loaded_scene_shows_what_it_showed(host: Any, panel: Any) -> None:
    node = add_label_map("map", np.ones((16, 16, 16), np.int16))
    panel.panel.parameters.label_node = node
    import slicer.util

    slicer.util.setSliceViewerLayers(label=None)
    parameters = panel.panel.parameters
    panel.panel.labels.set_parameters(None)
    panel.panel.labels.set_parameters(parameters)
    assert label_layers() == {None}


def test_a_choice_in_the_table_may_change_its_rows_while_its_signal_runs(
    host: Any, panel: Any
) -> None:
    import slicer.util

    node = add_label_map("foreign", np.full((16, 16, 16), 7, np.int16))
    panel.panel.parameters.label_node = node
    form = panel.ui.tableRows.layout()
    box = form.itemAt(1).widget()
    slicer.util.arrayFromVolume(node)[:8] = 9
    slicer.util.arrayFromVolumeModified(node)
    alive: list[bool] = []
    box.connect("currentIndexChanged(int)", lambda index: alive.append(shiboken6.isValid(box)))
    box.currentIndex = 1
    assert alive == [True]
    assert [form.itemAt(i).widget().text for i in (0, 2)] == ["7", "9"]


def test_reload_keeps_the_model_and_the_label_map(host: Any, drawn: Any) -> None:
    import slicer

    node = drawn.panel.parameters.label_node
    slicer.util.reloadScriptedModule("MedDiffusion")
    widget = slicer.modules.meddiffusion.widgetRepresentation().self()
    assert widget is not drawn
    assert "Tiny untrained model" in widget.ui.modelCard.text
    assert widget.ui.labelSelector.currentNode() is node
    assert widget.panel.labels.editor.widget.segmentationNode() is node


def test_the_module_has_its_icon_in_the_source_tree(host: Any, module: Any) -> None:
    assert not module.icon.isNull()
