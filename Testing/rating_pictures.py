"""Pictures of Realism Rating for the README: a case being rated, and a choice of two.

    PYTHONPATH=Testing python Testing/rating_pictures.py [FOLDER]

takes these alone; ``make screenshot`` takes them with the others. All volumes are synthetic.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MedDiffusionLib.bundles.catalog import DEFAULT_MODEL
from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.request import Generation, StudyRequest
from rating_module import MODULE, open_study, press, show_windows, to_case, wait_for_case
from screenshots import FOLDER, VIEW_WIDTH, draw_panel, joined, save

NONCE = "7" * 64
HEIGHT = 560
"""Of a picture at least."""


def take_rating_pictures(host: Any, folder: Path) -> None:
    """Make two small studies, open them on the host, and take a picture of each."""
    from host.modules import close_widget, load_module, open_widget

    with tempfile.TemporaryDirectory() as work:
        before = Path.cwd()
        os.chdir(work)  # So that the pictures show no path of this machine.
        _make("single", "published", cases=3)
        _make("choice", "2afc", cases=2)
        widget = open_widget(load_module(MODULE))
        show_windows(host, widget)
        open_study(host, widget, Path("single"), "R1")
        to_case(host, widget)
        press(host, widget, "3", "3", "4", "Return")
        wait_for_case(host, widget)
        press(host, widget, "3", "4")
        panel = draw_panel(host, widget.parent)
        axial, coronal, sagittal = _planes(1)
        height = max(len(panel), HEIGHT)
        half = (height - 4) // 2
        views = joined(
            [_view(axial, height), joined([_view(coronal, half), _view(sagittal, half)], 0)], 1
        )
        save(_beside(panel, views), folder / "rating.png")
        widget.ui.closeButton.click()
        open_study(host, widget, Path("choice"), "R1")
        to_case(host, widget)
        panel = draw_panel(host, widget.parent)
        third = (HEIGHT - 8) // 3
        columns = [
            joined([joined([_view(a, third), _view(c, third)], 0), _view(s, third)], 0)
            for a, c, s in (_planes(1), _planes(2))
        ]
        save(_beside(panel, joined(columns, 1)), folder / "rating-choice.png")
        close_widget(widget)
        os.chdir(before)


def _make(name: str, protocol: str, cases: int) -> None:
    """A study of volumes that the bundled model made, in both arms."""
    request = StudyRequest(
        Path(name).absolute(),
        Generation(DEFAULT_MODEL, drawn=cases),
        Generation(DEFAULT_MODEL, drawn=cases),
        protocol=protocol, training=0, per_arm=cases, seed=1, example=True,
    )  # fmt: skip
    make_study(request, nonce=NONCE)


def _planes(number: int) -> Sequence[Any]:
    import slicer

    logic = slicer.app.applicationLogic()
    names = (f"Rating{plane}{number}" for plane in ("Axial", "Coronal", "Sagittal"))
    return [logic.GetSliceLogicByLayoutName(name) for name in names]


def _view(logic: Any, height: int) -> NDArray[np.uint8]:
    from host.views import SliceView

    logic.FitSliceToBackground(VIEW_WIDTH, height)
    view = SliceView(logic)
    pixels = view.array(VIEW_WIDTH, height)
    view.close()
    return pixels


def _beside(panel: NDArray[np.uint8], views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The panel beside the views, as high as the higher one; the panel's gray goes on below it."""
    missing = len(views) - len(panel)
    if missing > 0:
        panel = np.concatenate([panel, np.repeat(panel[-1:], missing, axis=0)])
    return joined([panel[: len(views)], views], 1)


if __name__ == "__main__":
    from host.application import start

    take_rating_pictures(start(), Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
