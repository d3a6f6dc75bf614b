"""The section Train a model, by clicks, on Slicer's own engine for CLI modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    home,
    module,
    own_user_folder,
    paint,
    panel,
    synthesize,
    tiny,
    wait,
    worker,
)
from training_factory import boxes, read_log, write, write_data
from training_tutorial import training_module, wait_for_the_run

__all__ = ["home", "host", "module", "own_user_folder", "panel", "started_host", "tiny", "worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


@pytest.fixture(scope="module", autouse=True)
def engine(started_host: Any) -> Iterator[None]:
    """Slicer's processing thread, and the CLI module."""
    with training_module():
        yield


@pytest.fixture
def ready(panel: Any, tmp_path: Path) -> Any:
    """The panel with a data set and a name."""
    write_data(tmp_path, 6)
    fill_in(panel, tmp_path)
    return panel


def fill_in(panel: Any, data: Path) -> None:
    panel.ui.trainingSection.collapsed = False
    panel.ui.scansPath.currentPath = str(data / "images")
    panel.ui.labelMapsPath.currentPath = str(data / "labels")
    panel.ui.trainingNameEdit.text = "mine"
    panel.ui.trainingHoursSpinBox.value = 1


def wait_for_iteration(host: Any, panel: Any, folder: Path, least: int) -> None:
    def is_there() -> bool:
        try:
            return int(read_log(folder)[-1]["iteration"]) >= least
        except (OSError, ValueError, IndexError, KeyError):
            return False

    wait(host, is_there, lambda: panel.ui.trainingStatus.text)


def test_what_is_missing_for_a_training_stands_on_its_buttons(panel: Any) -> None:
    ui = panel.ui
    reason = "Choose the folder of the scans, or a table."
    assert ui.checkButton.toolTip == ui.trainButton.toolTip == ui.trainingReason.text == reason
    ui.scansPath.currentPath = "somewhere"
    assert ui.checkButton.enabled
    ui.trainingNameEdit.text = "tiny"
    assert ui.trainButton.toolTip.startswith("There is a model of this name already")
    ui.trainingNameEdit.text = "mine"
    assert ui.trainButton.enabled
    assert ui.resumeButton.toolTip == "There is no stopped training of this name."


def check_the_curve(host: Any, panel: Any, folder: Path) -> None:
    """The loss stands in a plot of Slicer's, which is shown at a press."""
    import slicer
    import slicer.util

    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert (chart.GetTitle(), chart.GetXAxisTitle()) == ("Loss of mine", "iteration")
    assert chart.GetAxisLabelFontSize() >= 14
    series = chart.GetNthPlotSeriesNode(0)
    logged = [line["iteration"] for line in read_log(folder) if "loss" in line]
    shown = slicer.util.arrayFromTableColumn(series.GetTableNode(), "x")
    assert shown.tolist() == logged
    manager = slicer.app.layoutManager()
    before = manager.layout
    panel.ui.curveButton.click()
    assert manager.layout != before
    (view,) = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    assert view.GetPlotChartNodeID() == chart.GetID()


def test_a_table_or_a_folder_is_chosen_by_a_button(host: Any, panel: Any, tmp_path: Path) -> None:
    from host import dialogs

    dialogs.answers["QFileDialog.getOpenFileName"] = [str(tmp_path / "cases.csv"), ""]
    dialogs.answers["QFileDialog.getExistingDirectory"] = [str(tmp_path)]
    for button, path in (
        (panel.ui.scansTableButton, tmp_path / "cases.csv"),
        (panel.ui.scansTableButton, tmp_path / "cases.csv"),  # Cancelled.
        (panel.ui.scansFolderButton, tmp_path),
    ):
        button.click()
        assert panel.panel.parameters.scans == str(path)
    dialogs.shown.clear()


def test_a_check_lists_the_problems_with_their_remedy(
    host: Any, ready: Any, tmp_path: Path
) -> None:
    ui = ready.ui
    write(tmp_path / "labels", "case 1.nrrd", np.zeros_like(boxes()))
    ui.skipBadCheck.click()
    ui.checkButton.click()
    assert (ui.checkButton.enabled, ui.trainingProgressBar.visible) == (False, True)
    wait_for_the_run(host, ready)
    assert ui.trainingStatus.text == "5 of 6 cases can be trained on."
    assert "Grid" in ui.planLabel.text
    table = ui.findingsTable
    cells = [[table.item(row, n).text() for n in range(3)] for row in range(table.rowCount)]
    ((sentence, remedy),) = [found for case, *found in cells if case == "case 1"]
    assert "empty" in sentence
    assert remedy
    ui.scansPath.currentPath = str(tmp_path / "nowhere")
    ui.trainButton.click()
    assert table.rowCount == 0
    wait_for_the_run(host, ready)
    assert "nowhere" in ui.trainingStatus.text
    assert "--" not in ui.trainingStatus.text
    assert ui.trainButton.text == "Train"


def test_a_training_runs_beside_a_synthesis_stops_resumes_and_joins_the_models(
    host: Any, ready: Any, own_user_folder: Path, tmp_path: Path
) -> None:
    import slicer.util

    from host.modules import close_widget

    ui, folder = ready.ui, own_user_folder / "models" / "mine"
    ui.trainButton.click()
    assert ui.trainButton.text == "Stop"
    wait_for_iteration(host, ready, folder, 1)
    host.scene.Clear(0)  # The training outlives the scene, and a synthesis does not wait for it.
    ui.modelSelector.currentIndex = ui.modelSelector.findData("tiny")
    ui.newCanvasButton.click()
    paint(ready, "anterior", "posterior")
    ready.panel.labels.look()
    synthesize(host, ready)
    assert ui.resultList.count == 1
    assert ready.panel.training.busy
    status = ui.trainingStatus
    wait(host, lambda: status.text.startswith("Iteration "), lambda: status.text)
    ui.trainButton.click()
    assert ui.trainButton.toolTip == "The training is being stopped: it saves first."
    wait_for_the_run(host, ready)
    assert status.text == "The model mine is in the list of models."
    assert ui.modelSelector.findData("mine") >= 0
    assert not ui.montageLabel.pixmap.isNull()
    assert "These are your patients" in ui.montageCaption.text
    assert ui.montageCaption.visible
    check_the_curve(host, ready, folder)
    stopped = int(read_log(folder)[-1]["iteration"])
    fill_in(ready, tmp_path)
    ui.resumeButton.click()
    wait_for_iteration(host, ready, folder, stopped + 1)
    node = ready.panel.training._run.node
    close_widget(ready)  # It outlives the panel, too; the panel's plot does not.
    assert node.IsBusy()
    assert not slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    (folder / "stop").touch()
    wait(host, lambda: not node.IsBusy())
    assert int(read_log(folder)[-1]["iteration"]) > stopped
