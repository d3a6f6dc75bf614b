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
from module_panel import (
    MODULE,
    drawn,
    home,
    module,
    own_user_folder,
    panel,
    tiny,
    wait_for_the_end,
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

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


def ensure() -> tuple[bool, list[str]]:
    """Ask for what is missing: whether all is there then, and what was said."""
    from MedDiffusionLib.widget.install import ensure_installed

    said: list[str] = []
    return ensure_installed(said.append), said


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


def test_where_all_is_there_nothing_is_asked(host: Any) -> None:
    assert ensure() == (True, [])


def test_without_the_pytorch_extension_it_is_named(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "torch", "PyTorchUtils")
    there, (cost, problem) = ensure()
    assert not there
    assert "a download of" in cost
    assert "install the extension PyTorch" in problem


def test_torch_that_is_declined_leaves_a_sentence(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "torch")
    asked = offer_torch(monkeypatch, lambda: None)
    there, said = ensure()
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.5"}]
    assert not there
    assert "PyTorch was not installed" in said[-1]


def test_torch_that_fails_to_install_leaves_the_first_line_of_the_reason(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("no connection to the proxy\nTraceback ...")

    without(monkeypatch, "torch")
    offer_torch(monkeypatch, fail)
    there, said = ensure()
    assert not there
    assert said[-1] == "PyTorch could not be installed: no connection to the proxy"


def test_small_packages_are_asked_for_together_and_the_synthesis_starts(
    host: Any, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer.packaging

    lacking = without(monkeypatch, "safetensors", "nibabel")
    asked: list[list[str]] = []

    def install(requirements: list[str], requester: str) -> None:
        asked.append(requirements)
        lacking.clear()

    monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    drawn.ui.synthesizeButton.click()
    assert asked == [["safetensors>=0.4", "nibabel>=5.2"]]
    wait_for_the_end(host, drawn)
    assert drawn.ui.resultList.count == 1


def test_small_packages_that_are_declined_leave_a_sentence_and_a_panel_at_rest(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer.packaging

    def decline(*_: Any, **__: Any) -> None:
        raise RuntimeError("User declined installation")

    without(monkeypatch, "nibabel")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", decline)
    drawn.ui.synthesizeButton.click()
    assert "nibabel>=5.2 could not be installed" in drawn.ui.statusLabel.text
    assert not drawn.panel.synthesis.busy


def test_the_example_is_offered_as_sample_data_without_a_download(host: Any, module: Any) -> None:
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    from host import sample_data

    sample_data.registered.clear()
    host.finish_startup()
    (source,) = sample_data.registered
    assert source["category"] == "MedDiffusion"
    assert Path(url2pathname(urlparse(source["uris"]).path)).is_file()
