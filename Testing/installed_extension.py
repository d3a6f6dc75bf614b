"""Uses the installed panel; test_install.py runs it with an interpreter of its own.

``python installed_extension.py MODULES OUTPUT``: MODULES is the installed folder
qt-scripted-modules, OUTPUT the volume to write. Ends with an exception when anything is missing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

MODEL = "hippocampus-mr"
PATIENCE = 300.0


def use_panel(modules: Path, output: Path) -> None:
    """Open the module on the test host, load the example and press Synthesize."""
    import slicer.util

    from host import dialogs
    from host.application import start
    from host.modules import close_widget, load_module, open_widget

    host = start()
    widget = open_widget(load_module(modules / "MedDiffusion.py"))
    ui = widget.ui
    assert ui.modelSelector.currentData == MODEL, ui.modelSelector.currentData
    ui.exampleButton.click()
    ui.qualitySelector.currentIndex = 0  # Fast.
    ui.synthesizeButton.click()
    deadline = time.monotonic() + PATIENCE
    while widget.panel.synthesis.busy:
        assert time.monotonic() < deadline, f"no volume came: {ui.statusLabel.text}"
        host.process_events(5)
    volume = widget.panel.parameters.result
    assert volume is not None, f"{ui.statusLabel.text} {dialogs.shown} {host.errors}"
    assert slicer.util.saveNode(volume, str(output), {})
    close_widget(widget)
    assert host.errors == [], "".join(host.errors)
    host.close()


def check_origin(modules: Path) -> None:
    """Whatever was imported of the extension is the installed one."""
    source = Path(__file__).parents[1] / "MedDiffusion"
    for name, module in list(sys.modules.items()):
        file = Path(vars(module).get("__file__") or "")
        assert source not in file.parents, f"{name} comes from the source tree: {file}"
        if name.partition(".")[0] in ("MedDiffusion", "MedDiffusionLib"):
            assert modules in file.parents, f"{name} is not the installed one: {file}"


if __name__ == "__main__":
    modules, output = Path(sys.argv[1]), Path(sys.argv[2])
    use_panel(modules, output)
    assert "MedDiffusionLib.bundles.catalog" in sys.modules
    check_origin(modules)
