"""The panel's section Train a model, by clicks, on Slicer's own engine for CLI modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import module, paint, panel, synthesize, tiny, wait
from training_factory import boxes, read_log, write, write_data
from training_tutorial import training_module

__all__ = ["host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


@pytest.fixture(scope="module", autouse=True)
def engine(started_host: Any) -> Iterator[None]:
    """Slicer's processing thread, and the CLI module."""
    with training_module():
        yield


@pytest.fixture
def ready(panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The panel with a data set and a name."""
    write_data(tmp_path, 6)
    panel.ui.trainingSection.collapsed = False
    panel.ui.scansPath.currentPath = str(tmp_path / "images")
    panel.ui.labelMapsPath.currentPath = str(tmp_path / "labels")
    panel.ui.trainingNameEdit.text = "mine"
    return panel


PATIENCE = 180.0
"""Seconds; each run starts a Python and torch."""


def cells(panel: Any) -> list[list[str]]:
    """The texts of the table of findings."""
    table = panel.ui.findingsTable
    return [
        [table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)
    ]


def check(host: Any, panel: Any) -> None:
    panel.ui.checkButton.click()
    wait(host, lambda: not panel.panel.training.busy, PATIENCE)


def iteration(folder: Path) -> int:
    try:
        return int(read_log(folder)[-1]["iteration"])
    except (OSError, ValueError, IndexError):
        return 0


def test_what_is_missing_for_a_training_stands_on_its_buttons(panel: Any) -> None:
    ui = panel.ui
    assert ui.checkButton.toolTip == ui.trainButton.toolTip == "Choose the folder of the scans."
    ui.scansPath.currentPath = "somewhere"
    assert ui.checkButton.enabled
    assert ui.trainButton.toolTip == "Give the new model a name."
    ui.trainingNameEdit.text = "Not A Name"
    assert "small letters" in ui.trainButton.toolTip
    ui.trainingNameEdit.text = "tiny"
    assert ui.trainButton.toolTip.startswith("There is a model of this name already")
    ui.trainingNameEdit.text = "mine"
    assert ui.trainButton.enabled
    assert ui.resumeButton.toolTip == "There is no stopped training of this name."


def test_a_check_lists_the_problems_with_their_remedy(
    host: Any, ready: Any, tmp_path: Path
) -> None:
    check(host, ready)
    assert ready.ui.trainingStatus.text == "6 of 6 cases can be trained on."
    assert "Grid" in ready.ui.planLabel.text
    write(tmp_path / "labels", "case 1.nrrd", np.zeros_like(boxes()))
    (tmp_path / "images" / "case 2.nii.gz").write_text("broken")
    check(host, ready)
    assert ready.ui.trainingStatus.text.startswith("2 problems stand in the way")
    found = {case: (sentence, remedy) for case, sentence, remedy in cells(ready) if case}
    assert set(found) >= {"case 1", "case 2"}
    assert "empty" in found["case 1"][0]
    assert all(remedy for _sentence, remedy in found.values())
    ready.ui.skipBadCheck.click()
    check(host, ready)
    assert ready.ui.trainingStatus.text == "4 of 6 cases can be trained on."
    ready.ui.scansPath.currentPath = str(tmp_path / "nowhere")
    check(host, ready)
    assert "nowhere" in ready.ui.trainingStatus.text


def test_a_training_runs_beside_a_synthesis_stops_resumes_and_joins_the_models(
    host: Any, ready: Any, own_user_folder: Path
) -> None:
    ui, folder = ready.ui, own_user_folder / "models" / "mine"
    ui.trainingHoursSpinBox.value = 1
    ui.trainButton.click()
    assert ui.trainButton.text == "Stop"
    wait(host, lambda: iteration(folder) >= 2, PATIENCE)
    # A synthesis does not wait for the training.
    ui.newCanvasButton.click()
    paint(ready, "anterior", "posterior")
    ready.panel.labels.look()
    synthesize(host, ready)
    assert ui.resultList.count == 1
    assert ready.panel.training.busy
    wait(host, lambda: ui.trainingStatus.text.startswith("Iteration "), PATIENCE)
    assert "loss" in ui.trainingStatus.text
    ui.trainButton.click()
    assert ui.trainButton.toolTip == "The training is being stopped: it saves first."
    wait(host, lambda: not ready.panel.training.busy, PATIENCE)
    assert ui.trainingStatus.text == "The model mine is in the list of models."
    assert ui.modelSelector.findData("mine") >= 0
    assert not ui.curveLabel.pixmap.isNull()
    assert not ui.montageLabel.pixmap.isNull()
    stopped = iteration(folder)
    assert ui.resumeButton.enabled
    ui.resumeButton.click()
    wait(host, lambda: iteration(folder) > stopped, PATIENCE)
    ui.trainButton.click()
    wait(host, lambda: not ready.panel.training.busy, PATIENCE)


def test_a_failed_training_says_why(host: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "labels" / "case 1.nrrd").write_text("broken")
    ready.ui.trainButton.click()
    wait(host, lambda: not ready.panel.training.busy, PATIENCE)
    assert "The data cannot be trained on" in ready.ui.trainingStatus.text
    assert ready.ui.trainButton.text == "Train"


def test_a_training_outlives_the_scene(host: Any, ready: Any, own_user_folder: Path) -> None:
    folder = own_user_folder / "models" / "mine"
    ready.ui.trainingHoursSpinBox.value = 1
    ready.ui.trainButton.click()
    wait(host, lambda: iteration(folder) >= 1, PATIENCE)
    host.scene.Clear(0)
    assert ready.panel.training.busy
    before = iteration(folder)
    wait(host, lambda: iteration(folder) > before, PATIENCE)
    ready.ui.trainButton.click()
    wait(host, lambda: not ready.panel.training.busy, PATIENCE)
    assert ready.ui.trainingStatus.text == "The model mine is in the list of models."


def test_a_training_outlives_the_panel(host: Any, ready: Any, own_user_folder: Path) -> None:
    from host.modules import close_widget

    folder = own_user_folder / "models" / "mine"
    ready.ui.trainingHoursSpinBox.value = 1
    ready.ui.trainButton.click()
    wait(host, lambda: iteration(folder) >= 1, PATIENCE)
    node = ready.panel.training._run.node
    close_widget(ready)
    assert node.IsBusy()
    (folder / "stop").touch()
    wait(host, lambda: not node.IsBusy(), PATIENCE)
    assert (folder / "model.json").is_file()
