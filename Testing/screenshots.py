"""``make screenshot``: the README's pictures of the module, taken along its tutorial.

The panel is drawn by Qt on the test host, the views by Slicer's own displayable managers; put side
by side they show what the desktop program shows, without its frame and without the segment
editor's buttons, which only the desktop program has.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from module_panel import MODULE
from training_tutorial import make_cases, train, training_module
from tutorial import Tutorial

FOLDER = Path(__file__).parents[1] / "Resources" / "Screenshots"
PANEL_WIDTH = 440
VIEW_WIDTH = 420
GAP = 4
TRAINING_MINUTES = 1.5
FRAME = 60
"""The gray between the parts of a picture."""


class Camera:
    """Takes a picture of the panel beside the views of Slicer's standard layout."""

    def __init__(self, host: Any, widget: Any, folder: Path) -> None:
        self._host = host
        self._panel = widget.parent
        self._folder = folder
        self._views: dict[str, Any] = {}

    def take(self, name: str) -> None:
        panel = self._draw_panel()
        height = (len(panel) - GAP) // 2
        red, three_d, green, yellow = (
            self._draw_view(v, height) for v in ("Red", "", "Green", "Yellow")
        )
        views = joined([joined([red, three_d], 1), joined([green, yellow], 1)], 0)
        save(joined([panel[: len(views)], views], 1), self._folder / f"module-{name}.png")

    def take_panel(self, name: str) -> None:
        save(self._draw_panel(), self._folder / f"module-{name}.png")

    def close(self) -> None:
        for view in self._views.values():
            view.close()

    def _draw_view(self, name: str, height: int) -> NDArray[np.uint8]:
        import slicer

        from host.views import SliceView, ThreeDView

        manager = slicer.app.layoutManager()
        if name not in self._views and name:
            logic = manager.sliceWidget(name).sliceLogic()
            logic.FitSliceToBackground(VIEW_WIDTH, height)
            self._views[name] = SliceView(logic)
        elif name not in self._views:
            self._views[name] = ThreeDView(manager.threeDWidget(0).mrmlViewNode())
        return self._views[name].array(VIEW_WIDTH, height)

    def _draw_panel(self) -> NDArray[np.uint8]:
        return draw_panel(self._host, self._panel)


def draw_panel(host: Any, panel: Any) -> NDArray[np.uint8]:
    """A picture of a module's panel, as high as it wants to be."""
    from PySide6.QtGui import QImage

    panel.setFixedWidth(PANEL_WIDTH)
    panel.setFixedHeight(panel.sizeHint.height())
    host.process_events(20)
    image = panel.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def save(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write a picture as PNG."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels), isVector=True)
    sitk.WriteImage(image, path, useCompression=True, compressionLevel=9)


def joined(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Pictures beside each other (axis 1) or one above the other (axis 0), with a gap."""
    first, second = pictures
    shape = list(first.shape)
    shape[axis] = GAP
    return np.concatenate([first, np.full(shape, FRAME, np.uint8), second], axis=axis)


def main(folder: Path) -> None:
    from host.application import start
    from host.modules import close_widget, load_module, open_widget
    from import_picture import take_import_picture
    from rating_pictures import take_rating_pictures

    host = start()
    widget = open_widget(load_module(MODULE))
    widget.parent.show()
    before = Path.cwd()
    camera = Camera(host, widget, folder)
    tutorial = Tutorial(host, widget, camera.take)
    tutorial.choose_the_model()
    tutorial.take_the_example()
    tutorial.synthesize()
    tutorial.make_another()
    tutorial.step_through_the_results()
    tutorial.show_in_3d()
    tutorial.draw()
    tutorial.follow_live()
    tutorial.draw_on_a_scan()
    tutorial.change_the_label_map()
    with tempfile.TemporaryDirectory() as work, training_module():
        os.environ["MEDDIFFUSION_HOME"] = work
        os.chdir(work)  # So that the pictures show no path of this machine.
        make_cases(Path("data"))
        train(host, widget, Path("data"), TRAINING_MINUTES, camera.take_panel)
        os.chdir(before)
    camera.close()
    take_import_picture(host, widget, folder)
    close_widget(widget)
    take_rating_pictures(host, folder)
    host.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
