"""The bundled model in Slicer: the README's tutorial as it is written, and the self-test."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import (
    backgrounds,
    choose_model,
    home,
    module,
    own_user_folder,
    panel,
    synthesize,
    tiny,
    worker,
)
from tutorial import MODEL, STROKES, Tutorial

__all__ = ["home", "host", "module", "own_user_folder", "panel", "started_host", "tiny", "worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def segment_voxels(node: Any, name: str) -> int:
    import slicer.util

    return int((slicer.util.arrayFromSegmentBinaryLabelmap(node, name) > 0).sum())


def test_the_first_volume_takes_two_presses(host: Any, panel: Any) -> None:
    choose_model(panel, MODEL)
    panel.ui.qualitySelector.currentIndex = 0
    panel.ui.exampleButton.click()
    synthesize(host, panel)
    assert panel.ui.statusLabel.text == ""
    assert backgrounds() == [panel.panel.parameters.result.GetName()] * 3
    assert "synthetic" in panel.panel.parameters.result.GetName()


def test_who_follows_the_tutorial_gets_volumes_of_what_was_drawn(host: Any, panel: Any) -> None:
    import slicer

    ui, stages = panel.ui, list[str]()
    tutorial = Tutorial(host, panel, stages.append)
    tutorial.choose_the_model()
    tutorial.draw()
    labels = panel.panel.parameters.label_node
    assert all(segment_voxels(labels, name) > 500 for name in STROKES)
    assert ui.fitLabel.text == "✓ hippocampus-mr labels fits the model: anterior, posterior."
    ui.qualitySelector.currentIndex = 0  # As fast as it goes: the pictures are not looked at here.
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
    assert stages == ["drawn", "preview", "result", "without outlines", "3d"]


def test_the_self_test_passes(host: Any, module: Any, worker: Any) -> None:
    import slicer

    slicer.selfTests["MedDiffusion"]()
    sys.modules["MedDiffusion"].MedDiffusionLogic().cleanup()
