"""The sections Model, Label map and Results, by clicks: what is decided is shown and passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from host import missing
from host.fixtures import host, started_host
from module_panel import (
    add_label_map,
    add_results,
    all_nodes,
    backgrounds,
    choose_model,
    drawn,
    home,
    listed,
    module,
    own_user_folder,
    paint,
    panel,
    synthesize,
    tiny,
    wait,
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def test_every_control_says_what_it_does_or_why_it_cannot(panel: Any) -> None:
    import qt

    kinds = (qt.QPushButton, qt.QCheckBox, qt.QComboBox, qt.QAbstractSpinBox, qt.QListWidget)
    controls = {name: one for name, one in vars(panel.ui).items() if isinstance(one, kinds)}
    assert [name for name, control in controls.items() if not control.toolTip] == []
    for name, reason in {
        "synthesizeButton": "Choose a label map, or make one: begin with Example.",
        "exampleButton": "There is no example for this model.",
        "deleteButton": "There are no synthetic volumes yet.",
        "trainButton": "The module MedDiffusionTrain is not loaded: add the folder CLI to the "
        "paths.",
        "editorSection": "Only a segmentation can be drawn in: choose one.",
    }.items():
        control = getattr(panel.ui, name)
        assert (control.enabled, control.toolTip) == (False, reason)


# ---- Model


def test_the_chosen_models_card_is_shown_and_an_unusable_ones_reason(
    panel: Any, own_user_folder: Path
) -> None:
    import qt

    assert "Tiny untrained model" in panel.ui.modelCard.text
    assert "ddim, 2 steps" in panel.ui.modelDetails.text
    broken = own_user_folder / "models" / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{")
    panel.exit()
    panel.enter()
    choose_model(panel, "broken")
    selector = panel.ui.modelSelector
    assert selector.currentText == "broken: unusable"
    assert "is damaged" in selector.itemData(selector.currentIndex, qt.Qt.ToolTipRole)
    assert "is damaged" in panel.ui.modelCard.text
    assert panel.ui.synthesizeButton.toolTip == panel.ui.modelCard.text
    assert not panel.ui.modelDetailsSection.visible


def test_an_imported_model_is_chosen_and_one_that_is_not_to_be_replaced_stays(
    host: Any, panel: Any, tmp_path: Path
) -> None:
    import qt

    from host import dialogs

    mine = make_bundle(tmp_path / "mine", title="Mine")
    newer = make_bundle(tmp_path / "tiny", title="Newer")
    dialogs.answers["QFileDialog.getOpenFileName"] = [
        str(mine / "model.json"),
        str(newer / "model.json"),
        "",
        str(tmp_path / "model.json"),
    ]
    dialogs.answers["QMessageBox"] = [qt.QMessageBox.Cancel]
    panel.ui.importModelButton.click()
    assert panel.panel.parameters.model == "mine"
    assert "Mine" in panel.ui.modelCard.text
    assert panel.ui.modelStatus.text == "Imported mine."
    choose_model(panel, "tiny")
    panel.ui.importModelButton.click()
    assert dialogs.shown[-1].text == "There is a model tiny already. Replace it?"
    assert "Newer" not in panel.ui.modelCard.text
    panel.ui.importModelButton.click()  # Cancelled in the dialog.
    panel.ui.importModelButton.click()
    assert "is no model bundle" in panel.ui.modelStatus.text
    assert panel.panel.parameters.model == "tiny"
    dialogs.shown.clear()


def test_a_model_is_exported_and_one_of_ones_own_deleted(
    host: Any, panel: Any, tmp_path: Path
) -> None:
    from host import dialogs

    dialogs.answers["QFileDialog.getSaveFileName"] = ["", str(tmp_path / "tiny.zip")]
    panel.ui.exportModelButton.click()  # Cancelled.
    panel.ui.exportModelButton.click()
    assert panel.ui.modelStatus.text.startswith("Exported tiny.zip.")
    assert (tmp_path / "tiny.zip").stat().st_size > 0
    panel.ui.deleteModelButton.click()
    assert dialogs.shown[-1].text.startswith("Delete the model tiny for good")
    assert panel.panel.parameters.model == "hippocampus-mr"
    assert panel.ui.modelSelector.findData("tiny") < 0
    assert not panel.ui.deleteModelButton.enabled
    dialogs.shown.clear()


def test_the_models_folder_is_opened(host: Any, panel: Any, own_user_folder: Path) -> None:
    from host import dialogs

    panel.ui.modelsFolderButton.click()
    assert dialogs.shown[-1].text == f"file://{own_user_folder / 'models'}"
    dialogs.shown.clear()


# ---- Label map


def test_a_new_canvas_is_ready_to_draw_on(panel: Any) -> None:
    import slicer

    panel.ui.newCanvasButton.click()
    node = panel.panel.parameters.label_node
    assert panel.ui.labelSelector.currentNode() is node
    segmentation = node.GetSegmentation()
    names = [segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()]
    assert names == ["anterior", "posterior"]
    editor = panel.panel.labels.editor.widget
    assert editor.segmentationNode() is node
    assert slicer.util.arrayFromVolume(editor.sourceVolumeNode()).shape == (16, 16, 16)
    assert editor.currentSegmentID() == "anterior"
    assert (panel.ui.editorSection.collapsed, panel.ui.editorSection.enabled) == (False, True)


def test_the_fit_follows_the_brush_and_is_looked_at_once_a_stroke(
    host: Any, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedDiffusionLib.widget import label_panel
    from MedDiffusionLib.widget.presenters.fit import describe_fit

    looks: list[Any] = []

    def describe(*arguments: Any) -> Any:
        looks.append(arguments)
        return describe_fit(*arguments)

    monkeypatch.setattr(label_panel, "describe_fit", describe)
    panel.ui.newCanvasButton.click()
    assert "is empty: draw at least one of anterior, posterior" in panel.ui.fitLabel.text
    for seed in range(5):
        panel.ui.seedSpinBox.value = 10 + seed
    assert len(looks) == 1
    paint(panel, "anterior")
    wait(host, lambda: panel.ui.synthesizeButton.enabled, lambda: panel.ui.fitLabel.text)
    assert panel.ui.fitLabel.text.startswith("✓")
    assert len(looks) == 2
    node = panel.panel.parameters.label_node
    node.GetSegmentation().GetSegment("anterior").SetName("liver")
    node.GetSegmentation().GetSegment("anterior").SetTag("TerminologyEntry", "")
    wait(host, lambda: not panel.ui.synthesizeButton.enabled, lambda: panel.ui.fitLabel.text)
    assert "has liver, which tiny does not know" in panel.ui.fitLabel.text
    assert panel.ui.synthesizeButton.toolTip == panel.ui.fitLabel.text


def test_a_label_map_under_a_shearing_transform_says_why_it_cannot_be_used(
    host: Any, panel: Any
) -> None:
    import slicer.util

    node = add_label_map("map", np.ones((4, 4, 4), np.int16))
    transform = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bent")
    shear = np.eye(4)
    shear[0, 1] = 1
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shear))
    node.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.labelSelector.setCurrentNode(node)
    assert "bent shears the voxels of map" in panel.ui.fitLabel.text
    assert panel.ui.synthesizeButton.toolTip == panel.ui.fitLabel.text


def test_a_look_at_a_large_label_map_takes_in_so_many_voxels_and_no_more(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedDiffusionLib.scene import label_maps, segment_images
    from MedDiffusionLib.volumes.label_statistics import label_values
    from MedDiffusionLib.widget.label_panel import drawn_in

    array = np.zeros((20, 20, 20), np.int16)
    array[10:15] = 2
    node = add_label_map("large", array)
    looked: list[int] = []

    def count(voxels: Any) -> list[int]:
        looked.append(voxels.size)
        return label_values(voxels)

    monkeypatch.setattr(label_maps, "label_values", count)
    monkeypatch.setattr(segment_images, "LOOKED_AT", 1000)
    found = drawn_in(node)
    assert found is not None
    assert (found.name, found.values) == ("large", [2])
    assert sum(looked) <= 1000


def test_example_random_and_vary_become_segmentations_that_fit(
    host: Any, panel: Any, own_user_folder: Path
) -> None:
    import slicer.util

    from MedDiffusionLib.widget.views import source_volume

    choose_model(panel, "hippocampus-mr")
    fits = "fits the model: anterior, posterior."
    panel.ui.exampleButton.click()
    assert panel.panel.parameters.label_node.GetName() == "hippocampus example"
    assert panel.ui.fitLabel.text.endswith(fits)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 0
    panel.ui.randomButton.click()
    assert panel.ui.randomButton.toolTip == "A label map is being drawn."
    host.scene.Clear(0)  # Takes the drawing along: it can be started again.
    assert panel.ui.randomButton.enabled
    panel.ui.randomButton.click()
    wait(host, lambda: panel.panel.parameters.label_node is not None)
    assert panel.panel.parameters.label_node.GetName().startswith("hippocampus-mr random ")
    assert panel.ui.fitLabel.text.endswith(fits)
    assert panel.ui.randomButton.enabled
    before = panel.panel.parameters.label_node
    panel.ui.varyButton.click()
    assert not panel.ui.varyButton.enabled and not panel.ui.randomButton.enabled
    wait(host, lambda: panel.panel.parameters.label_node is not before)
    varied = panel.panel.parameters.label_node
    assert varied.GetName().startswith(before.GetName() + " varied ")
    assert panel.ui.fitLabel.text.endswith(fits)
    assert panel.ui.varyButton.enabled
    grid = source_volume(before)
    one, other = (
        slicer.util.arrayFromSegmentBinaryLabelmap(node, "anterior", grid)
        for node in (before, varied)
    )
    assert one.any() and other.any() and (one != other).any()


def rows(panel: Any) -> dict[str, Any]:
    """The rows of the table of foreign labels, and what is chosen with."""
    form = panel.ui.tableRows.layout()
    widgets = [form.itemAt(index).widget() for index in range(form.count())]
    return {label.text: one for label, one in zip(widgets[::2], widgets[1::2], strict=True)}


def test_foreign_labels_are_chosen_in_a_table_and_keep_their_meaning(host: Any, panel: Any) -> None:
    array = np.zeros((16, 16, 16), np.int16)
    array[4:8, 4:12, 4:12], array[8:12, 4:12, 4:12], array[12:14] = 7, 3, 9
    assert not panel.ui.tableSection.visible
    panel.panel.parameters.label_node = add_label_map("foreign", array)
    assert {name: one.currentText for name, one in rows(panel).items()} == {
        "3": "choose…",
        "7": "choose…",
        "9": "choose…",
    }
    for name, label in (("3", "posterior"), ("7", "anterior")):
        choice = rows(panel)[name]
        choice.currentIndex = choice.findText(label)
    assert panel.ui.fitLabel.text.startswith("foreign has 9, which tiny does not know")
    panel.ui.leaveOutButton.click()
    assert rows(panel)["9"].currentText == "leave out"
    assert panel.ui.fitLabel.text == "✓ foreign fits the model: anterior, posterior."
    overridden = synthesized(host, panel)
    own = np.zeros_like(array)
    own[array == 7], own[array == 3] = 1, 2
    panel.panel.parameters.label_node = add_label_map("own", own)
    assert not panel.ui.tableSection.visible
    assert (synthesized(host, panel) == overridden).all()


def synthesized(host: Any, panel: Any) -> Any:
    import slicer.util

    synthesize(host, panel)
    assert panel.ui.statusLabel.text == ""
    return slicer.util.arrayFromVolume(panel.panel.parameters.result).copy()


# ---- Results


@pytest.fixture
def three(drawn: Any) -> Any:
    """The panel with three volumes of its label map, the first chosen."""
    add_results(drawn, [f"volume {n}" for n in range(3)])
    return drawn


def test_stepping_and_deleting_show_in_the_list_and_in_the_views(host: Any, three: Any) -> None:
    ui = three.ui
    assert listed(three) == ["volume 0", "volume 1", "volume 2"]
    assert ui.resultList.item(0).toolTip() == "model: tiny"
    assert ui.previousButton.toolTip == "This is the first volume."
    ui.nextButton.click()
    ui.nextButton.click()
    assert backgrounds() == ["volume 2"] * 3
    assert not ui.nextButton.enabled
    ui.resultList.currentRow = 1
    assert backgrounds() == ["volume 1"] * 3
    ui.deleteButton.click()
    assert backgrounds() == ["volume 2"] * 3
    assert listed(three) == ["volume 0", "volume 2"]
    ui.deleteButton.click()
    ui.deleteButton.click()
    assert listed(three) == []
    assert ui.deleteButton.toolTip == "There are no synthetic volumes yet."


def test_one_volume_is_rendered_in_3d_and_takes_all_of_its_own_along(host: Any, three: Any) -> None:
    import slicer

    before = {node.GetID() for node in all_nodes()}
    three.ui.renderingCheck.click()
    first = three.panel.parameters.result
    three.ui.nextButton.click()
    second = three.panel.parameters.result
    find = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode
    assert (find(first).GetVisibility(), find(second).GetVisibility()) == (0, 1)
    three.ui.renderingCheck.click()
    assert find(second).GetVisibility() == 0
    three.ui.previousButton.click()
    for _volume in range(3):
        three.ui.deleteButton.click()
    # What the subject hierarchy and volume rendering make once per scene, they keep.
    left = [node.GetClassName() for node in all_nodes() if node.GetID() not in before]
    assert [name for name in left if "Volume" in name and "Scenario" not in name] == []


def test_outlines_follow_their_box_and_a_brush_brings_the_labels_back(
    host: Any, three: Any
) -> None:
    display = three.panel.parameters.label_node.GetDisplayNode()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
    three.ui.outlinesCheck.click()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 0)
    three.panel.labels.editor.widget.setActiveEffectByName("Paint")
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (1, 1)


def test_the_source_image_is_shown_beside_the_result(host: Any, three: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.views import source_volume

    image = source_volume(three.panel.parameters.label_node)
    assert three.ui.sideBySideCheck.toolTip.endswith("was not drawn on an image.")
    image.SetName("scan")
    slicer.util.arrayFromVolume(image)[:] = np.arange(16)
    slicer.util.arrayFromVolumeModified(image)
    three.ui.nextButton.click()
    manager = slicer.app.layoutManager()
    yellow = manager.sliceWidget("Yellow").mrmlSliceNode()
    before = (manager.layout, yellow.GetOrientation())
    three.ui.sideBySideCheck.click()
    assert manager.sliceViewNames() == ("Red", "Yellow")
    logic = slicer.app.applicationLogic()
    for view, name in (("Red", "scan"), ("Yellow", "volume 1")):
        composite = logic.GetSliceLogicByLayoutName(view).GetSliceCompositeNode()
        shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
        assert shown.GetName() == name
    assert yellow.GetOrientation() == "Axial"
    three.ui.sideBySideCheck.click()
    assert (manager.layout, yellow.GetOrientation()) == before
    assert backgrounds() == ["volume 1"] * 3


def test_a_result_is_saved_where_the_user_says(host: Any, three: Any, tmp_path: Path) -> None:
    from host import dialogs

    (tmp_path / "file").touch()
    names = [str(tmp_path / "mine.nrrd"), "", str(tmp_path / "file" / "mine.nrrd")]
    dialogs.answers["QFileDialog.getSaveFileName"] = names
    three.ui.saveButton.click()
    assert (tmp_path / "mine.nrrd").stat().st_size > 0
    assert three.ui.resultStatus.text == "Saved mine.nrrd."
    three.ui.saveButton.click()
    three.ui.saveButton.click()
    assert "file/mine.nrrd cannot be written" in three.ui.resultStatus.text
    dialogs.shown.clear()
