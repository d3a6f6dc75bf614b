"""First use: what is missing is found without importing it, offered once, never forced."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import MODULE, module, paint, panel, tiny, wait

__all__ = ["host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

FIND_SPEC = importlib.util.find_spec


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> list[str]:
    """Let these packages be missing; take a name off the returned list to install it."""
    lacking = list(packages)

    def find(name: str, *_: Any) -> Any:
        return None if name in lacking else FIND_SPEC(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    return lacking


def offer_torch(monkeypatch: pytest.MonkeyPatch, install: Any) -> list[dict[str, Any]]:
    """Stand in for the PyTorch extension; the list fills with what it is asked for."""
    asked: list[dict[str, Any]] = []

    class PyTorchUtilsLogic:
        def installTorch(self, **wishes: Any) -> Any:  # noqa: N802
            asked.append(wishes)
            return install()

    utils = types.ModuleType("PyTorchUtils")
    utils.__spec__ = importlib.util.spec_from_loader("PyTorchUtils", None)
    vars(utils)["PyTorchUtilsLogic"] = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    return asked


def test_torch_is_never_imported_in_slicers_process() -> None:
    script = (
        "import sys; from pathlib import Path; from host.application import start;"
        "from host.modules import close_widget, load_module, open_widget; start();"
        f"close_widget(open_widget(load_module(Path({str(MODULE)!r}))));"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr


def ready(panel: Any) -> None:
    panel.ui.newCanvasButton.click()
    paint(panel, "anterior", "posterior")
    panel.panel.labels.look()


def test_without_the_pytorch_extension_the_panel_says_what_to_install(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(panel)
    without(monkeypatch, "torch", "PyTorchUtils")
    panel.ui.synthesizeButton.click()
    assert "install the extension PyTorch" in panel.ui.statusLabel.text
    assert not panel.panel.synthesis.busy


def test_torch_that_is_declined_leaves_a_sentence(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(panel)
    without(monkeypatch, "torch")
    costs: list[str] = []
    asked = offer_torch(monkeypatch, lambda: costs.append(panel.ui.statusLabel.text))
    panel.ui.synthesizeButton.click()
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.5"}]
    assert "a download of" in costs[0]
    assert "PyTorch was not installed" in panel.ui.statusLabel.text
    assert not panel.panel.synthesis.busy


def test_torch_that_fails_to_install_leaves_a_sentence(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("no connection to the proxy\nTraceback ...")

    ready(panel)
    without(monkeypatch, "torch")
    offer_torch(monkeypatch, fail)
    panel.ui.synthesizeButton.click()
    text = "PyTorch could not be installed: no connection to the proxy"
    assert panel.ui.statusLabel.text == text
    assert not panel.panel.synthesis.busy


def test_small_packages_are_asked_for_together_and_the_synthesis_starts(
    host: Any, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer.packaging

    ready(panel)
    lacking = without(monkeypatch, "safetensors", "nibabel")
    asked: list[list[str]] = []

    def install(requirements: list[str], requester: str) -> None:
        asked.append(requirements)
        lacking.clear()

    monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    panel.ui.synthesizeButton.click()
    assert asked == [["safetensors>=0.4", "nibabel>=5.2"]]
    wait(host, lambda: not panel.panel.synthesis.busy)
    assert panel.ui.resultList.count == 1


def test_small_packages_that_are_declined_leave_a_sentence(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer.packaging

    def decline(*_: Any, **__: Any) -> None:
        raise RuntimeError("User declined installation")

    ready(panel)
    without(monkeypatch, "nibabel")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", decline)
    panel.ui.synthesizeButton.click()
    assert "nibabel>=5.2 could not be installed" in panel.ui.statusLabel.text
    assert not panel.panel.synthesis.busy
