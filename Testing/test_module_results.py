"""The section Results by clicks: several at once, names, files, and what is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    add_results,
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


@pytest.fixture
def four(drawn: Any) -> Any:
    """The panel with four volumes of its label map, the first chosen."""
    add_results(drawn, [f"synthetic {n}" for n in range(4)])
    return drawn


def mark(panel: Any, *rows: int) -> None:
    """What clicks with the control key do."""
    for row in rows:
        panel.ui.resultList.item(row).setSelected(True)


def answer(**answers: list[Any]) -> None:
    from host import dialogs

    dialogs.answers.update({name.replace("_", "."): given for name, given in answers.items()})


def questions() -> list[str]:
    from host import dialogs

    asked = [shown.text for shown in dialogs.shown]
    dialogs.shown.clear()
    return asked


def test_problem_5_a_save_that_failed_does_not_make_the_next_one_fail(
    host: Any, four: Any, tmp_path: Path
) -> None:
    node = four.panel.parameters.result
    (tmp_path / "full.nrrd").mkdir()
    answer(QFileDialog_getSaveFileName=[str(tmp_path / "full.nrrd"), str(tmp_path / "good.nrrd")])
    four.ui.saveButton.click()
    assert "full.nrrd cannot be written" in four.ui.resultStatus.text
    assert node.GetStorageNode().GetUserMessages().GetNumberOfMessages() > 0
    four.ui.saveButton.click()
    assert four.ui.resultStatus.text == "Saved good.nrrd."
    assert (tmp_path / "good.nrrd").stat().st_size > 0
    questions()


def test_problem_5_a_name_without_a_format_is_named_as_the_reason(
    host: Any, four: Any, tmp_path: Path
) -> None:
    answer(QFileDialog_getSaveFileName=[str(tmp_path / "mine")])
    four.ui.saveButton.click()
    assert four.ui.resultStatus.text.startswith("mine does not say which format it is")
    assert list(tmp_path.iterdir()) == []
    questions()


def test_problem_8_a_volume_is_in_the_list_as_soon_as_it_is_in_the_scene(
    host: Any, drawn: Any
) -> None:
    lengths: list[tuple[int, int]] = []
    drawn.ui.samplesSpinBox.value = 3
    drawn.ui.synthesizeButton.click()
    job = drawn.panel.synthesis._job
    job.onSample = lambda nodes: lengths.append((len(job.volumes), drawn.ui.resultList.count))
    wait(host, lambda: not drawn.panel.synthesis.busy)
    assert lengths == [(1, 1), (2, 2), (3, 3)]


def test_problem_9_the_same_again_chooses_the_volume_that_is_there(host: Any, drawn: Any) -> None:
    ui = drawn.ui
    synthesize(host, drawn)
    first = drawn.panel.parameters.result
    ui.seedSpinBox.value = 5
    synthesize(host, drawn)
    assert ui.resultList.count == 2
    ui.seedSpinBox.value = 0
    ui.synthesizeButton.click()
    assert not drawn.panel.synthesis.busy
    assert ui.statusLabel.text.startswith("This volume is there already: it was chosen.")
    assert (ui.resultList.count, drawn.panel.parameters.result) == (2, first)
    ui.samplesSpinBox.value = 2  # The first of both is there: only the second is made.
    synthesize(host, drawn)
    assert ui.resultList.count == 3
    paint(drawn, "posterior")  # Anew, elsewhere: another label map makes another volume.
    drawn.panel.labels.look()
    ui.samplesSpinBox.value = 1
    synthesize(host, drawn)
    assert ui.resultList.count == 4


def test_a_new_seed_each_time_makes_another_volume_at_each_press(host: Any, drawn: Any) -> None:
    drawn.ui.newSeedCheck.click()
    synthesize(host, drawn)
    synthesize(host, drawn)
    seeds = [node.GetAttribute("MedDiffusion.seed") for node in results()]
    assert len(set(seeds)) == 2
    assert str(drawn.ui.seedSpinBox.value) == seeds[-1]


def results() -> list[Any]:
    from MedDiffusionLib.scene.volumes import results

    return results()


def test_a_row_says_that_its_label_map_has_changed_since(host: Any, drawn: Any) -> None:
    synthesize(host, drawn)
    (before,) = listed(drawn)
    segment = drawn.panel.parameters.label_node.GetSegmentation().GetNthSegment(0)
    segment.SetName("another")
    changed = [f"(label map changed since) {before}"]
    wait(host, lambda: listed(drawn) == changed, lambda: listed(drawn))
    segment.SetName("anterior")  # Undone: it is what the volume was made from again.
    wait(host, lambda: listed(drawn) == [before], lambda: listed(drawn))


def test_after_a_run_about_how_long_the_next_takes_stands_beside_quality(
    host: Any, drawn: Any
) -> None:
    import slicer

    settings = slicer.app.userSettings()
    settings.remove("MedDiffusion")
    drawn.panel.show()
    assert not drawn.ui.timeLabel.visible
    drawn.ui.qualitySelector.currentIndex = 2
    synthesize(host, drawn)
    settings.setValue("MedDiffusion/SecondsPerEvaluation/tiny/auto", "2.0")
    drawn.ui.samplesSpinBox.value = 3
    assert drawn.ui.timeLabel.text == "about 30 s"  # 3 volumes of 5 steps
    settings.remove("MedDiffusion")


def test_what_a_run_took_is_kept_for_the_next_session(host: Any, drawn: Any) -> None:
    import slicer

    key = "MedDiffusion/SecondsPerEvaluation/tiny/auto"
    settings = slicer.app.userSettings()
    settings.remove("MedDiffusion")
    drawn.ui.qualitySelector.currentIndex = 2
    synthesize(host, drawn)
    assert float(settings.value(key)) > 0
    settings.remove("MedDiffusion")


def test_a_volume_is_renamed_and_stays_called_synthetic(host: Any, four: Any) -> None:
    answer(QInputDialog_getText=["left <b>hip</b>", ""])
    four.ui.renameButton.click()
    assert listed(four)[0] == "left <b>hip</b> synthetic"
    four.ui.renameButton.click()  # Cancelled.
    assert listed(four)[0] == "left <b>hip</b> synthetic"
    questions()


def test_several_volumes_are_deleted_at_once_after_one_question(host: Any, four: Any) -> None:
    import qt

    mark(four, 1, 2)
    assert four.ui.deleteButton.text == "Delete 3"
    answer(QMessageBox=[qt.QMessageBox.Cancel, qt.QMessageBox.Ok])
    four.ui.deleteButton.click()
    assert len(listed(four)) == 4
    four.ui.deleteButton.click()
    assert listed(four) == ["synthetic 3"]
    assert four.panel.parameters.result.GetName() == "synthetic 3"
    assert questions() == ["Take 3 volumes out of the scene?"] * 2


def test_marked_or_all_volumes_are_saved_into_a_folder_and_nothing_is_written_over(
    host: Any, four: Any, tmp_path: Path
) -> None:
    taken = tmp_path / "synthetic 1.nrrd"
    taken.write_text("mine")
    answer(QFileDialog_getExistingDirectory=[str(tmp_path), "", str(tmp_path / "nowhere")])
    mark(four, 1)
    four.ui.saveAllButton.click()
    assert four.ui.resultStatus.text == f"Saved 2 volumes in {tmp_path}."
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"synthetic 0.nrrd", "synthetic 1.nrrd", "synthetic 1 (2).nrrd"}
    assert taken.read_text() == "mine"
    four.ui.saveAllButton.click()  # Cancelled in the dialog.
    assert {path.name for path in tmp_path.iterdir()} == names
    questions()


def test_the_marks_stay_while_volumes_are_renamed_or_added(host: Any, four: Any) -> None:
    mark(four, 1, 2)
    results()[3].SetName("another synthetic")
    four.panel.show()
    assert [item.text() for item in four.ui.resultList.selectedItems()] == [
        "synthetic 0", "synthetic 1", "synthetic 2",
    ]  # fmt: skip


def test_the_slider_lays_the_volume_over_its_source_image(host: Any, four: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.views import source_volume

    image = source_volume(four.panel.parameters.label_node)
    assert not four.ui.opacitySlider.enabled
    slicer.util.arrayFromVolume(image)[:] = np.arange(16)
    slicer.util.arrayFromVolumeModified(image)
    four.ui.nextButton.click()
    four.ui.opacitySlider.value = 30
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    shown = results()[1]
    assert composite.GetBackgroundVolumeID() == image.GetID()
    assert composite.GetForegroundVolumeID() == shown.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    four.ui.opacitySlider.value = 100
    assert composite.GetBackgroundVolumeID() == shown.GetID()


def test_no_text_of_a_node_or_an_error_is_rich_in_any_label_or_tooltip(
    host: Any, four: Any
) -> None:
    import qt

    from MedDiffusionLib.widget.gui import RICH

    labels = {name: one for name, one in vars(four.ui).items() if isinstance(one, qt.QLabel)}
    rich = {name for name, one in labels.items() if one.textFormat != qt.Qt.PlainText}
    assert rich == set(RICH)
    results()[0].SetAttribute("MedDiffusion.note", "<img src='x'>\x1b[0m")
    results()[0].SetName("<b>x</b> synthetic")
    four.panel.show()
    assert "&lt;img src=" in four.ui.resultList.item(0).toolTip()
    assert "\x1b" not in four.ui.resultList.item(0).toolTip()
