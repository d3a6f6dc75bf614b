"""The panel's sections Model and Label map, by clicks, and what stands in the way of a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from host import missing
from host.fixtures import host, started_host
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.labels import match_labels
from module_panel import choose_model, module, paint, panel, synthesize, tiny, wait

__all__ = ["host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def add_label_map(name: str, array: Any) -> Any:
    import slicer.util

    return slicer.util.addVolumeFromArray(
        array, name=name, nodeClassName="vtkMRMLLabelMapVolumeNode"
    )


def test_the_card_says_what_the_model_is(panel: Any) -> None:
    card = panel.ui.modelCard.text
    for part in ("Tiny untrained model", "T1w", "anterior", "rgb(230, 120, 60)", "16 x 16", "CC0"):
        assert part in card
    assert "none" in panel.ui.modelDetails.text


def test_an_unusable_model_is_listed_with_the_reason(panel: Any, own_user_folder: Path) -> None:
    broken = own_user_folder / "models" / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{")
    panel.exit()
    panel.enter()
    choose_model(panel, "broken")
    assert panel.ui.modelSelector.currentText == "broken: unusable"
    assert "is damaged" in panel.ui.modelCard.text
    assert "is damaged" in panel.ui.synthesizeButton.toolTip
    assert not panel.ui.newCanvasButton.enabled


def test_a_model_that_is_gone_is_told_by_name(panel: Any) -> None:
    panel.panel.parameters.model = "lost"
    assert "The model lost is not on this computer" in panel.ui.modelCard.text
    assert not panel.ui.synthesizeButton.enabled


def test_every_disabled_control_says_why_and_every_other_what_it_does(panel: Any) -> None:
    import qt

    silent = []
    kinds = (qt.QPushButton, qt.QCheckBox, qt.QComboBox, qt.QAbstractSpinBox, qt.QListWidget)
    for name, control in vars(panel.ui).items():
        if isinstance(control, kinds) and not control.toolTip:
            silent.append(name)
    assert silent == []
    for name, reason in {
        "synthesizeButton": "Choose a label map, or make one: New canvas, Example or Random.",
        "exampleButton": "There is no example for this model.",
        "randomButton": "This model has not learned shapes.",
        "previousButton": "There are no synthetic volumes yet.",
        "nextButton": "There are no synthetic volumes yet.",
        "saveButton": "There are no synthetic volumes yet.",
        "deleteButton": "There are no synthetic volumes yet.",
        "sideBySideCheck": "There are no synthetic volumes yet.",
        "editorSection": "Only a segmentation can be drawn in: choose one.",
    }.items():
        control = getattr(panel.ui, name)
        assert (control.enabled, control.toolTip) == (False, reason)


def test_a_new_canvas_is_ready_to_draw_on(panel: Any) -> None:
    import slicer

    panel.ui.newCanvasButton.click()
    node = panel.panel.parameters.label_node
    assert panel.ui.labelSelector.currentNode() is node
    segmentation = node.GetSegmentation()
    names = [segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()]
    assert names == ["anterior", "posterior"]
    assert segmentation.GetSegment("anterior").GetColor() == pytest.approx(
        (230 / 255, 120 / 255, 60 / 255)
    )
    editor = panel.panel.labels.editor.widget
    assert editor.segmentationNode() is node
    assert slicer.util.arrayFromVolume(editor.sourceVolumeNode()).shape == (16, 16, 16)
    assert editor.currentSegmentID() == "anterior"
    assert not panel.ui.editorSection.collapsed
    assert panel.ui.editorSection.enabled


def test_the_fit_follows_the_brush(host: Any, panel: Any) -> None:
    panel.ui.newCanvasButton.click()
    assert "is empty: draw at least one of anterior, posterior" in panel.ui.fitLabel.text
    paint(panel, "anterior")
    wait(host, lambda: "Not drawn: posterior" in panel.ui.fitLabel.text)
    assert panel.ui.synthesizeButton.enabled
    paint(panel, "anterior", "posterior")
    wait(host, lambda: panel.ui.fitLabel.text.endswith("fits the model: anterior, posterior."))
    node = panel.panel.parameters.label_node
    node.GetSegmentation().GetSegment("posterior").SetName("liver")
    node.GetSegmentation().GetSegment("posterior").SetTag("TerminologyEntry", "")
    wait(host, lambda: "has liver, which tiny does not know" in panel.ui.fitLabel.text)
    assert panel.ui.synthesizeButton.toolTip == panel.ui.fitLabel.text


@pytest.mark.parametrize("dropout", [0.1, 0.0])
@pytest.mark.parametrize("values", [(), (1,), (2,), (1, 2), (1, 5), (7,)])
def test_the_fit_agrees_with_the_engine(
    host: Any, tmp_path: Path, values: tuple[int, ...], dropout: float
) -> None:
    from MedDiffusionLib.scene.label_maps import read_label_node
    from MedDiffusionLib.widget.fit import describe_fit

    manifest = read_manifest(make_bundle(tmp_path / "model", label_dropout=dropout))
    array = np.zeros((4, 4, 4), np.int16)
    array.flat[: len(values)] = values
    node = add_label_map("drawn", array)
    try:
        match_labels(read_label_node(node).labels, manifest, {})
        fits = True
    except UserError:
        fits = False
    assert describe_fit(node, manifest, {}).ok is fits


def test_the_fit_is_told_quickly_for_a_large_label_map(host: Any, tiny: Path) -> None:
    import time

    from MedDiffusionLib.widget.fit import describe_fit

    array = np.zeros((400, 400, 400), np.int16)
    array[200:220] = 2
    node = add_label_map("large", array)
    start = time.perf_counter()
    fit = describe_fit(node, read_manifest(tiny), {})
    print(f"fit of 400 x 400 x 400 voxels: {1000 * (time.perf_counter() - start):.0f} ms")
    assert fit.ok


def test_the_example_becomes_a_segmentation_with_the_models_labels(
    host: Any, panel: Any, own_user_folder: Path
) -> None:
    import slicer

    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode")
    choose_model(panel, "hippocampus-mr")
    panel.ui.exampleButton.click()
    assert panel.panel.parameters.label_node.GetName() == "hippocampus example"
    assert panel.ui.fitLabel.text.endswith("fits the model: anterior, posterior.")
    after = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode")
    assert (before, after) == (0, 0)


def test_random_draws_a_label_map_from_the_models_shapes(host: Any, panel: Any) -> None:
    choose_model(panel, "hippocampus-mr")
    panel.ui.randomButton.click()
    assert panel.ui.randomButton.toolTip == "A label map is being drawn."
    wait(host, lambda: panel.panel.parameters.label_node is not None)
    assert panel.panel.parameters.label_node.GetName().startswith("hippocampus-mr random ")
    assert panel.ui.fitLabel.text.endswith("fits the model: anterior, posterior.")
    assert panel.ui.randomButton.enabled


def test_a_model_is_imported_and_chosen(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path
) -> None:
    from host import dialogs

    source = make_bundle(tmp_path / "mine", title="Mine")
    (source / "notes.txt").write_text("not part of the bundle")
    dialogs.answers["QFileDialog.getExistingDirectory"] = [str(source)]
    panel.ui.importModelButton.click()
    models = own_user_folder / "models"
    assert panel.panel.parameters.model == "mine"
    assert "Mine" in panel.ui.modelCard.text
    assert sorted(p.name for p in models.iterdir()) == ["mine", "tiny"]
    assert sorted(p.name for p in (models / "mine").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    assert [one.kind for one in dialogs.shown] == ["QFileDialog.getExistingDirectory"]
    dialogs.shown.clear()


@pytest.mark.parametrize("agrees", [True, False])
def test_a_model_is_never_replaced_unasked(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path, agrees: bool
) -> None:
    import qt

    from host import dialogs

    source = make_bundle(tmp_path / "tiny", title="Newer")
    box = qt.QMessageBox
    dialogs.answers["QFileDialog.getExistingDirectory"] = [str(source)]
    dialogs.answers["QMessageBox"] = [box.Ok if agrees else box.Cancel]
    panel.ui.importModelButton.click()
    assert dialogs.shown[-1].text == "There is a model tiny already. Replace it?"
    assert ("Newer" in panel.ui.modelCard.text) is agrees
    assert [p.name for p in (own_user_folder / "models").iterdir()] == ["tiny"]
    dialogs.shown.clear()


def test_what_is_no_model_is_refused_with_a_sentence(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path
) -> None:
    from host import dialogs

    half = make_bundle(tmp_path / "half")
    (half / "weights.safetensors").unlink()
    folders = [tmp_path, half, own_user_folder / "models" / "tiny"]
    sentences = ["is no model bundle", "it has no weights.safetensors", "in the models folder"]
    for folder, sentence in zip(folders, sentences, strict=True):
        dialogs.answers["QFileDialog.getExistingDirectory"] = [str(folder)]
        panel.ui.importModelButton.click()
        assert sentence in panel.ui.modelStatus.text
    assert panel.panel.parameters.model == "tiny"
    dialogs.shown.clear()


def test_the_models_folder_is_opened(host: Any, panel: Any, own_user_folder: Path) -> None:
    from host import dialogs

    panel.ui.modelsFolderButton.click()
    assert dialogs.shown[-1].text == f"file://{own_user_folder / 'models'}"
    dialogs.shown.clear()


def test_drawing_at_random_can_start_again_after_the_scene_was_closed(
    host: Any, panel: Any
) -> None:
    choose_model(panel, "hippocampus-mr")
    panel.ui.randomButton.click()
    host.scene.Clear(0)
    assert panel.ui.randomButton.enabled
    panel.ui.randomButton.click()
    wait(host, lambda: panel.panel.parameters.label_node is not None)


def test_a_stroke_is_looked_at_once_however_many_settings_change(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedDiffusionLib.widget import label_panel
    from MedDiffusionLib.widget.fit import describe_fit

    looks: list[Any] = []

    def describe(*arguments: Any) -> Any:
        looks.append(arguments)
        return describe_fit(*arguments)

    monkeypatch.setattr(label_panel, "describe_fit", describe)
    panel.ui.newCanvasButton.click()
    assert len(looks) == 1
    for seed in range(5):
        panel.ui.seedSpinBox.value = 10 + seed
    assert len(looks) == 1


def table(panel: Any) -> dict[str, str]:
    """The rows of the table of foreign labels: what is chosen for each."""
    form = panel.ui.tableRows.layout()
    widgets = [form.itemAt(index).widget() for index in range(form.count())]
    pairs = zip(widgets[::2], widgets[1::2], strict=True)
    return {label.text: choice.currentText for label, choice in pairs}


def tell(panel: Any, row: int, text: str) -> None:
    choice = panel.ui.tableRows.layout().itemAt(2 * row + 1).widget()
    choice.currentIndex = choice.findText(text)


def test_foreign_labels_are_told_in_a_table_and_keep_their_meaning(host: Any, panel: Any) -> None:
    array = np.zeros((16, 16, 16), np.int16)
    array[4:8, 4:12, 4:12], array[8:12, 4:12, 4:12], array[12:14] = 7, 3, 9
    node = add_label_map("foreign", array)
    assert not panel.ui.tableSection.visible
    panel.panel.parameters.label_node = node
    assert table(panel) == {"3": "choose…", "7": "choose…", "9": "choose…"}
    assert panel.ui.fitLabel.text.startswith("foreign has 3, 7, 9, which tiny does not know")
    tell(panel, 0, "posterior")
    tell(panel, 1, "anterior")
    assert panel.ui.fitLabel.text.startswith("foreign has 9, which tiny does not know")
    assert not panel.ui.synthesizeButton.enabled
    panel.ui.leaveOutButton.click()
    assert table(panel) == {"3": "posterior", "7": "anterior", "9": "leave out"}
    assert panel.ui.fitLabel.text == "✓ foreign fits the model: anterior, posterior."
    told = synthesize_to_array(host, panel)

    own = np.zeros_like(array)
    own[array == 7], own[array == 3] = 1, 2
    panel.panel.parameters.label_node = add_label_map("own", own)
    assert not panel.ui.tableSection.visible
    assert (synthesize_to_array(host, panel) == told).all()


def synthesize_to_array(host: Any, panel: Any) -> Any:
    import slicer.util

    synthesize(host, panel)
    assert panel.ui.statusLabel.text == ""
    return slicer.util.arrayFromVolume(panel.panel.parameters.result).copy()


def test_a_foreign_segment_is_told_by_its_name(host: Any, panel: Any) -> None:
    panel.ui.newCanvasButton.click()
    paint(panel, "anterior", "posterior")
    segment = panel.panel.parameters.label_node.GetSegmentation().GetSegment("posterior")
    segment.SetName("liver")
    segment.SetTag("TerminologyEntry", "")
    panel.panel.labels.look()
    assert table(panel) == {"liver": "choose…"}
    tell(panel, 0, "posterior")
    assert panel.panel.labels.fit.told == {"liver": "posterior"}
    synthesize(host, panel)
    assert (panel.ui.statusLabel.text, panel.ui.resultList.count) == ("", 1)


def test_an_image_taken_for_a_label_map_gets_no_thousand_rows(panel: Any) -> None:
    array = np.arange(16**3, dtype=np.int16).reshape(16, 16, 16)
    panel.panel.parameters.label_node = add_label_map("image", array)
    assert not panel.ui.tableSection.visible
    assert "which tiny does not know" in panel.ui.fitLabel.text
