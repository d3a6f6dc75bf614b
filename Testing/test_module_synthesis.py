"""The way from a drawn label map to kept volumes, by clicks, and what remains afterwards."""

from __future__ import annotations

import gc
import os
import re
import signal
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from conftest import make_bundle
from host import missing
from host.fixtures import host, started_host
from module_panel import (
    all_nodes,
    backgrounds,
    choose_model,
    drawn,
    module,
    paint,
    panel,
    synthesize,
    tiny,
    wait,
)

__all__ = ["drawn", "host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

LONG: dict[str, Any] = {
    "sampling": {"sampler": "ddim", "steps": 1000, "guidance": 1.0},
    "grid": {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size": [48, 48, 48]},
}
"""What makes a model take a minute."""


class Previews:
    """What the preview node has shown, and in how many of the views."""

    def __init__(self, scene: Any) -> None:
        self.seen: list[bytes] = []
        self.shown_in: list[int] = []
        self._node: Any = None
        self._scene = scene
        self._tag = scene.AddObserver(scene.NodeAddedEvent, self._find)

    def look(self) -> None:
        """Count the views that show the preview now, if there is one."""
        if self._node is not None and self._node.GetScene() is not None:
            self.shown_in.append(backgrounds().count(self._node.GetName()))

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


@pytest.fixture
def long(drawn: Any, own_user_folder: Path) -> Any:
    """The same with a model that takes its time."""
    make_bundle(own_user_folder / "models" / "long", **LONG)
    drawn.panel.models.refresh()
    choose_model(drawn, "long")
    drawn.panel.labels.look()
    return drawn


def step(widget: Any) -> int:
    """The step that the panel tells of."""
    found = re.search(r"step (\d+) of", widget.ui.statusLabel.text)
    return int(found.group(1)) if found else 0


def start(host: Any, widget: Any) -> None:
    """Press Synthesize and wait for the second step."""
    widget.ui.synthesizeButton.click()
    wait(host, lambda: step(widget) >= 2)


def runner() -> Any:
    from MedDiffusionLib.widget.runner import shared_runner

    return shared_runner()


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_drawn_label_map_becomes_a_volume_that_forms_in_the_views(host: Any, drawn: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.views import source_volume

    drawn.ui.qualitySelector.currentIndex = 2  # best: 2.5 times the model's 2 steps
    drawn.ui.samplesSpinBox.value = 2
    previews = Previews(host.scene)
    drawn.ui.synthesizeButton.click()
    assert drawn.ui.synthesizeButton.text == "Cancel"
    assert drawn.ui.progressBar.visible

    def ended() -> bool:
        previews.look()
        return not drawn.panel.synthesis.busy

    wait(host, ended)
    previews.end()
    assert len(previews.seen) == 2 * 5
    assert set(previews.shown_in) == {3}
    name = "tiny labels synthetic T1w"
    assert [drawn.ui.resultList.item(i).text() for i in range(2)] == [f"{name} 0", f"{name} 1"]
    assert backgrounds() == [f"{name} 0"] * 3
    assert drawn.ui.synthesizeButton.text == "Synthesize"
    assert not drawn.ui.progressBar.visible
    assert drawn.ui.statusLabel.text == ""
    node = drawn.panel.parameters.result
    canvas = source_volume(drawn.panel.parameters.label_node)
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(node, canvas) == ""
    assert node.GetAttribute("MedDiffusion.steps") == "5"


def test_the_second_run_uses_the_warm_process(host: Any, drawn: Any) -> None:
    first = synthesize(host, drawn)
    process = runner().scene_logic.client.process_id
    second = synthesize(host, drawn)
    print(f"first run {first:.2f} s, second run {second:.2f} s")
    assert runner().scene_logic.client.process_id == process
    assert second < first
    assert drawn.ui.resultList.count == 2
    assert not runner().listening


def test_the_settings_reach_the_worker(host: Any, drawn: Any) -> None:
    ui = drawn.ui
    ui.seedSpinBox.value = 41
    ui.qualitySelector.currentIndex = 0
    ui.samplerSelector.currentIndex = ui.samplerSelector.findText("heun")
    ui.guidanceSpinBox.value = 1.5
    ui.deviceSelector.currentIndex = 1
    synthesize(host, drawn)
    result = drawn.panel.parameters.result
    facts = {name: result.GetAttribute(f"MedDiffusion.{name}") for name in FACTS}
    assert facts == FACTS
    ui.diceButton.click()
    ui.diceButton.click()
    assert drawn.panel.parameters.seed == ui.seedSpinBox.value != 41


FACTS = {"seed": "41", "steps": "1", "sampler": "heun", "guidance": "1.5", "model": "tiny"}


def test_cancel_ends_within_a_second_and_gives_the_views_back(host: Any, long: Any) -> None:
    before = backgrounds()
    start(host, long)
    assert backgrounds() != before
    long.ui.synthesizeButton.click()
    assert long.ui.synthesizeButton.toolTip == "The current step is being stopped."
    took = wait(host, lambda: not long.panel.synthesis.busy)
    assert took < 1
    assert backgrounds() == before == ["tiny labels grid"] * 3
    assert long.ui.statusLabel.text == "Cancelled."
    assert long.ui.synthesizeButton.enabled
    assert long.ui.resultList.count == 0


def test_zooming_during_a_preview_stays(host: Any, long: Any) -> None:
    import slicer

    view = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    start(host, long)
    view.SetFieldOfView(30, 25, 1)
    wait(host, lambda: step(long) >= 9)
    assert view.GetFieldOfView()[:2] == (30, 25)
    long.ui.synthesizeButton.click()
    wait(host, lambda: not long.panel.synthesis.busy)


def test_closing_the_scene_while_it_runs_leaves_a_working_panel(host: Any, long: Any) -> None:
    start(host, long)
    host.scene.Clear(0)
    took = wait(host, lambda: not long.panel.synthesis.busy)
    assert took < 1
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert long.ui.resultList.count == 0
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
    os.kill(runner().scene_logic.client.process_id, signal.SIGKILL)
    wait(host, lambda: not long.panel.synthesis.busy)
    assert "lack of memory" in long.ui.statusLabel.text
    assert backgrounds() == before
    choose_model(long, "tiny")
    synthesize(host, long)
    assert long.ui.statusLabel.text == ""
    assert long.ui.resultList.count == 1


def test_a_model_that_vanishes_before_the_press_leaves_a_sentence(host: Any, drawn: Any) -> None:
    import shutil

    shutil.rmtree(drawn.panel.models.folder)
    drawn.ui.synthesizeButton.click()
    assert "There is no model tiny" in drawn.ui.statusLabel.text
    assert not drawn.panel.synthesis.busy


def test_a_synthesis_goes_on_while_another_module_is_open(host: Any, drawn: Any) -> None:
    from host.modules import set_entered

    drawn.ui.synthesizeButton.click()
    set_entered(drawn, False)
    wait(host, lambda: not drawn.panel.synthesis.busy)
    set_entered(drawn, True)
    assert drawn.ui.resultList.count == 1


def test_the_state_survives_saving_and_loading_the_scene(
    host: Any, drawn: Any, tmp_path: Path
) -> None:
    import slicer.util

    drawn.ui.seedSpinBox.value = 7
    drawn.ui.samplesSpinBox.value = 2
    drawn.ui.outlinesCheck.checked = False
    synthesize(host, drawn)
    drawn.ui.nextButton.click()
    drawn.ui.qualitySelector.currentIndex = 2
    slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    host.scene.Clear(0)
    assert drawn.ui.resultList.count == 0
    drawn.ui.seedSpinBox.value = 1
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {})
    host.process_events(50)
    ui, chosen = drawn.ui, drawn.panel.parameters
    assert (chosen.seed, chosen.samples, chosen.outlines, chosen.model) == (7, 2, False, "tiny")
    assert (ui.seedSpinBox.value, ui.samplesSpinBox.value) == (7, 2)
    assert ui.qualitySelector.currentText == "Best"
    assert ui.labelSelector.currentNode().GetName() == "tiny labels"
    assert chosen.result.GetName() == "tiny labels synthetic T1w 8"
    assert (ui.resultList.count, ui.resultList.currentRow) == (2, 1)
    assert ui.synthesizeButton.enabled
    editor = drawn.panel.labels.editor.widget
    assert editor.segmentationNode() is chosen.label_node
    synthesize(host, drawn)
    assert ui.resultList.count == 4


def test_nothing_is_left_when_the_panel_and_the_scene_are_closed(
    host: Any, module: Any, tiny: Path, own_user_folder: Path
) -> None:
    import slicer

    from host.modules import close_widget, open_widget

    make_bundle(own_user_folder / "models" / "long", **LONG)
    files = set(Path(slicer.app.temporaryPath).iterdir())
    nodes = {node.GetID() for node in all_nodes()}
    widget = open_widget(module)
    choose_model(widget, "tiny")
    widget.ui.newCanvasButton.click()
    paint(widget, "anterior", "posterior")
    widget.panel.labels.look()
    synthesize(host, widget)
    choose_model(widget, "long")
    start(host, widget)
    process = runner().scene_logic.client.process_id
    parts = [widget.panel, widget.panel.labels, widget.panel.labels.editor, runner()]
    gone = [weakref.ref(part) for part in (*parts, runner().scene_logic)]
    timers = [runner()._timer, widget.panel.labels._timer]
    assert is_alive(process)
    assert timers[0].active
    close_widget(widget)
    host.scene.Clear(0)
    assert not is_alive(process)
    assert not any(timer.active for timer in timers)
    assert set(Path(slicer.app.temporaryPath).iterdir()) == files
    left = {node.GetID() for node in all_nodes()} - nodes
    assert left == set()
    observed = [part.Observations for part in parts if hasattr(part, "Observations")]
    assert observed == [[], [], []]
    del widget, parts, timers
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


def test_how_long_the_event_loop_is_blocked(host: Any, drawn: Any) -> None:
    """A measure for the reader; what it is depends on the machine."""
    choose_model(drawn, "hippocampus-mr")
    drawn.ui.exampleButton.click()
    host.process_events(400)
    longest, last = 0.0, time.perf_counter()
    drawn.ui.synthesizeButton.click()
    while drawn.panel.synthesis.busy:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        host.process_events()
        time.sleep(0.001)
    print(f"longest block of the event loop: {1000 * longest:.1f} ms")
    assert drawn.ui.resultList.count == 1


def test_closing_the_panel_during_a_preview_gives_the_views_back(host: Any, long: Any) -> None:
    from host.modules import close_widget

    before = backgrounds()
    start(host, long)
    close_widget(long)
    assert backgrounds() == before
