"""Nodes for tests of the scene ring, and a logic that must leave nothing behind."""

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

from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.scene.jobs import SceneLogic
from MedDiffusionLib.volumes.volume import Volume

PATIENCE = 600.0


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


@pytest.fixture(scope="module")
def lasting_logic(booted_mrml: Any) -> Iterator[SceneLogic]:
    """One logic, and so one worker, for a whole file; nothing is left of all that it did."""
    before = set(booted_mrml.temporary.iterdir())
    made = SceneLogic([sys.executable])
    yield made
    made.cleanup()
    assert not made.busy
    assert made.client.process_id is None
    assert set(booted_mrml.temporary.iterdir()) == before


@pytest.fixture
def logic(lasting_logic: SceneLogic) -> Iterator[SceneLogic]:
    """The same without jobs, before and after."""
    assert not lasting_logic.busy
    yield lasting_logic
    lasting_logic.cancelAll()
    wait(lasting_logic, lambda: not lasting_logic.busy)


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
