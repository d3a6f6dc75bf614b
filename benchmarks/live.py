"""How long a picture takes to follow a stroke while Live is on, on the test host.

The whole way: the stroke in Slicer's own segment editor logic, the panel, the worker process with
the bundled model, the volume in the scene, and a slice view drawn. Medians of one run; the worker
is warm, as it is from the first picture on. The first row of the table is one synthesis at the
panel's own setting, for comparison.
Needs Slicer's core libraries and Qt, as ``make test`` installs them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "Testing"))

from common import report
from host.application import start
from host.modules import close_widget, load_module, open_widget
from module_panel import MODULE
from tutorial import paint_stroke

STROKES = 20
PATIENCE = 120.0
BRUSH = 3.0
"""Radius in mm."""


class Clock:
    """Notes when the stages of a picture are reached, from the stroke on."""

    def __init__(self, host: Any, widget: Any) -> None:
        import slicer

        from host.views import SliceView

        self.host = host
        self.widget = widget
        self._view = SliceView(slicer.app.layoutManager().sliceWidget("Red").sliceLogic())
        self._pictures = 0
        self._volume = widget.panel.live._volume
        self._made = self._volume.on_made
        self._volume.on_made = self._on_made

    def follow(self, act: Callable[[], None]) -> dict[str, float]:
        """The seconds from an action to each stage of the picture that follows it."""
        before = self._pictures
        begun = time.perf_counter()
        act()
        stroke = time.perf_counter() - begun
        asked = 0.0
        while self._pictures == before:
            assert time.perf_counter() - begun < PATIENCE, self.widget.ui.liveStatus.text
            self.host.process_events()
            if not asked and self._volume.busy:
                asked = time.perf_counter() - begun
            time.sleep(0.001)
        in_scene = time.perf_counter() - begun
        self._view.array()
        drawn = time.perf_counter() - begun
        return {"stroke": stroke, "asked": asked, "in scene": in_scene, "drawn": drawn}

    def close(self) -> None:
        self._view.close()

    def _on_made(self, node: Any) -> None:
        self._made(node)
        self._pictures += 1


def synthesis_seconds(host: Any, widget: Any) -> float:
    """One synthesis with the worker warm, as the panel is set when it is opened, of a new seed."""
    widget.panel.parameters.seed += 1
    begun = time.perf_counter()
    widget.ui.synthesizeButton.click()
    while widget.panel.synthesis.busy:
        host.process_events()
        time.sleep(0.001)
    return time.perf_counter() - begun


def centers(node: Any) -> NDArray[np.float64]:
    """Where to paint (RAS, mm): places of the posterior, each twice."""
    from MedDiffusionLib.scene.label_maps import read_label_node

    labels = read_label_node(node).labels
    value = next(s.value for s in labels.segments if s.name == "posterior")
    inside = labels.grid.positions(np.argwhere(labels.array == value))
    chosen = np.random.default_rng(0).choice(len(inside), STROKES // 2, replace=False)
    return np.repeat(inside[chosen], 2, axis=0)


def main() -> None:
    load = os.getloadavg()[0]
    host = start()
    widget = open_widget(load_module(MODULE))
    widget.parent.show()
    widget.ui.exampleButton.click()
    clock = Clock(host, widget)
    first = clock.follow(widget.ui.liveCheck.click)
    editor = widget.panel.labels.editor.widget
    found = []
    for number, center in enumerate(centers(widget.panel.parameters.label_node)):
        # Into the other label and back, so that each stroke changes something.
        editor.setCurrentSegmentID("posterior" if number % 2 else "anterior")
        stroke = [(tuple(center + shift), BRUSH) for shift in ((0, -1, 0), (0, 1, 0))]
        found.append(clock.follow(partial(paint_stroke, editor, stroke)))
        host.process_events(300)
    widget.ui.liveCheck.click()
    synthesize = [synthesis_seconds(host, widget) for _number in range(3)][1:]
    clock.close()
    close_widget(widget)
    host.close()

    def median(stage: str, since: str = "") -> str:
        values = [times[stage] - (times[since] if since else 0) for times in found]
        return f"{statistics.median(values):.2f} s"

    longest = max(times["drawn"] for times in found)
    report(
        "live",
        f"Live: from stroke to picture, `hippocampus-mr`, {STROKES} strokes",
        ["what", "time"],
        [
            ["one synthesis as the panel is set (balanced), worker warm",
             f"{statistics.median(synthesize):.2f} s"],
            ["**from a stroke to the picture in a slice view, median**", f"**{median('drawn')}**"],
            ["the longest of them", f"{longest:.2f} s"],
            ["of the median: the stroke itself, in the segment editor's logic", median("stroke")],
            ["waiting for its end, reading the label map, asking the worker",
             median("asked", "stroke")],
            ["the steps in the worker, and the volume in the scene", median("in scene", "asked")],
            ["one slice view, drawn off screen without a GPU", median("drawn", "in scene")],
            ["the median in shares of that synthesis",
             f"{statistics.median(t['drawn'] for t in found) / statistics.median(synthesize):.2f}"],
            ["processes that waited for a processor before it began (load average)", f"{load:.1f}"],
            ["the first picture, with the worker's start", f"{first['drawn']:.1f} s"],
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
