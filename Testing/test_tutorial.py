"""The bundled model in Slicer: the README's tutorial as it is written, and the self-test."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    backgrounds,
    home,
    module,
    own_user_folder,
    panel,
    tiny,
    wait_for_the_end,
    worker,
)
from tutorial import STROKES, Tutorial

__all__ = ["home", "host", "module", "own_user_folder", "panel", "started_host", "tiny", "worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def segment_voxels(node: Any, name: str) -> int:
    import slicer.util

    return int((slicer.util.arrayFromSegmentBinaryLabelmap(node, name) > 0).sum())


def test_who_follows_the_tutorial_gets_volumes_of_what_was_drawn(host: Any, panel: Any) -> None:
    import slicer

    ui, stages = panel.ui, list[str]()
    tutorial = Tutorial(host, panel, stages.append)
    tutorial.choose_the_model()
    ui.qualitySelector.currentIndex = 0  # As fast as it goes: the pictures are not looked at here.
    tutorial.take_the_example()
    assert ui.fitLabel.text == "✓ hippocampus example fits the model: anterior, posterior."
    tutorial.synthesize()
    first = panel.panel.parameters.result
    assert backgrounds() == [first.GetName()] * 3
    array = slicer.util.arrayFromVolume(first)
    assert 0 <= array.min() < 200
    assert 800 < array.max() <= 1000
    tutorial.look_without_outlines()
    tutorial.make_another()
    assert ui.resultList.count == 2
    assert panel.panel.parameters.result is not first
    tutorial.step_through_the_results()
    tutorial.show_in_3d()
    tutorial.draw()
    labels = panel.panel.parameters.label_node
    assert all(segment_voxels(labels, name) > 500 for name in STROKES)
    assert ui.fitLabel.text == "✓ hippocampus-mr labels fits the model: anterior, posterior."
    tutorial.follow_live()
    tutorial.make_another()
    assert ui.resultList.count == 3
    assert stages == ["preview", "result", "without outlines", "3d", "drawn", "live"]


def test_the_first_volume_takes_two_presses(
    host: Any, module: Any, worker: Any, own_user_folder: Any
) -> None:
    from host.modules import close_widget, open_widget

    widget = open_widget(module)
    widget.ui.qualitySelector.currentIndex = 0  # As fast as it goes.
    assert "begin with Example" in widget.ui.fitLabel.text
    widget.ui.exampleButton.click()
    widget.ui.synthesizeButton.click()
    wait_for_the_end(host, widget)
    assert widget.ui.statusLabel.text == ""
    result = widget.panel.parameters.result
    assert backgrounds() == [result.GetName()] * 3
    assert "synthetic" in result.GetName()
    close_widget(widget)


def test_the_self_test_passes(host: Any, module: Any, worker: Any) -> None:
    import slicer

    slicer.selfTests["MedDiffusion"]()
    sys.modules["MedDiffusion"].MedDiffusionLogic().cleanup()
