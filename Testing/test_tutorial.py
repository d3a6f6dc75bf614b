"""The README's tutorial works as it is written, with the bundled model."""

from __future__ import annotations

from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import backgrounds, module, panel, tiny
from tutorial import STROKES, Tutorial

__all__ = ["host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


@pytest.fixture
def stages() -> list[str]:
    return []


@pytest.fixture
def tutorial(host: Any, panel: Any, stages: list[str]) -> Tutorial:
    return Tutorial(host, panel, stages.append)


def segment_voxels(node: Any, name: str) -> int:
    import slicer.util

    return int((slicer.util.arrayFromSegmentBinaryLabelmap(node, name) > 0).sum())


def test_who_follows_the_tutorial_gets_volumes_of_what_was_drawn(
    tutorial: Tutorial, panel: Any, stages: list[str]
) -> None:
    import slicer

    ui = panel.ui
    tutorial.choose_the_model()
    tutorial.draw()
    labels = panel.panel.parameters.label_node
    assert all(segment_voxels(labels, name) > 500 for name in STROKES)
    assert ui.fitLabel.text == "✓ hippocampus-mr labels fits the model: anterior, posterior."
    cold = tutorial.synthesize()
    first = panel.panel.parameters.result
    assert backgrounds() == [first.GetName()] * 3
    array = slicer.util.arrayFromVolume(first)
    assert 0 <= array.min() < 200
    assert 800 < array.max() <= 1000
    tutorial.look_without_outlines()
    warm = tutorial.make_another()
    print(f"first volume {cold:.1f} s, second {warm:.1f} s")
    assert ui.resultList.count == 2
    assert panel.panel.parameters.result is not first
    tutorial.step_through_the_results()
    tutorial.show_in_3d()
    assert stages == ["drawn", "preview", "result", "without outlines", "3d"]


def test_a_stroke_can_be_undone(tutorial: Tutorial, panel: Any) -> None:
    tutorial.draw()
    labels, editor = panel.panel.parameters.label_node, panel.panel.labels.editor.widget
    before = segment_voxels(labels, "posterior")
    editor.undo()
    assert segment_voxels(labels, "posterior") == 0
    editor.redo()
    assert segment_voxels(labels, "posterior") == before
