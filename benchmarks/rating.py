"""How fast Realism Rating shows the next case, and how long it holds up Slicer's event loop.

On the test host, with volumes of 256³ voxels, each read anew from the disk's cache. A view is drawn
by VTK without a graphics card, so what drawing takes is told apart. Needs Slicer's core libraries
and Qt, as ``make test`` installs them.
"""

from __future__ import annotations

import json
import os
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
from MedDiffusionLib.compute.files import file_sha256
from MedDiffusionLib.studies.pipeline import write_case
from rating_module import MODULE, open_study, press, show_windows, to_case
from study_factory import write_study
from study_readers import choice_study

LARGE = 256
"""Voxels along each edge."""
CASES = 6
READER_SECONDS = 2.0
"""For which a reader looks at a case at least, while the next is read."""


class Turns:
    """Turns of the event loop, and how long the longest took: in milliseconds, and in those that
    this thread computed, which other programs on the machine do not make longer."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.longest = self.longest_computed = 0.0

    def until(self, done: Callable[[], bool], act: Callable[[], None] = lambda: None) -> float:
        """The milliseconds from an action until something is so."""
        begun = time.perf_counter()
        self._turn(act)
        while not done():
            self._turn(self._host.process_events)
            time.sleep(0.001)
        return 1000 * (time.perf_counter() - begun)

    def _turn(self, act: Callable[[], None]) -> None:
        begun, computed = time.perf_counter(), time.thread_time()
        act()
        self.longest = max(self.longest, 1000 * (time.perf_counter() - begun))
        self.longest_computed = max(self.longest_computed, 1000 * (time.thread_time() - computed))


def make_large(folder: Path, protocol: str) -> Path:
    """A study of large volumes, noise on a slope, as the pipeline writes them."""
    if protocol == "2afc":
        choice_study(folder, CASES)
    else:
        write_study(folder, CASES, protocol)
    generator = np.random.default_rng(1)
    slope = np.linspace(100, 800, LARGE, dtype=np.int16)[:, None, None]
    content = json.loads((folder / "study.json").read_bytes())
    for entry in content["files"]:
        path = folder / entry["path"]
        noise = generator.integers(-50, 50, (LARGE,) * 3, np.int16)
        write_case(path, slope + noise, np.full(3, 0.9))
        entry |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / "study.json").write_text(json.dumps(content), "utf-8")
    return folder


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
    return [
        [f"{what}: next case, median of 4", f"{np.median(nexts):.0f} ms"],
        [f"{what}: next case, longest", f"{max(nexts):.0f} ms"],
        [f"{what}: back to a case that has to be read", f"{unread:.0f} ms"],
        [f"{what}: from Open to the first case", f"{first:.0f} ms"],
        [f"{what}: from Open to the same case, when the session goes on", f"{again:.0f} ms"],
        [
            f"{what}: longest hold of the event loop in all this; of it computed",
            f"{turns.longest:.0f} ms; {turns.longest_computed:.0f} ms",
        ],
    ]


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
        single = make_large(Path(place) / "single" / "study", "real-or-synthetic")
        pairs = make_large(Path(place) / "pairs" / "study", "2afc")
        host = start()
        widget = open_widget(load_module(MODULE))
        show_windows(host, widget)
        rows = [
            ["load of the machine, of so many cores", f"{os.getloadavg()[0]:.1f}, {os.cpu_count()}"]
        ]
        rows += rate(host, widget, single, "one volume")
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
