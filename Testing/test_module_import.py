"""Checkpoints through the panel: by clicks, the file read by the worker alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkpoint_files import BAD, MARK, write_bad_files, write_good
from host import missing
from host.fixtures import host, started_host
from module_panel import (
    choose_model,
    drawn,
    home,
    listed,
    module,
    own_user_folder,
    paint,
    panel,
    synthesize,
    tiny,
    wait,
    worker,
)

__all__ = ["drawn", "home", "host", "module", "own_user_folder", "panel", "started_host", "tiny"]
__all__ += ["worker"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def choose_file(widget: Any, path: Path) -> None:
    """Press the button, and choose a file in the dialog."""
    from host import dialogs

    dialogs.answers["QFileDialog.getOpenFileName"] = [str(path)]
    widget.ui.importModelButton.click()
    dialogs.shown.clear()


def press_import(host: Any, widget: Any) -> str:
    """Press the form's button and wait; what is said then."""
    widget.ui.importStartButton.click()
    wait(host, lambda: widget.ui.importStartButton.enabled, lambda: widget.ui.modelStatus.text)
    return str(widget.ui.modelStatus.text)


def test_a_checkpoint_becomes_the_chosen_model_and_makes_a_volume(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path
) -> None:
    ui = panel.ui
    choose_file(panel, write_good(tmp_path / "Model 128.pt"))
    assert ui.importForm.visible
    assert ui.importFileLabel.text == "Model 128.pt"
    assert ui.importNameEdit.text == "model-128"
    ui.importNameEdit.text = "mine"
    ui.importLicenseEdit.text = "CC-BY-4.0"
    ui.importOptionsEdit.text = "size=16,16,16; spacing=1,1,1"
    assert press_import(host, panel).startswith("Imported mine.")
    assert not ui.importForm.visible
    assert panel.panel.parameters.model == "mine"
    for part in ("Med-DDPM", "CC-BY-4.0", "not on one scale"):
        assert part in ui.modelCard.text
    assert "Model 128.pt" in ui.modelDetails.text
    ui.newCanvasButton.click()
    paint(panel, "head", "tumour")
    panel.panel.labels.look()
    assert ui.synthesizeButton.enabled
    synthesize(host, panel)
    assert len(listed(panel)) == 1, ui.statusLabel.text


def test_a_name_that_is_none_or_taken_is_asked_about(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path
) -> None:
    import qt

    from host import dialogs

    ui = panel.ui
    choose_file(panel, write_good(tmp_path / "tiny.pt"))
    ui.importNameEdit.text = "No Name"
    assert press_import(host, panel).startswith("Give the model a name of small letters")
    ui.importNameEdit.text = "tiny"
    dialogs.answers["QMessageBox"] = [qt.QMessageBox.Cancel]
    press_import(host, panel)
    assert dialogs.shown[-1].text == "There is a model tiny already. Replace it?"
    assert "Tiny untrained model" in ui.modelCard.text
    ui.importCancelButton.click()
    assert not ui.importForm.visible
    choose_model(panel, "tiny")
    dialogs.shown.clear()


def test_bad_checkpoints_are_one_sentence_each_and_make_no_model(
    host: Any, panel: Any, own_user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from module_panel import shared_runner

    # The worker that reads them has to know where a payload would leave its mark.
    shared_runner().scene_logic.client.rest()
    monkeypatch.setenv(MARK, str(tmp_path / "executed"))
    before = sorted(own_user_folder.rglob("*"))
    files = write_bad_files(tmp_path)
    # A few, with one that runs a command; of all, test_importing.py holds it.
    for key in ("reduce-in-ema", *sorted(files)[::8]):
        path = files[key]
        choose_file(panel, path)
        panel.ui.importNameEdit.text = "bad"
        said = press_import(host, panel)
        assert BAD[key][0] in said, key
        assert said.startswith(str(path)), key
        assert "\n" not in said, key
    assert sorted(own_user_folder.rglob("*")) == before
    assert not (tmp_path / "executed").exists()
    assert panel.panel.parameters.model == "tiny"
    panel.ui.importCancelButton.click()
