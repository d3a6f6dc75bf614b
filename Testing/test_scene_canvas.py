"""The scene ring on Slicer's own MRML: segmentations to draw in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")


from data_factory import AFFINES, two_boxes
from host.fixtures import booted_mrml, scene
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.scene.canvas import add_label_map, new_canvas
from MedDiffusionLib.scene.jobs import SceneLogic
from MedDiffusionLib.scene.label_maps import read_label_node
from MedDiffusionLib.synthesis.labels import match_labels
from scene_nodes import lasting_logic, logic, manifest, same_geometry, wait

__all__ = ["booted_mrml", "lasting_logic", "logic", "manifest", "scene"]

pytest_plugins = ("host.isolation",)


def test_a_new_canvas_has_the_models_labels_and_its_grid(scene: Any, manifest: Manifest) -> None:
    node, volume = new_canvas(scene, manifest, "canvas")
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    assert [segmentation.GetSegment(i).GetName() for i in ids] == ["anterior", "posterior"]
    np.testing.assert_allclose(
        segmentation.GetSegment(ids[0]).GetColor(), np.array([230, 120, 60]) / 255
    )
    assert volume.GetImageData().GetDimensions() == manifest.grid.size
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    np.testing.assert_allclose(bounds, [-8, 8] * 3)


def test_what_is_painted_on_the_canvas_fits_the_model(
    scene: Any, tiny_bundle: Path, manifest: Manifest, logic: SceneLogic
) -> None:
    node, volume = new_canvas(scene, manifest, "canvas")
    painted = np.zeros((16, 16, 16), np.uint8)
    painted[6:10, 4:8, 5:9] = 1
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName("posterior")
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted, node, segment_id, volume)
    matched = match_labels(read_label_node(node).labels, manifest, {})
    assert ((matched.array == 2) == (painted.transpose() == 1)).all()
    (result,) = logic.synthesize(node, str(tiny_bundle))
    assert same_geometry(result, volume)


def test_a_label_map_becomes_a_segmentation_that_reads_back_the_same(
    scene: Any, manifest: Manifest
) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    node, _ = add_label_map(scene, manifest, labels, "random")
    back = match_labels(read_label_node(node).labels, manifest, {})
    assert (back.array == labels.array).all()
    np.testing.assert_allclose(back.affine, labels.affine, atol=1e-9)


def test_a_random_label_map_arrives_as_a_segmentation(scene: Any, logic: SceneLogic) -> None:
    drawn: list[Any] = []
    logic.startRandomLabelMap("hippocampus-mr", 3, drawn.append)
    wait(logic, lambda: not logic.busy)
    labels = read_label_node(drawn[0]).labels
    assert [s.name for s in labels.segments] == ["anterior", "posterior"]
    assert (labels.array > 0).sum() > 1000
