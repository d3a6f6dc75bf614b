"""The host boots a real MRML application without Qt, and reads and writes as Slicer does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import booted_mrml, scene

__all__ = ["booted_mrml", "scene"]

pytest_plugins = ("host.isolation",)
pytestmark = pytest.mark.skipif(bool(missing("slicer_core")), reason=missing("slicer_core"))


def test_no_qt_is_loaded(scene: Any) -> None:
    assert not [name for name in sys.modules if name.startswith("PySide6")]
    assert scene.GetNumberOfNodesByClass("vtkMRMLColorNode") > 10


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


def test_a_scene_file_names_the_files_of_its_volumes(scene: Any, tmp_path: Path) -> None:
    """A bundle, which holds them, is saved and loaded by the panel's tests."""
    import slicer.util

    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    volume = slicer.util.addVolumeFromArray(values, name="volume")
    slicer.util.saveNode(volume, str(tmp_path / "volume.nrrd"), {})
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"), {})
    scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrml"), {})
    again = slicer.util.getNode("volume")
    assert again is not volume
    assert np.array_equal(slicer.util.arrayFromVolume(again), values)


def test_closing_removes_the_temporary_files() -> None:
    """In a process of its own: there is one application per process."""
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
