"""The host boots a real MRML application without Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import booted_mrml, scene

__all__ = ["booted_mrml", "scene"]

pytest_plugins = ("host.isolation",)
pytestmark = pytest.mark.skipif(bool(missing("slicer_core")), reason=missing("slicer_core"))

TURN = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [0.8 * np.cos(TURN), -0.9 * np.sin(TURN), 0, -11],
        [0.8 * np.sin(TURN), 0.9 * np.cos(TURN), 0, 22],
        [0, 0, 2.5, 33],
        [0, 0, 0, 1],
    ]
)


def oblique_volume(name: str = "oblique") -> Any:
    import slicer.util

    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    return slicer.util.addVolumeFromArray(values, OBLIQUE, name)


def test_no_qt_is_loaded(scene: Any) -> None:
    import sys

    assert not [name for name in sys.modules if name.startswith("PySide6")]
    assert scene.GetNumberOfNodesByClass("vtkMRMLColorNode") > 10


def test_every_logic_knows_the_scene_and_the_application(booted_mrml: Any) -> None:
    import slicer

    for name, logic in booted_mrml.logics.items():
        assert getattr(slicer.modules, name.lower()).logic() is logic
        assert logic.GetMRMLScene() is slicer.mrmlScene
        assert logic.GetMRMLApplicationLogic() is slicer.app.applicationLogic()


@pytest.mark.parametrize(("name", "tolerance"), [("a.nrrd", 1e-12), ("a.nii.gz", 1e-6)])
def test_an_oblique_volume_survives_a_file(
    scene: Any, tmp_path: Path, name: str, tolerance: float
) -> None:
    import slicer.util

    volume = oblique_volume()
    assert slicer.util.saveNode(volume, str(tmp_path / name), {})
    again = slicer.util.loadVolume(str(tmp_path / name), {})
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(volume))
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    again.GetIJKToRASMatrix(matrix)
    assert np.abs(slicer.util.arrayFromVTKMatrix(matrix) - OBLIQUE).max() < tolerance


def test_a_missing_or_unreadable_file_is_an_error_and_leaves_no_node(
    scene: Any, tmp_path: Path
) -> None:
    import slicer.util

    (tmp_path / "bad.nrrd").write_text("no volume")
    before = scene.GetNumberOfNodes()
    for name in ("bad.nrrd", "absent.nrrd"):
        with pytest.raises(RuntimeError, match="Failed to load"):
            slicer.util.loadVolume(str(tmp_path / name), {})
    assert scene.GetNumberOfNodes() == before


def test_segments_are_painted_and_exported(scene: Any) -> None:
    import slicer.util

    volume = oblique_volume()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("left", "left")
    mask = slicer.util.arrayFromVolume(volume) > 9
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment, volume)
    read = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, volume)
    assert np.array_equal(read > 0, mask)


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml"])
def test_a_scene_survives_saving_and_loading(scene: Any, tmp_path: Path, name: str) -> None:
    import slicer.util

    volume = oblique_volume()
    # A .mrml file names its volumes' files; only a bundle holds them.
    slicer.util.saveNode(volume, str(tmp_path / "oblique.nrrd"), {})
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert slicer.util.saveScene(str(tmp_path / name), {})
    scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / name), {})
    again = slicer.util.getNode("oblique")
    assert again is not volume
    assert again.GetParentTransformNode().GetName() == "moved"
    assert slicer.util.arrayFromVolume(again).sum() == 23 * 12


def test_closing_removes_the_temporary_files() -> None:
    """In a process of its own: there is one application per process."""
    import subprocess
    import sys

    script = (
        "from host.mrml import boot; booted = boot(); path = booted.temporary;"
        "there = path.is_dir(); booted.close(); print(there, path.is_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]
