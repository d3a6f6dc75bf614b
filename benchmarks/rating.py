"""How fast Realism Rating shows the next case, and how long it holds up Slicer's event loop.

On the test host, with volumes of 256³ voxels, each read anew from the disk's cache. A view is drawn
by VTK without a graphics card, so what drawing takes is told apart. Needs Slicer's core libraries
and Qt, as ``make test`` installs them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "Testing"))

from common import report
from host.application import start
from host.modules import close_widget, load_module, open_widget
from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.request import StudyRequest
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume
from rating_module import MODULE, open_study, press, show_windows, to_case

LARGE = 258
"""Voxels along each edge of what is given: the pipeline takes some off."""
READER_SECONDS = 2.0
"""For which a reader looks at a case at least, while the next is read."""


class Turns:
    """Turns of the event loop, and how long the longest took."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.longest = 0.0

    def until(self, done: Callable[[], bool], act: Callable[[], None] = lambda: None) -> float:
        """The milliseconds from an action until something is so."""
        begun = last = time.perf_counter()
        act()
        while True:
            now = time.perf_counter()
            self.longest, last = max(self.longest, 1000 * (now - last)), now
            if done():
                return 1000 * (now - begun)
            self._host.process_events()
            time.sleep(0.001)


def make_large(folder: Path, kind: str, count: int, **asked: Any) -> Path:
    """A study of large volumes: noise on a slope, in both arms."""
    generator = np.random.default_rng(1)
    slope = np.linspace(0, 1000, LARGE, dtype=np.float32)[:, None, None]
    for arm in ("real", "synthetic"):
        (folder / arm).mkdir(parents=True)
        for n in range(count):
            noise = generator.normal(0, 50, (LARGE, LARGE, LARGE)).astype(np.float32)
            volume = Volume(slope + noise, np.diag([0.9, 0.9, 0.9, 1]), Kind.INTENSITY)
            write_volume(folder / arm / f"{arm}{n}.nrrd", volume)
    request = StudyRequest(
        folder / "study", folder / "real", folder / "synthetic", protocol=kind,
        training=0, repeats_percent=0, trim=0, **asked,
    )  # fmt: skip
    study = make_study(request).study.folder
    print(f"{kind}: made", file=sys.stderr)
    return study


def rate(host: Any, widget: Any, study: Path, what: str) -> list[list[str]]:
    """Open a study, rate some cases, close and open it again."""
    turns = Turns(host)
    panel, ui = widget.panel, widget.ui

    def open_it() -> None:
        open_study(host, widget, study, "R1")

    def go_on() -> None:
        while ui.pageBox.visible and ui.continueButton.visible:
            ui.continueButton.click()

    def is_shown() -> bool:
        return bool(panel.rating is not None and panel.rating.is_shown)

    def rest() -> None:
        end = time.perf_counter() + READER_SECONDS
        turns.until(lambda: time.perf_counter() > end)

    opened = turns.until(lambda: panel.rating is not None, open_it)
    first = opened + turns.until(is_shown, go_on)
    nexts = []
    for _case in range(4):
        rest()
        press(host, widget, "1")
        nexts.append(turns.until(is_shown, ui.nextButton.click))
    rest()
    unread = turns.until(is_shown, ui.backButton.click)
    ui.closeButton.click()
    again = turns.until(lambda: panel.rating is not None, open_it)
    again += turns.until(is_shown, go_on)
    ui.closeButton.click()
    size = " x ".join(map(str, panel_size(study)))
    return [
        [f"{what} ({size} voxels): next case, median of 4", f"{np.median(nexts):.0f} ms"],
        [f"{what}: next case, longest", f"{max(nexts):.0f} ms"],
        [f"{what}: back to a case that has to be read", f"{unread:.0f} ms"],
        [f"{what}: from Open to the first case", f"{first:.0f} ms"],
        [f"{what}: from Open to the same case, when the session goes on", f"{again:.0f} ms"],
        [f"{what}: longest hold of the event loop in all this", f"{turns.longest:.0f} ms"],
    ]


def panel_size(study: Path) -> tuple[int, ...]:
    from MedDiffusionLib.studies.study import read_study
    from MedDiffusionLib.studies.voxels import read_case

    opened = read_study(study)
    return read_case(opened, opened.cases[0])[0].array.shape


def draw(host: Any) -> float:
    """The milliseconds that the three slices take to be computed and drawn."""
    import slicer

    from host.views import SliceView

    logic = slicer.app.applicationLogic()
    names = ("RatingAxial1", "RatingCoronal1", "RatingSagittal1")
    views = [SliceView(logic.GetSliceLogicByLayoutName(name)) for name in names]
    begun = time.perf_counter()
    for view in views:
        view.array(600, 500)
    taken = 1000 * (time.perf_counter() - begun)
    for view in views:
        view.close()
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        single = make_large(Path(place) / "single", "real-or-synthetic", 3)
        pairs = make_large(Path(place) / "pairs", "2afc", 6)
        host = start()
        widget = open_widget(load_module(MODULE))
        show_windows(host, widget)
        rows = rate(host, widget, single, "one volume")
        open_study(host, widget, single, "R2")
        to_case(host, widget)
        rows.append(["one volume: its three slices computed and drawn", f"{draw(host):.0f} ms"])
        widget.ui.closeButton.click()
        rows += rate(host, widget, pairs, "two side by side")
        close_widget(widget)
        host.close()
    report("rating", "Realism Rating: the next case, and the event loop", ["what", "time"], rows)


if __name__ == "__main__":
    main()
