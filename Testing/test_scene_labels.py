"""The scene ring on Slicer's own MRML: reading label maps and segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk

from data_factory import AFFINES, two_boxes
from host.fixtures import booted_mrml, scene
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.scene.jobs import SceneLogic
from MedDiffusionLib.scene.label_maps import label_map_state, read_label_node
from MedDiffusionLib.synthesis.labels import match_labels
from MedDiffusionLib.volumes.volume import Kind, Volume
from scene_nodes import label_node, lasting_logic, logic, manifest, put_under, segmentation, wait

__all__ = ["booted_mrml", "lasting_logic", "logic", "manifest", "scene"]

pytest_plugins = ("host.isolation",)


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
        logic.startSynthesis(node, str(tiny_bundle), overrides={"spleen": "anterior"})
    job = logic.startSynthesis(node, str(tiny_bundle), overrides={"liver": "anterior"})
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


# ---- What is left out


@pytest.fixture
def wrapped(scene: Any) -> tuple[Volume, Any]:
    """Two boxes, and after them a segment "brain" around both, and one that cuts the first."""
    labels = two_boxes()
    node = segmentation(scene, labels, {1: "anterior", 2: "posterior"})
    cut = np.zeros_like(labels.array)
    cut[: np.argwhere(labels.array == 1)[:, 0].min() + 2] = 1
    for name, array in {"brain": np.ones_like(labels.array), "lesion": cut}.items():
        segment_id = node.GetSegmentation().AddEmptySegment("", name)
        node.GetSegmentation().SeparateSegmentLabelmap(segment_id)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            array.astype(np.uint8).transpose(), node, segment_id, scene.GetFirstNodeByName("source")
        )
    return labels, node


def test_a_segment_left_out_makes_no_hole_in_what_it_covers(
    wrapped: tuple[Volume, Any], manifest: Manifest
) -> None:
    labels, node = wrapped
    read = read_label_node(node, left_out={"brain", "lesion"})
    assert (match_labels(read.labels, manifest, {}).array == labels.array).all()
    assert read.warnings == ()


def test_a_synthesis_leaves_segments_out_before_they_are_painted(
    wrapped: tuple[Volume, Any], tiny_bundle: Path, logic: SceneLogic
) -> None:
    labels, node = wrapped
    overrides: dict[int | str, str] = {"brain": "background", "lesion": "Background"}
    (made,) = logic.synthesize(node, str(tiny_bundle), overrides=overrides)
    (wanted,) = logic.synthesize(label_node(slicer.mrmlScene, labels), str(tiny_bundle))
    assert (slicer.util.arrayFromVolume(made) == slicer.util.arrayFromVolume(wanted)).all()


def test_leaving_out_everything_or_what_is_not_there_is_refused(wrapped: Any) -> None:
    _labels, node = wrapped
    names = {"anterior", "posterior", "brain", "lesion"}
    with pytest.raises(UserError, match="All segments of segmentation are left out"):
        read_label_node(node, left_out=names)
    with pytest.raises(UserError, match="no segment spleen"):
        read_label_node(node, left_out={"spleen"})


# ---- Whether a label map has changed


def change_a_voxel(node: Any) -> None:
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
        node, node.GetSegmentation().GetNthSegmentID(0), node.GetNodeReference(REFERENCE)
    )
    voxels[tuple(np.argwhere(voxels)[0])] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        voxels,
        node,
        node.GetSegmentation().GetNthSegmentID(0),
        node.GetNodeReference(REFERENCE),
    )


REFERENCE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def test_the_state_of_a_label_map_changes_with_its_voxels_and_back(scene: Any) -> None:
    node = segmentation(scene, two_boxes(affine=AFFINES["oblique"]), {1: "anterior", 2: "x"})
    before = label_map_state(node)
    kept = slicer.vtkSegmentation()
    kept.DeepCopy(node.GetSegmentation())
    change_a_voxel(node)
    assert label_map_state(node) != before
    node.GetSegmentation().DeepCopy(kept)
    assert label_map_state(node) == before != ""
    node.GetSegmentation().GetNthSegment(1).SetName("posterior")
    assert label_map_state(node) != before


def test_the_state_of_a_label_map_volume_changes_with_voxels_and_place(scene: Any) -> None:
    labels = two_boxes()
    node = label_node(scene, labels)
    before = label_map_state(node)
    slicer.util.arrayFromVolume(node)[0, 0, 0] = 2
    slicer.util.arrayFromVolumeModified(node)
    changed = label_map_state(node)
    node.SetSpacing(1, 1, 2)
    assert len({before, changed, label_map_state(node)}) == 3
    assert label_map_state(None) == ""
    put_under(scene, node, np.diag([1, 1, 1, 1.0]))
    assert label_map_state(label_node(scene, labels)) == before


@pytest.mark.parametrize("name", AFFINES)
def test_the_state_of_a_label_map_survives_saving_and_loading(
    scene: Any, tmp_path: Path, name: str
) -> None:
    labels = two_boxes(affine=AFFINES[name])
    drawn, volume = segmentation(scene, labels, {1: "a", 2: "b"}), label_node(scene, labels)
    before = label_map_state(drawn), label_map_state(volume)
    for node, file in ((drawn, "drawn.seg.nrrd"), (volume, "volume.nrrd")):
        assert slicer.util.saveNode(node, str(tmp_path / file), {})
    loaded = slicer.util.loadSegmentation(str(tmp_path / "drawn.seg.nrrd"))
    again = slicer.util.loadLabelVolume(str(tmp_path / "volume.nrrd"), {"show": False})
    assert (label_map_state(loaded), label_map_state(again)) == before


def test_an_unchanged_label_map_is_read_once(scene: Any, monkeypatch: Any) -> None:
    from MedDiffusionLib.scene import label_maps

    node = segmentation(scene, two_boxes(), {1: "anterior"})
    reads: list[Any] = []

    def read(node: Any) -> Any:
        reads.append(node)
        return read_label_node(node)

    monkeypatch.setattr(label_maps, "read_label_node", read)
    assert label_map_state(node) == label_map_state(node)
    assert len(reads) == 1


def test_a_result_keeps_the_state_of_its_label_map(
    scene: Any, tiny_bundle: Path, logic: SceneLogic
) -> None:
    node = segmentation(scene, two_boxes(), {1: "anterior", 2: "posterior"})
    job = logic.startSynthesis(node, str(tiny_bundle))
    before = label_map_state(node)
    change_a_voxel(node)  # While it is made.
    wait(logic, lambda: job.ended)
    assert job.volumes[0].GetAttribute("MedDiffusion.labelMapState") == before
    assert label_map_state(node) != before
