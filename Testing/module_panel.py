"""What the tests of the module's panel share: the open panel, painting, waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle

MODULE = Path(__file__).parents[1] / "MedDiffusion" / "MedDiffusion.py"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def module(started_host: Any) -> Any:
    from host.modules import load_module

    return load_module(MODULE)


@pytest.fixture
def tiny(own_user_folder: Path) -> Path:
    """A tiny model in the user's models folder."""
    return make_bundle(own_user_folder / "models" / "tiny")


@pytest.fixture
def panel(host: Any, module: Any, tiny: Path) -> Iterator[Any]:
    """The open panel with the tiny model chosen; what it does not use is not there."""
    import slicer

    from host.modules import close_widget, open_widget

    widget = open_widget(module)
    widget.parent.show()
    choose_model(widget, "tiny")
    yield widget
    if hasattr(slicer.modules, "MedDiffusionWidget"):
        close_widget(widget)


@pytest.fixture
def drawn(panel: Any) -> Any:
    """The panel with a canvas and two painted segments."""
    panel.ui.newCanvasButton.click()
    paint(panel, "anterior", "posterior")
    panel.panel.labels.look()
    return panel


def choose_model(widget: Any, name: str) -> None:
    selector = widget.ui.modelSelector
    selector.currentIndex = selector.findData(name)


def paint(widget: Any, *names: str) -> None:
    """Draw a box per label in the chosen segmentation, as the segment editor's effects do."""
    import slicer.util

    from MedDiffusionLib.widget.views import source_volume

    node = widget.panel.parameters.label_node
    volume = source_volume(node)
    shape = slicer.util.arrayFromVolume(volume).shape
    for number, name in enumerate(names):
        mask = np.zeros(shape, np.uint8)
        mask[4:12, 4:12, 3 + 5 * number : 8 + 5 * number] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)


def wait(host: Any, until: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Let Slicer work until something is so; return the seconds that it took."""
    start = time.monotonic()
    while not until():
        assert time.monotonic() < start + patience, "it did not happen"
        host.process_events(5)
    return time.monotonic() - start


def synthesize(host: Any, widget: Any) -> float:
    """Press Synthesize and wait for the end."""
    widget.ui.synthesizeButton.click()
    return wait(host, lambda: not widget.panel.synthesis.busy)


def backgrounds() -> list[str | None]:
    """The names of the volumes in the slice views."""
    import slicer

    names = []
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        names.append(node.GetName() if node else None)
    return names


def all_nodes() -> list[Any]:
    """Every node of the scene."""
    import slicer

    return list(slicer.util.getNodesByClass("vtkMRMLNode"))
