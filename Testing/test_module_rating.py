"""Realism Rating by clicks and by keys alone: a whole study, and all that may come between."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from MedDiffusionLib.studies.answers import read_answers
from MedDiffusionLib.studies.study import order_of, read_study
from module_panel import all_nodes
from rating_module import (
    answer_of,
    made,
    open_study,
    panel,
    presentation,
    press,
    radio_buttons,
    rating_module,
    shown,
    study,
    to_case,
    wait_for_case,
    write,
)

__all__ = ["host", "made", "panel", "rating_module", "shown", "started_host", "study"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def click_through(host: Any, panel: Any) -> list[str]:
    """Answer all cases that are left by clicks; returns which were shown."""
    seen = []
    while panel.ui.caseBox.visible:
        seen.append(presentation(panel))
        radio_buttons(panel)[answer_of(seen[-1]) - 1].click()
        panel.ui.nextButton.click()
        wait_for_case(host, panel)
    return seen


def said(study: Path, reader: str) -> list[tuple[str, int | None]]:
    return [(a.presentation, a.answer) for a in read_answers(read_study(study), reader)]


# ---- a whole study


def test_a_whole_study_by_clicks_and_by_keys_alone(host: Any, panel: Any, study: Path) -> None:
    expected = {
        reader: [(shown, answer_of(shown)) for shown in order_of(read_study(study), reader, 1)]
        for reader in ("R1", "R2")
    }
    assert len(expected["R1"]) == 14
    open_study(host, panel, study, "R1")
    to_case(host, panel)
    click_through(host, panel)
    assert panel.ui.pageHeading.text == "Finished, thank you"
    panel.ui.closeButton.click()
    assert said(study, "R1") == expected["R1"]

    panel.ui.readerEdit.setFocus()
    write("R2")
    press(host, panel, "Return")
    assert panel.ui.whoLabel.text.endswith("reader R2, session 1")
    while panel.ui.pageBox.visible:
        press(host, panel, "Return")
    wait_for_case(host, panel)
    while panel.ui.caseBox.visible:
        press(host, panel, str(answer_of(presentation(panel))), "Return")
        wait_for_case(host, panel)
    assert said(study, "R2") == expected["R2"]
    seconds = [a.seconds for a in read_answers(read_study(study))]
    assert min(seconds) > 0


def test_keys_go_back_pause_and_are_quiet_while_a_comment_is_written(
    host: Any, shown: Any, study: Path
) -> None:
    ui = shown.ui
    first = presentation(shown)
    press(host, shown, "2")
    assert [b.checked for b in radio_buttons(shown)].index(True) == 1
    press(host, shown, "Slash", "3", "Space", "Backspace", "5", "Return")
    assert presentation(shown) == first, "Enter ends the comment alone"
    assert [b.checked for b in radio_buttons(shown)].index(True) == 1
    press(host, shown, "Return")
    wait_for_case(host, shown)
    assert presentation(shown) != first
    press(host, shown, "Backspace")
    wait_for_case(host, shown)
    assert presentation(shown) == first
    press(host, shown, "6", "Space")
    assert ui.pageHeading.text == "Paused"
    press(host, shown, "4", "Space")
    wait_for_case(host, shown)
    press(host, shown, "Return")
    answers = read_answers(read_study(study), "R1")
    assert [(a.answer, a.comment, a.changed) for a in answers] == [
        (2, "35", False),
        (6, "35", True),
    ]


def test_a_study_goes_on_at_the_same_case(host: Any, shown: Any, study: Path) -> None:
    for _case in range(4):
        radio_buttons(shown)[0].click()
        shown.ui.nextButton.click()
        wait_for_case(host, shown)
    where = presentation(shown)
    shown.ui.closeButton.click()
    assert shown.ui.startBox.visible
    open_study(host, shown, study, "R1")
    assert shown.ui.pageHeading.text == "Welcome back"
    to_case(host, shown)
    assert presentation(shown) == where
    order = list(order_of(read_study(study), "R1", 1))
    assert click_through(host, shown) == order[order.index(where) :]


def test_the_folder_is_chosen_by_a_button_and_remembered(
    host: Any, panel: Any, study: Path
) -> None:
    import slicer

    from host import dialogs
    from host.modules import close_widget, open_widget

    dialogs.answers["QFileDialog.getExistingDirectory"] = [str(study)]
    panel.ui.studyFolderButton.click()
    dialogs.shown.clear()
    assert panel.ui.studyTitle.text == read_study(study).title
    panel.ui.readerEdit.text = "R1"
    panel.ui.openButton.click()
    close_widget(panel)
    again = open_widget(slicer.modules.realismrating)
    assert again.ui.studyPath.currentPath == str(study)
    assert again.ui.studyTitle.text == read_study(study).title


def test_what_cannot_be_opened_says_why_and_nothing_is_written(
    host: Any, panel: Any, study: Path, tmp_path: Path
) -> None:
    ui = panel.ui
    open_study(host, panel, tmp_path, "R1")
    assert "is no whole study" in ui.startStatus.text
    open_study(host, panel, study, "R7")
    assert "There is no reader R7 in this study" in ui.startStatus.text
    assert ui.startBox.visible
    assert list((study / "answers").iterdir()) == []


def test_the_readers_own_answers_are_saved_as_a_table(
    host: Any, shown: Any, study: Path, tmp_path: Path
) -> None:
    from host import dialogs

    click_through(host, shown)
    dialogs.answers["QFileDialog.getSaveFileName"] = [str(tmp_path / "mine.csv")]
    shown.ui.tableButton.click()
    dialogs.shown.clear()
    rows = (tmp_path / "mine.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 14
    assert shown.ui.sessionStatus.text == "The table was saved."


# ---- what may come between


def test_the_users_scene_is_not_closed_unasked(host: Any, panel: Any, study: Path) -> None:
    import numpy as np
    import slicer.util

    from host import dialogs

    node = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)), name="Head")
    cancel = int(sys.modules["qt"].QMessageBox.Cancel)
    dialogs.answers["QMessageBox"] = [cancel]
    open_study(host, panel, study, "R1")
    (asked,) = dialogs.shown
    assert "The scene holds other data (Head)" in asked.text
    assert host.scene.GetNodeByID(node.GetID()) is node
    assert panel.ui.startBox.visible
    assert "needs an empty scene" in panel.ui.startStatus.text
    panel.ui.openButton.click()
    assert host.scene.GetNodeByID(node.GetID()) is None
    assert panel.ui.sessionBox.visible
    dialogs.shown.clear()


def test_what_slicer_itself_has_in_the_scene_is_no_other_data(host: Any) -> None:
    from MedDiffusionLib.scene.rating_volumes import other_data

    for kind in ("Camera", "ColorTable", "Slice", "View", "ScriptedModule", "SegmentEditor"):
        host.scene.AddNewNodeByClass(f"vtkMRML{kind}Node", f"of Slicer: {kind}")
    assert other_data() == []
    for kind in ("ScalarVolume", "Segmentation", "MarkupsFiducial", "LinearTransform", "Table"):
        host.scene.AddNewNodeByClass(f"vtkMRML{kind}Node", f"of the user: {kind}")
    assert len(other_data()) == 5


def test_other_data_that_came_meanwhile_must_go_before_the_study_goes_on(
    host: Any, shown: Any
) -> None:
    import numpy as np
    import slicer.util

    from host import dialogs

    shown.ui.pauseButton.click()
    slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)), name="Head")
    dialogs.answers["QMessageBox"] = [int(sys.modules["qt"].QMessageBox.Cancel)]
    shown.ui.continueButton.click()
    assert shown.ui.pageHeading.text == "Paused"
    assert "needs an empty scene" in shown.ui.sessionStatus.text
    shown.ui.continueButton.click()
    wait_for_case(host, shown)
    assert shown.ui.caseBox.visible
    dialogs.shown.clear()


def test_a_scene_closed_mid_case_pauses_and_the_case_comes_back(host: Any, shown: Any) -> None:
    import slicer

    where = presentation(shown)
    radio_buttons(shown)[2].click()
    host.scene.Clear(0)
    host.process_events()
    assert shown.ui.pageHeading.text == "Paused"
    assert shown.panel.screen.nodes == []
    assert slicer.app.layoutManager().layout < 100
    to_case(host, shown)
    assert presentation(shown) == where
    assert radio_buttons(shown)[2].checked


def test_a_module_that_is_left_puts_the_case_away(host: Any, shown: Any, study: Path) -> None:
    import slicer

    from host.modules import set_entered

    where = presentation(shown)
    set_entered(shown, False)
    assert shown.panel.screen.nodes == []
    assert slicer.app.layoutManager().layout < 100
    press(host, shown, "3")
    set_entered(shown, True)
    assert shown.ui.pageHeading.text == "Paused"
    to_case(host, shown)
    assert presentation(shown) == where
    assert not any(button.checked for button in radio_buttons(shown))


def test_a_case_that_was_changed_is_named_and_comes_when_it_is_put_back(
    host: Any, shown: Any, study: Path
) -> None:
    opened = read_study(study)
    second = opened.case(order_of(opened, "R1", 1)[2]).files[0]
    content = second.read_bytes()
    radio_buttons(shown)[0].click()
    shown.ui.nextButton.click()
    wait_for_case(host, shown)
    # The one after next: it is not read ahead yet.
    shown.panel.screen._ahead.turn(5)
    second.write_bytes(content[:-2] + b"\1\1")
    shown.panel.screen._ahead.ask(shown.panel.rating.case)
    radio_buttons(shown)[0].click()
    shown.ui.nextButton.click()
    wait_for_case(host, shown)
    assert f"has a cases/{second.name} that was changed" in shown.ui.sessionStatus.text
    second.write_bytes(content)
    to_case(host, shown)
    assert shown.ui.caseBox.visible
    assert shown.ui.sessionStatus.text == ""


def test_a_full_disk_at_an_answer_loses_nothing(
    host: Any, shown: Any, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = presentation(shown)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        radio_buttons(shown)[4].click()
        shown.ui.nextButton.click()
    assert presentation(shown) == where
    assert "No space left on device" in shown.ui.sessionStatus.text
    assert radio_buttons(shown)[4].checked
    shown.ui.nextButton.click()
    assert said(study, "R1") == [(where, 5)]
    assert shown.ui.sessionStatus.text == ""


def test_no_time_passes_while_slicer_is_minimized(host: Any, shown: Any) -> None:
    import slicer
    from PySide6.QtCore import Qt

    from MedDiffusionLib.widget.rating_screen import is_slicer_seen

    window = slicer.util.mainWindow()
    assert is_slicer_seen()
    window.setWindowState(Qt.WindowState.WindowMinimized)
    assert not is_slicer_seen()
    window.setWindowState(Qt.WindowState.WindowNoState)


def test_a_closed_study_leaves_nothing_in_the_scene(host: Any, panel: Any, study: Path) -> None:
    open_study(host, panel, study, "R1")
    to_case(host, panel)
    panel.ui.closeButton.click()
    host.process_events()
    kinds = {node.GetClassName() for node in all_nodes()}
    assert not any("Volume" in kind and "Display" not in kind for kind in kinds)
    assert not host.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode")
    assert (study / "answers" / "R1.jsonl").exists()


def test_a_reader_sees_neither_the_organizers_section_nor_the_synthesis(
    host: Any, shown: Any
) -> None:
    ui = shown.ui
    assert not ui.organizerSection.visible
    ui.closeButton.click()
    assert not ui.organizerSection.visible, "as long as a study is chosen"
    ui.studyPath.currentPath = ""
    assert ui.organizerSection.visible
    modules = {name for name in sys.modules if name.startswith("MedDiffusionLib.widget.")}
    panels = (
        "panel",
        "synthesis_panel",
        "results_panel",
        "model_panel",
        "training_panel",
        "runner",
    )
    assert modules.isdisjoint(f"MedDiffusionLib.widget.{name}" for name in panels)


def test_the_self_test_passes(host: Any, rating_module: Any) -> None:
    sys.modules["RealismRating"].RealismRatingTest().runTest()
