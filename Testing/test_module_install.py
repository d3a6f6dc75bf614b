"""First use: what is missing is found without importing it, offered once, never forced."""

from __future__ import annotations

import importlib.metadata
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

        def uninstallTorch(self) -> None:  # noqa: N802
            asked.append({"removed": True})

    utils = types.ModuleType("PyTorchUtils")
    utils.__spec__ = importlib.util.spec_from_loader("PyTorchUtils", None)
    vars(utils)["PyTorchUtilsLogic"] = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    return asked


def questions() -> list[str]:
    """What the user was asked since the last call."""
    from host import dialogs

    asked = [shown.text for shown in dialogs.shown]
    dialogs.shown.clear()
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


def test_torch_is_not_even_asked_for_where_the_user_declines(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    from host import dialogs

    without(monkeypatch, "torch")
    asked = offer_torch(monkeypatch, lambda: None)
    dialogs.answers["QMessageBox"] = [qt.QMessageBox.Cancel]
    there, said = ensure()
    assert (there, asked) == (False, [])
    assert said[-1].startswith("Nothing was installed")
    assert len(questions()) == 1


def with_version(monkeypatch: pytest.MonkeyPatch, package: str, version: str) -> dict[str, str]:
    """Let a package have this version; change it in the returned table."""
    versions, find = {package: version}, importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: versions.get(name) or find(name)
    )
    return versions


def test_the_versions_asked_for_are_those_of_the_project_file() -> None:
    from MedDiffusionLib.widget.install import LEAST

    text = (MODULE.parents[1] / "pyproject.toml").read_text("utf-8")
    for package, version in LEAST.items():
        assert f'"{package}>={version}"' in text


def test_torch_that_is_too_old_is_said_to_be_and_replaced(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = with_version(monkeypatch, "torch", "2.4.1+cu121")

    def install() -> object:
        versions["torch"] = "2.10.0"
        return object()

    asked = offer_torch(monkeypatch, install)
    there, said = ensure()
    assert "PyTorch 2.5 or later (2.4.1+cu121 is installed)" in said[0]
    assert (there, len(asked)) == (True, 1)
    assert len(questions()) == 1


def test_old_torch_that_stays_is_no_success(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_version(monkeypatch, "torch", "1.13")
    offer_torch(monkeypatch, object)
    there, said = ensure()
    assert not there
    assert said[-1].startswith("PyTorch 1.13 stayed, which is too old")
    assert len(questions()) == 1


def test_while_torch_installs_the_cursor_waits_and_a_second_press_does_nothing(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    seen: list[Any] = []

    def install() -> None:
        cursor = qt.QApplication.overrideCursor()
        seen.append(cursor is not None and cursor.shape() == qt.Qt.WaitCursor)
        seen.append(ensure())

    without(monkeypatch, "torch")
    asked = offer_torch(monkeypatch, install)
    ensure()
    assert seen == [True, (False, ["The installation is still running: wait until it is done."])]
    assert len(asked) == 1
    assert qt.QApplication.overrideCursor() is None
    assert len(questions()) == 1


def test_broken_torch_is_removed_and_installed_anew_at_a_press(
    host: Any, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = offer_torch(monkeypatch, object)
    panel.ui.advancedSection.collapsed = False
    assert panel.ui.packagesLabel.text.startswith("torch 2.")
    panel.ui.reinstallButton.click()
    (question,) = questions()
    assert "removed and installed anew" in question
    assert [sorted(wishes) for wishes in asked] == [
        ["removed"],
        ["askConfirmation", "torchVersionRequirement"],
    ]


def test_torch_that_is_declined_leaves_a_sentence(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "torch")
    asked = offer_torch(monkeypatch, lambda: None)
    there, said = ensure()
    assert asked == [{"askConfirmation": False, "torchVersionRequirement": ">=2.5"}]
    assert not there
    assert "PyTorch was not installed" in said[-1]
    (question,) = questions()
    assert "a download of 0.2 GB" in question


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
    assert len(questions()) == 1


def test_small_packages_are_asked_for_together_and_the_synthesis_starts(
    host: Any, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer.packaging

    lacking = without(monkeypatch, "safetensors", "nibabel")
    asked: list[list[str]] = []

    def install(requirements: list[str], prompt_install: bool, requester: str) -> None:
        asked.append(requirements)
        lacking.clear()

    monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    drawn.ui.synthesizeButton.click()
    assert asked == [["safetensors>=0.4", "nibabel>=5.2"]]
    wait_for_the_end(host, drawn)
    assert drawn.ui.resultList.count == 1
    assert len(questions()) == 1


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
    assert len(questions()) == 1
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
