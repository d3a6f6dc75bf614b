"""The picture of the panel with an imported model for the README.

    PYTHONPATH=Testing python Testing/import_picture.py [FOLDER]

takes it alone; ``make screenshot`` takes it with the others. The checkpoint is made here, of the
published layout in small and of random weights, so the volume is noise.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint_files import write_good
from module_panel import wait, wait_for_the_end
from screenshots import FOLDER, Camera


def take_import_picture(host: Any, widget: Any, folder: Path) -> None:
    """Import a checkpoint by clicks, draw a head and a tumour, synthesize, and take the picture."""
    from host import dialogs

    ui = widget.ui
    home = os.environ.get("MEDDIFFUSION_HOME")
    with tempfile.TemporaryDirectory() as work:
        os.environ["MEDDIFFUSION_HOME"] = work
        dialogs.answers["QFileDialog.getOpenFileName"] = [str(write_good(Path(work) / "model.pt"))]
        ui.importModelButton.click()
        ui.importNameEdit.text = "imported"
        ui.importLicenseEdit.text = "none: random weights"
        ui.importOptionsEdit.text = "size=32,32,32; spacing=2,2,2"
        ui.importStartButton.click()
        wait(host, lambda: ui.importStartButton.enabled, lambda: ui.modelStatus.text)
        ui.newCanvasButton.click()
        _draw_balls(widget, {"head": 12, "tumour": 4})
        wait(host, lambda: ui.synthesizeButton.enabled, lambda: ui.fitLabel.text)
        ui.synthesizeButton.click()
        wait_for_the_end(host, widget)
        host.process_events(100)
        camera = Camera(host, widget, folder)
        camera.take("imported")
        camera.close()
    if home is None:
        del os.environ["MEDDIFFUSION_HOME"]
    else:
        os.environ["MEDDIFFUSION_HOME"] = home


def _draw_balls(widget: Any, radii: dict[str, float]) -> None:
    """Draw a ball of so many voxels for each label, one within the other."""
    import slicer.util

    from MedDiffusionLib.widget.views import source_volume

    node = widget.panel.parameters.label_node
    volume = source_volume(node)
    shape = slicer.util.arrayFromVolume(volume).shape
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    distance = np.linalg.norm(indices - np.reshape(shape, (3, 1, 1, 1)) / 2, axis=0)
    balls = {name: (distance <= radius).astype(np.uint8) for name, radius in radii.items()}
    balls["head"] -= balls["tumour"]
    for name, mask in balls.items():
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)


def main(folder: Path) -> None:
    from host.application import start
    from host.modules import close_widget, load_module, open_widget
    from module_panel import MODULE

    host = start()
    widget = open_widget(load_module(MODULE))
    widget.parent.show()
    take_import_picture(host, widget, folder)
    close_widget(widget)
    host.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
