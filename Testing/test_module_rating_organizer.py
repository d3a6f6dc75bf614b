"""The section For organizers by clicks: studies are made and analysed by the command's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from MedDiffusionLib.studies.key import read_key
from MedDiffusionLib.studies.study import read_study
from rating_factory import make_tiny_study
from rating_module import key_of, panel, rating_module
from study_readers import answer_all, drawn
from waiting import wait

__all__ = ["host", "panel", "rating_module", "started_host"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


@pytest.fixture
def organizer(panel: Any) -> Any:
    """The panel with the section open."""
    panel.ui.organizerSection.collapsed = False
    panel.ui.makeSection.collapsed = False
    panel.ui.analyseSection.collapsed = False
    return panel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with the volumes that it was made of beside it, answered by two readers."""
    folder = make_tiny_study(tmp_path_factory.mktemp("made"), 12)
    study = read_study(folder)
    key = read_key(key_of(folder), study)
    for seed, reader in enumerate(study.readers):
        answer_all(study, key, reader, drawn(seed))
    return folder


def fill_in(organizer: Any, made: Path, output: Path) -> None:
    ui = organizer.ui
    ui.realPath.currentPath = str(made.parent / "real")
    ui.syntheticPath.currentPath = str(made.parent / "synthetic")
    ui.readersEdit.text = "A, B"
    ui.perArmSpinBox.value = 3
    ui.titleEdit.text = "Heads"
    ui.studyOutputPath.currentPath = str(output)


def wait_for_the_end(host: Any, organizer: Any) -> None:
    wait(
        host,
        lambda: not organizer.panel.organizer.busy,
        lambda: organizer.ui.organizerStatus.text,
    )


def test_a_study_is_made_and_checked(host: Any, organizer: Any, made: Path, tmp_path: Path) -> None:
    ui = organizer.ui
    assert not ui.makeButton.enabled
    assert ui.makeModelSelector.count >= 1
    fill_in(organizer, made, tmp_path / "study")
    ui.makeButton.click()
    assert ui.organizerCancelButton.visible
    assert not ui.makeButton.enabled
    wait_for_the_end(host, organizer)
    study = read_study(tmp_path / "study")
    assert (study.title, study.readers, len(study.cases)) == ("Heads", ("A", "B"), 6)
    assert ui.organizerStatus.text == "The study was made."
    text = ui.organizerText.plainText
    assert "Nothing but voxels tells the arms apart" in text
    assert f"Keep {key_of(tmp_path / 'study')} where no reader can see it" in text
    ui.makeButton.click()
    assert "exists: choose another name" in ui.organizerStatus.text


def test_a_making_that_is_cancelled_leaves_nothing(
    host: Any, organizer: Any, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    fill_in(organizer, made, tmp_path / "empty" / "study")
    organizer.ui.makeButton.click()
    organizer.ui.organizerCancelButton.click()
    wait_for_the_end(host, organizer)
    assert organizer.ui.organizerStatus.text == "Cancelled."
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_analysis_writes_the_report_and_opens_it(
    host: Any, organizer: Any, made: Path, tmp_path: Path
) -> None:
    from host import dialogs

    ui = organizer.ui
    ui.answeredPath.currentPath = str(made)
    ui.keyPath.currentPath = str(key_of(made))
    ui.reportPath.currentPath = str(tmp_path / "report")
    ui.analyseButton.click()
    wait_for_the_end(host, organizer)
    assert ui.organizerStatus.text == "The report was written."
    assert ui.organizerText.plainText
    ui.showReportButton.click()
    assert dialogs.shown[-1].text.endswith("report/report.html")
    assert (tmp_path / "report" / "report.html").is_file()
    dialogs.shown.clear()


def test_scipy_is_installed_only_after_asking(
    host: Any, organizer: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from host import dialogs, packages
    from MedDiffusionLib.widget import install

    ui = organizer.ui
    lacks = install._lacks
    monkeypatch.setattr(install, "_lacks", lambda name: name == "scipy" or lacks(name))
    ui.answeredPath.currentPath = str(made)
    ui.keyPath.currentPath = str(key_of(made))
    ui.reportPath.currentPath = str(tmp_path / "report")
    dialogs.answers["QMessageBox"] = [int(sys.modules["qt"].QMessageBox.Cancel)]
    ui.analyseButton.click()
    (asked,) = dialogs.shown
    assert "The analysis needs scipy>=1.11" in asked.text
    assert ui.organizerStatus.text == "Nothing was installed."
    assert packages.requested == []
    ui.analyseButton.click()
    assert packages.requested == [("scipy>=1.11",)]
    assert not organizer.panel.organizer.busy, "it is still not there"
    dialogs.shown.clear()
