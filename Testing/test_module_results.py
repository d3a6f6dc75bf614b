"""The panel's section Results: looking through, comparing and keeping volumes, by clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import all_nodes, backgrounds, drawn, module, panel, synthesize, tiny

__all__ = ["drawn", "host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def test_stepping_through_the_results_shows_them_in_the_views(host: Any, drawn: Any) -> None:
    ui, name = drawn.ui, "tiny labels synthetic T1w"
    ui.samplesSpinBox.value = 3
    synthesize(host, drawn)
    assert ui.previousButton.toolTip == "This is the first volume."
    ui.nextButton.click()
    ui.nextButton.click()
    assert backgrounds() == [f"{name} 2"] * 3
    assert (ui.nextButton.enabled, ui.nextButton.toolTip) == (False, "This is the last volume.")
    ui.resultList.currentRow = 1
    assert backgrounds() == [f"{name} 1"] * 3
    ui.deleteButton.click()
    assert backgrounds() == [f"{name} 2"] * 3
    assert [ui.resultList.item(i).text() for i in range(ui.resultList.count)] == [
        f"{name} 0",
        f"{name} 2",
    ]
    ui.deleteButton.click()
    ui.deleteButton.click()
    assert ui.resultList.count == 0
    assert ui.deleteButton.toolTip == "There are no synthetic volumes yet."


def test_a_deleted_result_takes_everything_of_its_own_along(host: Any, drawn: Any) -> None:
    before = {node.GetID() for node in all_nodes()}
    synthesize(host, drawn)
    drawn.ui.renderingCheck.click()
    drawn.ui.deleteButton.click()
    # What the subject hierarchy and volume rendering make once per scene, they keep.
    left = [node.GetClassName() for node in all_nodes() if node.GetID() not in before]
    print(left)
    assert not [name for name in left if "Volume" in name and "Scenario" not in name]


def test_outlines_are_shown_and_hidden_and_a_brush_brings_them_back(host: Any, drawn: Any) -> None:
    synthesize(host, drawn)
    display = drawn.panel.parameters.label_node.GetDisplayNode()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
    drawn.ui.outlinesCheck.click()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 0)
    drawn.panel.labels.editor.widget.setActiveEffectByName("Paint")
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (1, 1)


def test_a_label_map_volume_works_too_and_is_shown_as_outlines(host: Any, panel: Any) -> None:
    import slicer.util

    array = np.zeros((16, 16, 16), np.int16)
    array[4:8, 4:12, 4:12], array[8:12, 4:12, 4:12] = 1, 2
    node = slicer.util.addVolumeFromArray(
        array, name="map", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    panel.ui.labelSelector.setCurrentNode(node)
    assert not panel.ui.editorSection.enabled
    synthesize(host, panel)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert [one.GetLabelVolumeID() for one in composites] == [node.GetID()] * 3
    assert all(v.GetUseLabelOutline() for v in slicer.util.getNodesByClass("vtkMRMLSliceNode"))
    panel.ui.outlinesCheck.click()
    assert [one.GetLabelVolumeID() for one in composites] == [None] * 3
    assert panel.ui.sideBySideCheck.toolTip.endswith("was not drawn on an image.")


def test_the_source_image_is_shown_beside_the_result(host: Any, drawn: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.views import source_volume

    image = source_volume(drawn.panel.parameters.label_node)
    image.SetName("scan")
    slicer.util.arrayFromVolume(image)[:] = np.arange(16)
    slicer.util.arrayFromVolumeModified(image)
    synthesize(host, drawn)
    manager = slicer.app.layoutManager()
    yellow = manager.sliceWidget("Yellow").mrmlSliceNode()
    before = (manager.layout, yellow.GetOrientation())
    drawn.ui.sideBySideCheck.click()
    assert manager.sliceViewNames() == ("Red", "Yellow")
    logic = slicer.app.applicationLogic()
    for view, name in (("Red", "scan"), ("Yellow", "tiny labels synthetic T1w 0")):
        composite = logic.GetSliceLogicByLayoutName(view).GetSliceCompositeNode()
        shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
        assert shown.GetName() == name
    assert yellow.GetOrientation() == "Axial"
    drawn.ui.sideBySideCheck.click()
    assert (manager.layout, yellow.GetOrientation()) == before
    assert backgrounds() == ["tiny labels synthetic T1w 0"] * 3


def test_a_result_is_rendered_in_3d_and_the_others_are_not(host: Any, drawn: Any) -> None:
    import slicer

    drawn.ui.samplesSpinBox.value = 2
    synthesize(host, drawn)
    drawn.ui.renderingCheck.click()
    first = drawn.panel.parameters.result
    drawn.ui.nextButton.click()
    second = drawn.panel.parameters.result
    logic = slicer.modules.volumerendering.logic()
    find = logic.GetFirstVolumeRenderingDisplayNode
    assert (find(first).GetVisibility(), find(second).GetVisibility()) == (0, 1)
    drawn.ui.renderingCheck.click()
    assert find(second).GetVisibility() == 0


def test_a_result_is_saved_where_the_user_says(host: Any, drawn: Any, tmp_path: Path) -> None:
    from host import dialogs

    synthesize(host, drawn)
    (tmp_path / "file").touch()
    names = [str(tmp_path / "mine.nrrd"), "", str(tmp_path / "file" / "mine.nrrd")]
    dialogs.answers["QFileDialog.getSaveFileName"] = names
    drawn.ui.saveButton.click()
    assert (tmp_path / "mine.nrrd").stat().st_size > 0
    assert drawn.ui.resultStatus.text == "Saved mine.nrrd."
    drawn.ui.saveButton.click()
    drawn.ui.saveButton.click()
    assert "file/mine.nrrd cannot be written" in drawn.ui.resultStatus.text
    dialogs.shown.clear()
