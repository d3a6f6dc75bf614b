"""What the tests of the module's panel share: the open panel, one worker, painting, waiting."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from host.fixtures import once
from waiting import wait as wait

MODULE = Path(__file__).parents[1] / "MedDiffusion" / "MedDiffusion.py"


@pytest.fixture(scope="module")
def module(started_host: Any) -> Any:
    from host.modules import load_module

    return once("module", lambda: load_module(MODULE))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder of all files: the worker keeps the one that it was started with."""
    return once("home", lambda: tmp_path_factory.mktemp("home"))


@pytest.fixture
def own_user_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, with no models of another test."""
    monkeypatch.setenv("MEDDIFFUSION_HOME", str(home))
    yield home
    shutil.rmtree(home / "models", ignore_errors=True)


@pytest.fixture(scope="module")
def worker(started_host: Any, pytestconfig: pytest.Config) -> Iterator[Any]:
    """The runner whose worker all panels share; only its jobs end with a panel.

    Its value is what really closes it.
    """
    from MedDiffusionLib.widget import runner

    close = runner.close_runner
    once("worker", lambda: pytestconfig.add_cleanup(close))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "close_runner", lambda: shared_runner().scene_logic.cancelAll())
        yield close


def shared_runner() -> Any:
    from MedDiffusionLib.widget.runner import shared_runner

    return shared_runner()


@pytest.fixture
def tiny(own_user_folder: Path) -> Path:
    """A tiny model in the user's models folder."""
    return make_bundle(own_user_folder / "models" / "tiny")


@pytest.fixture
def panel(host: Any, module: Any, worker: Any, tiny: Path) -> Iterator[Any]:
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


def add_label_map(name: str, array: Any) -> Any:
    import slicer.util

    return slicer.util.addVolumeFromArray(
        array, name=name, nodeClassName="vtkMRMLLabelMapVolumeNode"
    )


def synthesize(host: Any, widget: Any) -> None:
    """Press Synthesize and wait for the end."""
    widget.ui.synthesizeButton.click()
    wait_for_the_end(host, widget)


def wait_for_the_end(host: Any, widget: Any) -> None:
    wait(host, lambda: not widget.panel.synthesis.busy, lambda: widget.ui.statusLabel.text)


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


def add_results(panel: Any, names: Sequence[str]) -> None:
    """Add volumes as syntheses of the panel's label map leave them, and choose the first."""
    import slicer.util

    from MedDiffusionLib.scene.synthetic import LABELS_ROLE

    made = []
    for name in names:
        values = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)
        node = slicer.util.addVolumeFromArray(values, name=name)
        node.SetAttribute("MedDiffusion.model", "tiny")
        node.SetNodeReferenceID(LABELS_ROLE, panel.panel.parameters.label_node.GetID())
        made.append(node)
    panel.panel.results.choose(made[0])


def listed(panel: Any) -> list[str]:
    """The rows of the panel's list of results."""
    return [panel.ui.resultList.item(i).text() for i in range(panel.ui.resultList.count)]
