"""The scene ring on Slicer's own MRML: label maps in, volumes with their geometry out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk

from data_factory import AFFINES, two_boxes
from host.fixtures import booted_mrml, scene
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.scene.jobs import PREVIEW_NAME, SceneLogic
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.volumes.volume import Kind, Volume
from scene_nodes import (
    label_node,
    lasting_logic,
    logic,
    manifest,
    put_under,
    same_geometry,
    segmentation,
    wait,
)

__all__ = ["booted_mrml", "lasting_logic", "logic", "manifest", "scene"]

pytest_plugins = ("host.isolation",)


@pytest.mark.parametrize("name", AFFINES)
def test_the_result_has_its_label_maps_geometry(
    scene: Any, tiny_bundle: Path, logic: SceneLogic, name: str
) -> None:
    node = label_node(scene, two_boxes(affine=AFFINES[name]))
    (volume,) = logic.synthesize(node, str(tiny_bundle))
    assert same_geometry(volume, node)
    assert slicer.util.arrayFromVolume(volume).std() > 0


@pytest.mark.parametrize("size", [(10, 9, 8), (36, 28, 22)])
def test_label_maps_far_from_the_models_field_of_view_keep_their_geometry(
    scene: Any, tiny_bundle: Path, logic: SceneLogic, size: tuple[int, int, int]
) -> None:
    labels = np.full(size, 2, np.int32)
    labels[: size[0] // 2] = 1
    node = label_node(scene, Volume(labels, AFFINES["oblique"], Kind.LABEL))
    (volume,) = logic.synthesize(node, str(tiny_bundle))
    assert same_geometry(volume, node)


def test_the_result_of_a_segmentation_has_its_reference_geometry(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = segmentation(scene, two_boxes(affine=AFFINES["oblique"]), {1: "anterior"})
    (volume,) = logic.synthesize(node, str(tiny_bundle))
    assert same_geometry(volume, scene.GetFirstNodeByName("source"))


def test_the_result_lies_under_its_label_maps_transform(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = label_node(scene, two_boxes())
    turn = np.array([[0, 0, 1, 5], [1, 0, 0, 6], [0, 1, 0, 7], [0, 0, 0, 1.0]])
    transform = put_under(scene, node, turn)
    (volume,) = logic.synthesize(node, str(tiny_bundle))
    assert volume.GetTransformNodeID() == transform.GetID()
    # CompareVolumeGeometry calls one and the same parent transform a mismatch.
    for moved in (volume, node):
        moved.SetAndObserveTransformNodeID(None)
    assert same_geometry(volume, node)


def test_the_transform_turns_the_anatomy_and_with_it_the_volume(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    labels = two_boxes()
    turn = np.array([[0, 0, 1, 5], [1, 0, 0, 6], [0, 1, 0, 7], [0, 0, 0, 1.0]])
    under = label_node(scene, labels)
    put_under(scene, under, turn)
    hardened = label_node(scene, Volume(labels.array, turn @ labels.affine, Kind.LABEL))
    (first,) = logic.synthesize(under, str(tiny_bundle))
    (second,) = logic.synthesize(hardened, str(tiny_bundle))
    assert (slicer.util.arrayFromVolume(first) == slicer.util.arrayFromVolume(second)).all()


def test_a_native_result_lies_on_the_models_grid_in_the_world(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = label_node(scene, two_boxes(affine=AFFINES["oblique"]))
    put_under(scene, node, np.diag([-1.0, -1.0, 1.0, 1.0]))
    (volume,) = logic.synthesize(node, str(tiny_bundle), Settings(native=True))
    assert volume.GetImageData().GetDimensions() == (16, 16, 16)
    assert volume.GetTransformNodeID() is None
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix)[:3, :3], np.eye(3))


def test_the_result_says_what_made_it_and_lies_beside_its_label_map(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = label_node(scene, two_boxes())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(
        hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node), study
    )
    first, second = logic.synthesize(node, str(tiny_bundle), Settings(samples=2, seed=7, steps=3))
    assert [first.GetName(), second.GetName()] == ["drawn synthetic T1w 7", "drawn synthetic T1w 8"]
    assert first.GetAttribute("MedDiffusion.model") == "tiny"
    assert first.GetAttribute("MedDiffusion.seed") == "7"
    assert first.GetAttribute("MedDiffusion.steps") == "3"
    assert second.GetAttribute("MedDiffusion.sample") == "2"
    assert first.GetAttribute("MedDiffusion.label_map") == "drawn"
    for volume in (first, second):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)) == study
        display = volume.GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1000)
        assert display.GetColorNodeID() == "vtkMRMLColorTableNodeGrey"


def test_no_nodes_but_the_results_are_left(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = segmentation(scene, two_boxes(), {1: "anterior", 2: "posterior"})
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)  # made when first asked for
    before = scene.GetNumberOfNodes()
    volumes = logic.synthesize(node, str(tiny_bundle), Settings(samples=2))
    # A volume and its display node each.
    assert scene.GetNumberOfNodes() == before + 2 * len(volumes)


# Under way


def test_previews_arrive_at_every_step_and_go_with_the_end(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    seen: list[tuple[int, int, int]] = []
    previews: list[NDArray] = []
    job = logic.startSynthesis(
        label_node(scene, two_boxes()), str(tiny_bundle), Settings(samples=2, steps=4)
    )
    job.onProgress = lambda *progress: seen.append(progress)
    job.onPreview = lambda nodes: previews.append(slicer.util.arrayFromVolume(nodes[0]).copy())
    wait(logic, lambda: job.ended)
    assert seen == [(s, n, 4) for s in (0, 1) for n in (1, 2, 3, 4)]
    assert len(previews) == 8
    assert not (previews[0] == previews[3]).all()
    assert scene.GetFirstNodeByName(PREVIEW_NAME) is None


def test_cancelling_keeps_the_samples_that_are_done(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    job = logic.startSynthesis(
        label_node(scene, two_boxes()), str(tiny_bundle), Settings(samples=1000)
    )
    job.onSample = lambda nodes: job.cancel()
    wait(logic, lambda: job.ended)
    assert job.cancelled
    assert len(job.volumes) == 1
    assert scene.GetNodeByID(job.volumes[0].GetID()) is job.volumes[0]
    assert scene.GetFirstNodeByName(PREVIEW_NAME) is None


def test_closing_the_scene_cancels_what_runs_and_adds_nothing(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    jobs = [
        logic.startSynthesis(label_node(scene, two_boxes()), str(tiny_bundle), Settings(steps=1000))
        for _ in range(2)
    ]
    shown: list[Any] = []
    jobs[0].onPreview = shown.append
    wait(logic, lambda: bool(shown))
    scene.Clear(0)
    wait(logic, lambda: not logic.busy)
    assert all(job.cancelled for job in jobs)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_deleting_the_label_map_meanwhile_leaves_a_result_in_its_place(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    node = label_node(scene, labels)
    job = logic.startSynthesis(node, str(tiny_bundle))
    scene.RemoveNode(node)
    wait(logic, lambda: job.ended)
    assert same_geometry(job.volumes[0], label_node(scene, labels))


def test_a_failure_is_a_sentence_and_an_exception_for_who_waits(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = label_node(scene, two_boxes())
    said: list[UserError] = []
    job = logic.startSynthesis(node, str(tiny_bundle), Settings(steps=0))
    job.onFailed = said.append
    wait(logic, lambda: job.ended)
    assert said == [job.error]
    assert (said[0].problem, said[0].path) == ("steps is 0", None)
    with pytest.raises(UserError, match="steps is 0"):
        logic.synthesize(node, str(tiny_bundle), Settings(steps=0))


def test_who_waits_is_told_of_a_cancel(scene: Any, tiny_bundle: Path, logic: SceneLogic) -> None:
    node = label_node(scene, two_boxes())
    turns: list[int] = []

    def process_events() -> None:
        turns.append(1)
        if len(turns) == 3:
            logic.cancelAll()

    slicer.app.processEvents = process_events
    try:
        with pytest.raises(Cancelled):
            logic.synthesize(node, str(tiny_bundle), Settings(steps=1000, samples=20))
    finally:
        del slicer.app.processEvents


def test_cleanup_leaves_no_observer(scene: Any) -> None:
    had = scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent)
    SceneLogic([sys.executable]).cleanup()
    assert scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent) == had
