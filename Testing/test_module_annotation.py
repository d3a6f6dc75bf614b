"""Every view that shows a synthetic volume says so in its corner, also in pictures of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import home, module, own_user_folder, panel, synthesize, tiny, worker

__all__ = ["home", "host", "module", "own_user_folder", "panel", "started_host", "tiny", "worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

SLICES = ("Red", "Green", "Yellow")


@pytest.fixture(autouse=True)
def annotated(host: Any) -> None:
    from MedDiffusionLib.widget.annotation import annotate_views

    annotate_views()


def add_volume(name: str, synthetic: bool = False) -> Any:
    import slicer.util

    values = np.arange(12**3, dtype=np.float32).reshape(12, 12, 12)
    node = slicer.util.addVolumeFromArray(values, name=name)
    node.CreateDefaultDisplayNodes()
    if synthetic:
        node.SetAttribute("MedDiffusion.model", "tiny")
    return node


def texts(view: Any) -> list[str]:
    """What a view widget's actors say."""
    props = view.renderWindow().GetRenderers().GetFirstRenderer().GetViewProps()
    found = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
    return [p.GetInput() for p in found if p.IsA("vtkTextActor") and p.GetVisibility()]


def annotated_views() -> list[str]:
    import slicer

    manager = slicer.app.layoutManager()
    found = [name for name in SLICES if texts(manager.sliceWidget(name).sliceView())]
    return found + (["3D"] if texts(manager.threeDWidget(0).threeDView()) else [])


def composite(name: str) -> Any:
    import slicer

    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)
    return logic.GetSliceCompositeNode()


def test_views_say_so_while_they_show_a_synthetic_volume(host: Any) -> None:
    import slicer

    scan, made = add_volume("scan"), add_volume("made", synthetic=True)
    slicer.util.setSliceViewerLayers(background=scan, foregroundOpacity=0)
    assert annotated_views() == []
    composite("Red").SetBackgroundVolumeID(made.GetID())
    assert annotated_views() == ["Red"]
    (text,) = texts(slicer.app.layoutManager().sliceWidget("Red").sliceView())
    assert text == "Synthetic, not for diagnosis"
    composite("Green").SetForegroundVolumeID(made.GetID())
    assert annotated_views() == ["Red"], "an invisible layer is not shown"
    composite("Green").SetForegroundOpacity(0.3)
    assert annotated_views() == ["Red", "Green"]
    slicer.util.setSliceViewerLayers(background=scan, foreground=None)
    assert annotated_views() == []


def test_a_3d_view_says_so_for_renderings_and_for_slices(host: Any) -> None:
    import slicer

    from MedDiffusionLib.widget.rendering import show_rendering

    scan, made = add_volume("scan"), add_volume("made", synthetic=True)
    show_rendering(scan, True)
    assert annotated_views() == []
    show_rendering(made, True)
    assert annotated_views() == ["3D"]
    show_rendering(made, False)
    composite("Red").SetBackgroundVolumeID(made.GetID())
    assert annotated_views() == ["Red"]
    slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().SetSliceVisible(True)
    assert annotated_views() == ["Red", "3D"]
    host.scene.RemoveNode(made)
    assert annotated_views() == []
    slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().SetSliceVisible(False)


def test_views_of_another_layout_say_so_too(host: Any) -> None:
    import slicer

    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    made = add_volume("made", synthetic=True)
    before = manager.layout
    manager.setLayout(layouts.SlicerLayoutThreeOverThreeView)
    for name in manager.sliceViewNames():
        composite(name).SetBackgroundVolumeID(made.GetID())
        assert texts(manager.sliceWidget(name).sliceView()) != []
    manager.setLayout(before)


def test_a_picture_of_a_view_has_the_words_in_its_corner(host: Any) -> None:
    import slicer

    from host.views import SliceView

    made = add_volume("made", synthetic=True)
    slicer.util.setSliceViewerLayers(background=made, fit=True)
    view = SliceView(slicer.app.layoutManager().sliceWidget("Red").sliceLogic())
    with_words = view.array(400, 300).astype(int)
    made.RemoveAttribute("MedDiffusion.model")
    composite("Red").Modified()
    without = view.array(400, 300).astype(int)
    view.close()
    rows, columns = np.nonzero(np.abs(with_words - without).sum(axis=2))
    assert len(rows) > 200
    assert rows.max() < 40
    assert columns.min() > 150


def test_results_and_previews_of_the_panel_are_marked(host: Any, panel: Any) -> None:
    from module_panel import paint

    assert annotated_views() == []
    panel.ui.newCanvasButton.click()
    paint(panel, "anterior", "posterior")
    panel.panel.labels.look()
    seen: list[list[str]] = []
    layer = panel.panel.synthesis._preview
    show = layer.show

    def watch(node: Any) -> None:
        show(node)
        seen.append(annotated_views())

    layer.show = watch
    synthesize(host, panel)
    assert seen[0] == list(SLICES)
    assert annotated_views() == list(SLICES)
