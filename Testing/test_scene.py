"""The scene ring on Slicer's own MRML."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk

from data_factory import AFFINES, two_boxes
from host.fixtures import booted_mrml, scene
from MedDiffusionLib.errors import Cancelled, UserError
from MedDiffusionLib.labels import match_labels
from MedDiffusionLib.manifest import Manifest, read_manifest
from MedDiffusionLib.scene.canvas import add_label_map, new_canvas
from MedDiffusionLib.scene.jobs import PREVIEW_NAME, SceneLogic
from MedDiffusionLib.scene.label_maps import read_label_node
from MedDiffusionLib.volume import Kind, Volume

__all__ = ["booted_mrml", "scene"]

pytest_plugins = ("host.isolation",)
PATIENCE = 60.0


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


@pytest.fixture
def logic(booted_mrml: Any) -> Iterator[SceneLogic]:
    before = set(booted_mrml.temporary.iterdir())
    made = SceneLogic([sys.executable])
    yield made
    made.cleanup()
    assert not made.busy
    assert made.client.process_id is None
    assert set(booted_mrml.temporary.iterdir()) == before


def label_node(scene: Any, labels: Volume, name: str = "drawn") -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, labels.array.astype(np.int16).transpose())
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(labels.affine))
    node.CreateDefaultDisplayNodes()
    return node


def segmentation(
    scene: Any, labels: Volume, names: dict[int, str], codes: dict[int, str] | None = None
) -> Any:
    """A segmentation with one segment per value, in this order, on the label map's geometry."""
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "source")
    slicer.util.updateVolumeFromArray(volume, labels.array.astype(np.int16).transpose())
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(labels.affine))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for value, name in names.items():
        segment_id = node.GetSegmentation().AddEmptySegment("", name)
        mask = (labels.array == value).astype(np.uint8).transpose()
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)
        if codes and value in codes:
            scheme, code = codes[value].split(":")
            entry = f"a~SCT^1^x~{scheme}^{code}^meaning~^^~b~^^~^^"
            node.GetSegmentation().GetSegment(segment_id).SetTag("TerminologyEntry", entry)
    return node


def put_under(scene: Any, node: Any, matrix: NDArray[np.float64]) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def same_geometry(first: Any, second: Any) -> bool:
    return slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(first, second) == ""


def wait(logic: SceneLogic, until: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < give_up, "the worker did not answer"
        logic.process()
        time.sleep(0.005)


# Reading


@pytest.mark.parametrize("name", AFFINES)
def test_a_label_map_node_is_read_voxel_for_voxel(scene: Any, name: str) -> None:
    labels = two_boxes(affine=AFFINES[name])
    found = read_label_node(label_node(scene, labels)).labels
    assert (found.array == labels.array).all()
    np.testing.assert_allclose(found.affine, labels.affine, atol=1e-9)


def test_labels_3_and_7_keep_their_meaning(scene: Any, manifest: Manifest) -> None:
    labels = two_boxes()
    values = np.array([0, 7, 3], np.int32)
    odd = Volume(values[labels.array], labels.affine, Kind.LABEL)
    found = read_label_node(label_node(scene, odd)).labels
    matched = match_labels(found, manifest, {3: "posterior", 7: "anterior"})
    assert (matched.array == labels.array).all()
    with pytest.raises(UserError, match=r"3, 7"):
        match_labels(found, manifest, {})


def test_segments_are_matched_by_name_whatever_their_order(scene: Any, manifest: Manifest) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    node = segmentation(scene, labels, {2: "Posterior", 1: "anterior"})
    found = read_label_node(node).labels
    assert (match_labels(found, manifest, {}).array == labels.array).all()
    np.testing.assert_allclose(found.affine, labels.affine, atol=1e-9)


def test_segments_are_matched_by_terminology_before_their_name(
    scene: Any, manifest: Manifest
) -> None:
    labels = two_boxes()
    node = segmentation(
        scene, labels, {2: "anterior", 1: "posterior"}, codes={1: "SCT:1", 2: "SCT:2"}
    )
    assert (match_labels(read_label_node(node).labels, manifest, {}).array == labels.array).all()


def test_segment_names_that_match_nothing_are_listed(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = segmentation(scene, two_boxes(), {1: "liver", 2: "posterior"})
    with pytest.raises(UserError, match="liver"):
        logic.synthesize(node, str(tiny_bundle))
    with pytest.raises(UserError, match="no segment spleen"):
        logic.startSynthesis(node, str(tiny_bundle), labels={"spleen": "anterior"})
    job = logic.startSynthesis(node, str(tiny_bundle), labels={"liver": "anterior"})
    wait(logic, lambda: job.ended)
    assert len(job.volumes) == 1


def test_only_the_chosen_segments_are_read(scene: Any) -> None:
    labels = two_boxes()
    node = segmentation(scene, labels, {1: "anterior", 2: "posterior"})
    second = node.GetSegmentation().GetNthSegmentID(1)
    found = read_label_node(node, [second]).labels
    assert ((found.array == 1) == (labels.array == 2)).all()
    assert [s.name for s in found.segments] == ["posterior"]


def test_of_overlapping_segments_the_later_wins_and_a_warning_says_so(scene: Any) -> None:
    labels = two_boxes()
    node = segmentation(scene, labels, {1: "anterior"})
    everything = Volume((labels.array > 0).astype(np.int32), labels.affine, Kind.LABEL)
    reference = scene.GetFirstNodeByName("source")
    segment_id = node.GetSegmentation().AddEmptySegment("", "whole")
    mask = everything.array.astype(np.uint8).transpose()
    # Another layer: importing over a shared one would erase the first segment.
    node.GetSegmentation().SeparateSegmentLabelmap(segment_id)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, reference)
    read = read_label_node(node)
    assert ((read.labels.array == 2) == (labels.array > 0)).all()
    count = int((labels.array == 1).sum())
    assert read.warnings == (
        f"anterior and whole overlap in {count} voxels: whole was taken there, being later in the "
        "list.",
    )


def test_a_segmentation_without_reference_geometry_is_read_in_its_own(scene: Any) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    node = segmentation(scene, labels, {1: "anterior", 2: "posterior"})
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    node.GetSegmentation().SetConversionParameter(name, "")
    found = read_label_node(node).labels
    for value in (1, 2):
        wanted = labels.grid.positions(np.argwhere(labels.array == value))
        got = found.grid.positions(np.argwhere(found.array == value))
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_what_has_nothing_to_read_is_refused_with_a_sentence(scene: Any) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    with pytest.raises(UserError, match="S has no segments"):
        read_label_node(empty)
    empty.GetSegmentation().AddEmptySegment("", "anterior")
    with pytest.raises(UserError, match="S is empty"):
        read_label_node(empty)
    drawn = segmentation(scene, two_boxes(), {1: "anterior"})
    with pytest.raises(UserError, match="No segment of segmentation is selected"):
        read_label_node(drawn, [])
    blank = Volume(np.zeros((4, 5, 6), np.int32), np.eye(4), Kind.LABEL)
    with pytest.raises(UserError, match="drawn is empty"):
        read_label_node(label_node(scene, blank))
    with pytest.raises(UserError, match="has no voxels"):
        read_label_node(scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "L"))
    with pytest.raises(UserError, match="choose a segmentation"):
        read_label_node(scene.GetFirstNodeByName("source"))


def test_a_linear_parent_transform_moves_the_anatomy(scene: Any) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    node = label_node(scene, labels)
    matrix = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    put_under(scene, node, matrix)
    read = read_label_node(node)
    np.testing.assert_allclose(read.labels.affine, matrix @ labels.affine, atol=1e-9)
    np.testing.assert_allclose(read.affine, labels.affine, atol=1e-9)


def test_transforms_that_would_bend_or_shear_the_voxels_are_refused(scene: Any) -> None:
    node = label_node(scene, two_boxes())
    shear = np.eye(4)
    shear[0, 1] = 0.5
    put_under(scene, node, shear)
    with pytest.raises(UserError, match="shears"):
        read_label_node(node)
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    spline = slicer.vtkOrientedBSplineTransform()
    coefficients = vtk.vtkImageData()
    coefficients.SetDimensions(6, 6, 6)
    coefficients.AllocateScalars(vtk.VTK_DOUBLE, 3)
    spline.SetCoefficientData(coefficients)
    bent.SetAndObserveTransformFromParent(spline)
    node.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(UserError, match="non-linear transform bent"):
        read_label_node(node)


# Results


@pytest.mark.parametrize("name", AFFINES)
def test_the_result_has_its_label_maps_geometry(
    scene: Any, tiny_bundle: Path, logic: SceneLogic, name: str
) -> None:
    node = label_node(scene, two_boxes(affine=AFFINES[name]))
    (volume,) = logic.synthesize(node, str(tiny_bundle))
    assert same_geometry(volume, node)
    assert slicer.util.arrayFromVolume(volume).std() > 0


@pytest.mark.parametrize("size", [(10, 9, 8), (60, 50, 40)])
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
    (volume,) = logic.synthesize(node, str(tiny_bundle), native=True)
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
    first, second = logic.synthesize(node, str(tiny_bundle), samples=2, seed=7, steps=3)
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
    volumes = logic.synthesize(node, str(tiny_bundle), samples=2)
    # A volume and its display node each.
    assert scene.GetNumberOfNodes() == before + 2 * len(volumes)


# Under way


def test_previews_arrive_at_every_step_and_go_with_the_end(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    seen: list[tuple[int, int, int]] = []
    previews: list[NDArray] = []
    job = logic.startSynthesis(label_node(scene, two_boxes()), str(tiny_bundle), samples=2, steps=4)
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
    job = logic.startSynthesis(label_node(scene, two_boxes()), str(tiny_bundle), samples=1000)
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
        logic.startSynthesis(label_node(scene, two_boxes()), str(tiny_bundle), steps=1000)
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
    said: list[str] = []
    job = logic.startSynthesis(node, str(tiny_bundle), steps=0)
    job.onFailed = said.append
    wait(logic, lambda: job.ended)
    assert said == [job.message]
    assert said[0].startswith("steps is 0")
    with pytest.raises(UserError, match="steps is 0"):
        logic.synthesize(node, str(tiny_bundle), steps=0)


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
            logic.synthesize(node, str(tiny_bundle), steps=1000, samples=1000)
    finally:
        del slicer.app.processEvents


def test_cleanup_leaves_no_observer(scene: Any) -> None:
    had = scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent)
    SceneLogic([sys.executable]).cleanup()
    assert scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent) == had


# Canvas


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
