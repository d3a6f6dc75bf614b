"""The way from a drawn label map to kept volumes, by clicks, and what remains afterwards."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from host import missing
from host.fixtures import host, started_host
from module_panel import (
    add_label_map,
    all_nodes,
    backgrounds,
    choose_model,
    drawn,
    home,
    module,
    own_user_folder,
    paint,
    panel,
    shared_runner,
    synthesize,
    tiny,
    wait,
    wait_for_the_end,
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

LONG: dict[str, Any] = {
    "sampling": {"sampler": "ddim", "steps": 1000, "guidance": 1.0},
    "grid": {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size": [48, 48, 48]},
}
"""What makes a model take a minute."""
NAME = "tiny labels synthetic T1w"


class Previews:
    """What the preview node has shown, and in how many views it was when it changed."""

    def __init__(self, scene: Any) -> None:
        self.seen: list[bytes] = []
        self.shown_in: list[int] = []
        self._node: Any = None
        self._scene = scene
        self._tag = scene.AddObserver(scene.NodeAddedEvent, self._find)

    def end(self) -> None:
        self._scene.RemoveObserver(self._tag)

    def _find(self, *_: Any) -> None:
        import slicer

        from MedDiffusionLib.scene.jobs import PREVIEW_NAME

        node = self._scene.GetFirstNodeByName(PREVIEW_NAME)
        if node is not None and node is not self._node:
            self._node = node
            node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._keep)

    def _keep(self, *_: Any) -> None:
        import slicer

        if self._node.GetImageData().GetPointData().GetScalars() is not None:
            voxels = slicer.util.arrayFromVolume(self._node).tobytes()
            if voxels not in self.seen:
                self.seen.append(voxels)
                self.shown_in.append(backgrounds().count(self._node.GetName()))


@pytest.fixture
def long(drawn: Any, own_user_folder: Path) -> Any:
    """The panel with a model that takes its time."""
    make_bundle(own_user_folder / "models" / "long", **LONG)
    drawn.panel.models.refresh()
    choose_model(drawn, "long")
    drawn.panel.labels.look()
    return drawn


def start(host: Any, widget: Any) -> None:
    """Press Synthesize and wait for the second of a thousand steps."""
    widget.ui.synthesizeButton.click()
    wait_for_progress(host, widget, 2)


def wait_for_progress(host: Any, widget: Any, value: int) -> None:
    bar, status = widget.ui.progressBar, widget.ui.statusLabel
    wait(host, lambda: bar.value >= value, lambda: (bar.value, status.text))


def test_a_drawn_label_map_becomes_volumes_that_form_in_the_views(host: Any, drawn: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.views import source_volume

    ui = drawn.ui
    ui.qualitySelector.currentIndex = 2  # best: 2.5 times the model's 2 steps
    ui.samplesSpinBox.value = 2
    previews = Previews(host.scene)
    ui.synthesizeButton.click()
    assert ui.synthesizeButton.text == "Cancel"
    assert ui.progressBar.visible
    wait_for_the_end(host, drawn)
    previews.end()
    assert len(previews.seen) == 2 * 5
    assert previews.shown_in == [0, *[3] * 9]
    assert [ui.resultList.item(i).text() for i in range(2)] == [f"{NAME} 0", f"{NAME} 1"]
    assert backgrounds() == [f"{NAME} 0"] * 3
    assert (ui.synthesizeButton.text, ui.statusLabel.text) == ("Synthesize", "")
    assert not ui.progressBar.visible
    node = drawn.panel.parameters.result
    canvas = source_volume(drawn.panel.parameters.label_node)
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(node, canvas) == ""


def test_the_settings_reach_the_worker_which_stays_for_the_next_run(host: Any, drawn: Any) -> None:
    ui = drawn.ui
    ui.seedSpinBox.value = 41
    ui.qualitySelector.currentIndex = 0
    ui.samplerSelector.currentIndex = ui.samplerSelector.findText("ddpm")
    ui.guidanceSpinBox.value = 1.5
    ui.deviceSelector.currentIndex = 1
    synthesize(host, drawn)
    result = drawn.panel.parameters.result
    facts = {"seed": "41", "steps": "1", "sampler": "ddpm", "guidance": "1.5", "model": "tiny"}
    assert {name: result.GetAttribute(f"MedDiffusion.{name}") for name in facts} == facts
    process = shared_runner().scene_logic.client.process_id
    ui.diceButton.click()
    ui.diceButton.click()
    assert drawn.panel.parameters.seed == ui.seedSpinBox.value != 41
    synthesize(host, drawn)
    assert shared_runner().scene_logic.client.process_id == process
    assert ui.resultList.count == 2
    assert not shared_runner().listening


def test_cancel_ends_a_long_run_and_gives_the_views_back(host: Any, long: Any) -> None:
    import slicer

    ui, before = long.ui, backgrounds()
    start(host, long)
    assert backgrounds() != before
    view = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    view.SetFieldOfView(30, 25, 1)
    wait_for_progress(host, long, ui.progressBar.value + 2)
    assert view.GetFieldOfView()[:2] == (30, 25)  # Zooming during a preview stays.
    ui.synthesizeButton.click()
    assert ui.synthesizeButton.toolTip == "The current step is being stopped."
    wait_for_the_end(host, long)
    assert backgrounds() == before == ["tiny labels grid"] * 3
    assert (ui.statusLabel.text, ui.synthesizeButton.enabled) == ("Cancelled.", True)
    assert ui.resultList.count == 0


def test_closing_the_scene_while_it_runs_leaves_a_working_panel(host: Any, long: Any) -> None:
    start(host, long)
    host.scene.Clear(0)
    wait_for_the_end(host, long)
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert long.ui.labelSelector.currentNode() is None
    assert "Choose a label map" in long.ui.synthesizeButton.toolTip
    choose_model(long, "tiny")
    long.ui.newCanvasButton.click()
    paint(long, "anterior")
    long.panel.labels.look()
    synthesize(host, long)
    assert long.ui.resultList.count == 1


def test_a_process_that_is_killed_leaves_a_sentence_and_a_working_panel(
    host: Any, long: Any
) -> None:
    before = backgrounds()
    start(host, long)
    os.kill(shared_runner().scene_logic.client.process_id, signal.SIGKILL)
    wait_for_the_end(host, long)
    assert "lack of memory" in long.ui.statusLabel.text
    assert backgrounds() == before
    choose_model(long, "tiny")
    synthesize(host, long)
    assert (long.ui.statusLabel.text, long.ui.resultList.count) == ("", 1)


def test_a_model_that_vanishes_before_the_press_leaves_a_sentence(host: Any, drawn: Any) -> None:
    shutil.rmtree(drawn.panel.models.chosen.folder)
    drawn.ui.synthesizeButton.click()
    assert "There is no model tiny" in drawn.ui.statusLabel.text
    assert not drawn.panel.synthesis.busy


def test_a_label_map_volume_will_do_and_a_run_goes_on_while_another_module_is_open(
    host: Any, panel: Any
) -> None:
    import slicer.util

    from host.modules import set_entered

    array = np.zeros((16, 16, 16), np.int16)
    array[4:8, 4:12, 4:12], array[8:12, 4:12, 4:12] = 1, 2
    node = add_label_map("map", array)
    panel.ui.labelSelector.setCurrentNode(node)
    panel.ui.synthesizeButton.click()
    set_entered(panel, False)
    wait_for_the_end(host, panel)
    set_entered(panel, True)
    assert panel.ui.resultList.count == 1
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert [one.GetLabelVolumeID() for one in composites] == [node.GetID()] * 3
    assert all(v.GetUseLabelOutline() for v in slicer.util.getNodesByClass("vtkMRMLSliceNode"))
    panel.ui.outlinesCheck.click()
    assert [one.GetLabelVolumeID() for one in composites] == [None] * 3


def test_a_script_may_start_a_synthesis_and_go_on(host: Any, drawn: Any) -> None:
    logic = sys.modules["MedDiffusion"].MedDiffusionLogic()
    done: list[Any] = []
    job = logic.startSynthesis(drawn.panel.parameters.label_node, model="tiny", seed=3)
    job.onFinished = done.extend
    wait(host, lambda: job.ended)
    assert [node.GetAttribute("MedDiffusion.seed") for node in done] == ["3"]
    assert drawn.ui.resultList.count == 1


def test_the_state_survives_saving_and_loading_the_scene(
    host: Any, drawn: Any, tmp_path: Path
) -> None:
    import slicer.util

    ui = drawn.ui
    ui.seedSpinBox.value = 7
    ui.samplesSpinBox.value = 2
    ui.outlinesCheck.checked = False
    synthesize(host, drawn)
    ui.nextButton.click()
    ui.qualitySelector.currentIndex = 2
    slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    host.scene.Clear(0)
    assert ui.resultList.count == 0
    ui.seedSpinBox.value = 1
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {})
    host.process_events(50)
    chosen = drawn.panel.parameters
    assert (chosen.seed, chosen.samples, chosen.outlines, chosen.model) == (7, 2, False, "tiny")
    assert (ui.seedSpinBox.value, ui.samplesSpinBox.value) == (7, 2)
    assert ui.qualitySelector.currentText == "Best"
    assert ui.labelSelector.currentNode().GetName() == "tiny labels"
    assert chosen.result.GetName() == f"{NAME} 8"
    assert (ui.resultList.count, ui.resultList.currentRow) == (2, 1)
    editor = drawn.panel.labels.editor.widget
    assert editor.segmentationNode() is chosen.label_node
    synthesize(host, drawn)
    assert ui.resultList.count == 4


def test_the_state_of_an_earlier_version_is_understood(host: Any, panel: Any) -> None:
    node = panel.panel.parameters.parameterNode
    panel.panel.parameters.overrides = {"7": "anterior"}
    node.SetParameter("sampler", "HEUN")
    assert panel.ui.samplerSelector.currentText == "As the model recommends"
    for name in list(node.GetParameterNames()):
        if name.startswith("overrides."):
            node.SetParameter(f"told.{name.partition('.')[2]}", node.GetParameter(name))
            node.UnsetParameter(name)
    host.scene.StartState(host.scene.ImportState)
    host.scene.EndState(host.scene.ImportState)
    assert dict(panel.panel.parameters.overrides) == {"7": "anterior"}
    assert not [name for name in node.GetParameterNames() if name.startswith("told")]


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_left_when_the_panel_and_the_scene_are_closed_during_a_run(
    host: Any, module: Any, worker: Any, tiny: Path, own_user_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import slicer

    from host.modules import close_widget, open_widget
    from MedDiffusionLib.widget import runner

    worker()
    monkeypatch.setattr(runner, "close_runner", worker)
    make_bundle(own_user_folder / "models" / "long", **LONG)
    files = set(Path(slicer.app.temporaryPath).iterdir())
    nodes = {node.GetID() for node in all_nodes()}
    widget = open_widget(module)
    choose_model(widget, "long")
    widget.ui.newCanvasButton.click()
    paint(widget, "anterior", "posterior")
    widget.panel.labels.look()
    before = backgrounds()
    start(host, widget)
    process = shared_runner().scene_logic.client.process_id
    parts = [widget.panel, widget.panel.labels, widget.panel.labels.editor, shared_runner()]
    gone = [weakref.ref(part) for part in (*parts, shared_runner().scene_logic)]
    timers = [shared_runner()._timer, widget.panel.labels._timer]
    assert is_alive(process)
    assert timers[0].active
    close_widget(widget)
    assert backgrounds() == before
    host.scene.Clear(0)
    assert not is_alive(process)
    assert not any(timer.active for timer in timers)
    assert set(Path(slicer.app.temporaryPath).iterdir()) == files
    left = [node.GetClassName() for node in all_nodes() if node.GetID() not in nodes]
    assert set(left) <= {"vtkMRMLScriptedModuleNode"}  # The parameters, for the next panel.
    observed = [part.Observations for part in parts if hasattr(part, "Observations")]
    assert observed == [[], [], []]
    del widget, parts, timers
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)
