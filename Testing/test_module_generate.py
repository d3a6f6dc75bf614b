"""A model without labels in the panel: no label map to draw, Generate in place of Synthesize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from host import missing
from host.fixtures import host, started_host
from module_panel import (
    backgrounds,
    choose_model,
    drawn,
    home,
    listed,
    module,
    own_user_folder,
    panel,
    synthesize,
    tiny,
    worker,
)
from test_generate import FREE
from test_module_import import choose_file, press_import

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


@pytest.fixture
def free(panel: Any, own_user_folder: Path) -> Any:
    """The panel with a model without labels chosen."""
    make_bundle(own_user_folder / "models" / "free", **FREE)
    panel.panel.models.refresh()
    choose_model(panel, "free")
    return panel


def test_generate_stands_in_place_of_synthesize_and_no_label_map_is_asked_for(
    host: Any, free: Any
) -> None:
    ui = free.ui
    assert ui.synthesizeButton.text == ui.synthesisSection.text == "Generate"
    assert ui.synthesizeButton.enabled
    assert not ui.labelSection.visible
    assert not ui.guidanceSpinBox.enabled
    assert "makes volumes by itself" in ui.modelCard.text
    choose_model(free, "tiny")
    assert ui.synthesizeButton.text == ui.synthesisSection.text == "Synthesize"
    assert ui.labelSection.visible
    assert ui.guidanceSpinBox.enabled


def test_volumes_are_generated_shown_and_listed(host: Any, free: Any) -> None:
    import slicer.util

    ui = free.ui
    ui.samplesSpinBox.value = 2
    ui.guidanceSpinBox.value = 3.0  # Of another model: this one has none.
    synthesize(host, free)
    assert ui.statusLabel.text == ""
    names = [f"free synthetic T1w {number}" for number in range(2)]
    assert listed(free) == names
    assert backgrounds() == [names[0]] * 3
    node = free.panel.parameters.result
    affine = slicer.util.arrayFromVTKMatrix(_matrix(node))
    np.testing.assert_allclose(affine[:3, 3], [23, 7.5, -10.5])
    assert slicer.util.arrayFromVolume(node).shape == (8, 16, 24)
    assert node.GetAttribute("MedDiffusion.label_map") == ""
    synthesize(host, free)
    assert listed(free) == names
    assert "there already" in ui.statusLabel.text
    ui.samplesSpinBox.value = 3
    synthesize(host, free)
    assert listed(free) == [*names, "free synthetic T1w 2"]


def test_a_label_map_that_is_drawn_waits_for_a_model_that_takes_it(host: Any, drawn: Any) -> None:
    from MedDiffusionLib.scene.synthetic import LABELS_ROLE

    make_bundle(drawn.panel.models.chosen.folder.parent / "free", **FREE)
    drawn.panel.models.refresh()
    drawn.ui.liveCheck.click()
    labels = drawn.panel.parameters.label_node
    choose_model(drawn, "free")
    assert not drawn.ui.liveCheck.checked
    synthesize(host, drawn)
    node = drawn.panel.parameters.result
    assert node.GetNodeReferenceID(LABELS_ROLE) is None
    choose_model(drawn, "tiny")
    assert drawn.panel.parameters.label_node is labels
    synthesize(host, drawn)
    assert drawn.panel.parameters.result.GetNodeReferenceID(LABELS_ROLE) == labels.GetID()


def test_a_script_generates_volumes(host: Any, free: Any) -> None:
    import slicer

    (node,) = free.logic.generate("free", seed=3)
    assert node.GetName() == "free synthetic T1w 3"
    assert node.GetScene() is slicer.mrmlScene


def test_an_imported_checkpoint_generates_a_volume(host: Any, panel: Any) -> None:
    from data_factory import shared_file

    path = shared_file("checkpoints/medicaldiffusion-ddpm-small.pt")
    ui = panel.ui
    choose_file(panel, path)
    ui.importNameEdit.text = "imported"
    assert "size=64,64,64" in press_import(host, panel)
    ui.importOptionsEdit.text = "size=8,32,32"
    press_import(host, panel)
    assert panel.panel.parameters.model == "imported"
    assert ui.synthesizeButton.text == "Generate"
    ui.qualitySelector.currentIndex = 0  # half of 50 steps
    synthesize(host, panel)
    assert listed(panel) == ["imported synthetic image 0"]
    assert backgrounds() == ["imported synthetic image 0"] * 3


def _matrix(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
