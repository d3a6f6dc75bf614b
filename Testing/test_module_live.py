"""Live, by clicks and strokes: the views follow what is drawn, and come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    all_nodes,
    backgrounds,
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
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

NAME = "MedDiffusion live synthetic"


def live_nodes() -> list[Any]:
    return [node for node in all_nodes() if node.GetName() == NAME]


def voxels() -> Any:
    import slicer.util

    (node,) = live_nodes()
    return slicer.util.arrayFromVolume(node).copy()


def pictures(panel: Any) -> list[Any]:
    """The pictures that come from now on."""
    volume = panel.panel.live._volume
    seen: list[Any] = []
    show = volume.on_made

    def made(node: Any) -> None:
        show(node)
        seen.append(voxels())

    volume.on_made = made
    return seen


def is_at_rest(panel: Any) -> bool:
    return not panel.panel.live._timer.active and not shared_runner().scene_logic.busy


def erase(panel: Any, name: str) -> None:
    import slicer.util

    from MedDiffusionLib.widget.views import source_volume

    node = panel.panel.parameters.label_node
    volume = source_volume(node)
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[4:8, 4:8, 4:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)


def test_each_stroke_makes_the_one_live_volume_anew_and_off_brings_back_what_was_shown(
    host: Any, drawn: Any
) -> None:
    synthesize(host, drawn)
    result = drawn.panel.parameters.result.GetName()
    assert backgrounds() == [result] * 3
    seen = pictures(drawn)
    drawn.ui.liveCheck.click()
    wait(host, lambda: len(seen) == 1, lambda: drawn.ui.liveStatus.text)
    assert backgrounds() == [NAME] * 3
    node = live_nodes()[0]
    assert (node.GetSaveWithScene(), node.GetHideFromEditors()) == (False, True)
    erase(drawn, "posterior")
    wait(host, lambda: len(seen) == 2, lambda: drawn.ui.liveStatus.text)
    assert live_nodes() == [node]
    assert (seen[0] != seen[1]).any()
    assert drawn.ui.resultList.count == 1
    drawn.ui.liveCheck.click()
    assert (backgrounds(), live_nodes()) == ([result] * 3, [])
    assert drawn.ui.liveStatus.text == ""


def test_a_live_volume_is_what_a_synthesis_with_its_settings_makes(host: Any, drawn: Any) -> None:
    import slicer.util

    from MedDiffusionLib.bundles.catalog import find_model
    from MedDiffusionLib.bundles.manifest import read_manifest
    from MedDiffusionLib.widget.presenters.live import live_settings

    seen = pictures(drawn)
    drawn.ui.liveCheck.click()
    wait(host, lambda: bool(seen), lambda: drawn.ui.liveStatus.text)
    asked = live_settings(read_manifest(find_model("tiny")), 0)
    (made,) = shared_runner().scene_logic.synthesize(
        drawn.panel.parameters.label_node, "tiny", asked
    )
    assert (slicer.util.arrayFromVolume(made) == seen[0]).all()


def test_a_new_stroke_drops_what_is_being_made_and_keeps_the_process_warm(
    host: Any, drawn: Any
) -> None:
    seen = pictures(drawn)
    drawn.ui.liveCheck.click()
    wait(host, lambda: bool(seen), lambda: drawn.ui.liveStatus.text)
    live, client = drawn.panel.live, shared_runner().scene_logic.client
    process = client.process_id
    erase(drawn, "posterior")
    live._make()  # The stroke is finished,
    assert live._volume.busy
    erase(drawn, "anterior")  # and the next one, before anything could be shown.
    live._make()
    wait(host, lambda: is_at_rest(drawn), lambda: drawn.ui.liveStatus.text)
    assert len(seen) == 2
    assert client.process_id == process


def test_what_changes_the_looks_alone_makes_nothing(host: Any, drawn: Any) -> None:
    seen = pictures(drawn)
    drawn.ui.liveCheck.click()
    wait(host, lambda: bool(seen), lambda: drawn.ui.liveStatus.text)
    segment = drawn.panel.parameters.label_node.GetSegmentation().GetSegment("anterior")
    segment.SetColor(1, 0, 0)
    wait(host, lambda: is_at_rest(drawn))
    assert len(seen) == 1
    drawn.ui.seedSpinBox.value = 5
    wait(host, lambda: len(seen) == 2, lambda: drawn.ui.liveStatus.text)


def test_a_synthesis_goes_first_and_the_next_stroke_is_live_again(host: Any, drawn: Any) -> None:
    seen = pictures(drawn)
    drawn.ui.liveCheck.click()
    wait(host, lambda: bool(seen), lambda: drawn.ui.liveStatus.text)
    drawn.panel.parameters.new_seed = True
    synthesize(host, drawn)
    wait(host, lambda: is_at_rest(drawn))
    result = drawn.panel.parameters.result.GetName()
    assert (backgrounds(), live_nodes()) == ([result] * 3, [])
    assert drawn.ui.liveCheck.checked
    erase(drawn, "posterior")
    wait(host, lambda: backgrounds() == [NAME] * 3, lambda: drawn.ui.liveStatus.text)
    drawn.ui.liveCheck.click()
    assert backgrounds() == [result] * 3


def test_live_begins_on_an_empty_canvas_and_ends_with_the_scene(host: Any, panel: Any) -> None:
    assert "Choose a label map" in panel.ui.liveCheck.toolTip
    panel.ui.newCanvasButton.click()
    panel.ui.liveCheck.click()
    wait(host, lambda: "is empty" in panel.ui.liveStatus.text, lambda: panel.ui.liveStatus.text)
    seen = pictures(panel)
    paint(panel, "anterior", "posterior")
    wait(host, lambda: bool(seen), lambda: panel.ui.liveStatus.text)
    host.scene.Clear(0)
    assert not panel.ui.liveCheck.checked
    assert live_nodes() == []
