"""A result in 3D: cropped to its labels, with their surfaces, and gone without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_factory import AFFINES, two_boxes
from host import missing
from host.fixtures import host, started_host

__all__ = ["host", "started_host"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

MARGIN = 3.0
TURNED = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]])


def result_of(label_node: Any, labels: Any) -> Any:
    import slicer.util

    from MedDiffusionLib.scene.synthetic import LABELS_ROLE

    values = labels.array.astype(np.float32).transpose()
    node = slicer.util.addVolumeFromArray(values, labels.affine, "made")
    node.CreateDefaultDisplayNodes()
    node.SetAttribute("MedDiffusion.model", "tiny")
    node.SetNodeReferenceID(LABELS_ROLE, label_node.GetID())
    node.SetAndObserveTransformNodeID(label_node.GetTransformNodeID())
    return node


def rendering(node: Any) -> Any:
    import slicer

    return slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node)


def has_surfaces(node: Any) -> bool:
    import slicer

    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    return bool(node.GetSegmentation().ContainsRepresentation(surface))


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("moved", [False, True])
def test_the_rendering_is_cropped_to_the_labels_wherever_they_lie(
    host: Any, name: str, moved: bool
) -> None:
    import slicer.util

    from MedDiffusionLib.widget.rendering import show_rendering
    from scene_nodes import label_node, put_under

    labels = two_boxes(affine=AFFINES[name])
    drawn = label_node(host.scene, labels)
    world = np.eye(4)
    if moved:
        put_under(host.scene, drawn, TURNED)
        world = TURNED
    made = result_of(drawn, labels)
    show_rendering(made, True)
    assert rendering(made).GetCroppingEnabled()
    roi = rendering(made).GetROINode()
    to_box = np.linalg.inv(slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix()))
    inside = np.argwhere(labels.array > 0)
    faces = np.concatenate([inside - 0.5, inside + 0.5])
    corners = np.concatenate([faces, np.ones((len(faces), 1))], axis=1)
    places = (to_box @ world @ labels.affine @ corners.T)[:3]
    half = np.array(roi.GetSize()) / 2 - MARGIN
    np.testing.assert_allclose(places.max(axis=1), half, atol=1e-3)
    np.testing.assert_allclose(places.min(axis=1), -half, atol=1e-3)
    assert not roi.GetDisplayVisibility()


def test_surfaces_are_shown_with_a_result_of_their_label_map_and_go_with_the_last(
    host: Any,
) -> None:
    from MedDiffusionLib.scene.label_maps import label_map_state
    from MedDiffusionLib.widget.rendering import show_rendering
    from scene_nodes import segmentation

    labels = two_boxes()
    drawn = segmentation(host.scene, labels, {1: "anterior", 2: "posterior"})
    state = label_map_state(drawn)
    display = drawn.GetDisplayNode()
    first, second = result_of(drawn, labels), result_of(drawn, labels)
    before = display.GetOpacity3D()
    show_rendering(first, True)
    show_rendering(second, False)  # As the panel does for all the others.
    assert has_surfaces(drawn)
    assert display.GetVisibility3D()
    assert display.GetOpacity3D() < before
    assert label_map_state(drawn) == state
    show_rendering(second, True)
    show_rendering(first, False)
    assert has_surfaces(drawn)
    show_rendering(second, False)
    assert not has_surfaces(drawn)
    assert display.GetOpacity3D() == before


def test_the_users_own_surfaces_stay(host: Any) -> None:
    from MedDiffusionLib.widget.rendering import show_rendering
    from scene_nodes import segmentation

    labels = two_boxes()
    drawn = segmentation(host.scene, labels, {1: "anterior", 2: "posterior"})
    drawn.CreateClosedSurfaceRepresentation()
    before = drawn.GetDisplayNode().GetOpacity3D()
    made = result_of(drawn, labels)
    show_rendering(made, True)
    show_rendering(made, False)
    assert has_surfaces(drawn)
    assert drawn.GetDisplayNode().GetOpacity3D() == before


def test_a_picture_shows_the_surfaces_through_the_volume(host: Any, tmp_path: Path) -> None:
    import slicer

    from host.views import ThreeDView
    from MedDiffusionLib.widget.rendering import show_rendering
    from scene_nodes import segmentation

    labels = two_boxes()
    drawn = segmentation(host.scene, labels, {1: "anterior", 2: "posterior"})
    segments = drawn.GetSegmentation()
    segments.GetNthSegment(0).SetColor(1, 0, 0)
    segments.GetNthSegment(1).SetColor(1, 0, 0)
    show_rendering(result_of(drawn, labels), True)
    view = ThreeDView(slicer.app.layoutManager().threeDWidget(0).mrmlViewNode())
    pixels = view.array(200, 200).astype(int)
    view.close()
    red = (pixels[..., 0] > pixels[..., 1] + 40) & (pixels[..., 0] > pixels[..., 2] + 40)
    assert red.sum() > 200
