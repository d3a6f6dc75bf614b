"""How long the module holds up Slicer's event loop, on the test host.

A loop stands for Slicer's: what lies between two of its turns is a block that a user would feel.
Needs Slicer's core libraries and Qt, as ``make test`` installs them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "Testing"))

from common import report
from host.application import start
from host.modules import close_widget, load_module, open_widget
from module_panel import MODULE

LARGE = 256
"""Voxels along each edge of the large label map, of 0.25 mm: as large as heads are scanned."""


def longest_block(host: Any, act: Callable[[], None], until: Callable[[], bool]) -> float:
    """The milliseconds of the longest turn of the event loop from an action to its end."""
    longest, last = 0.0, time.perf_counter()
    act()
    while True:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if until():
            return 1000 * longest
        host.process_events()
        time.sleep(0.001)


def large_label_map() -> Any:
    """Two boxes of labels on a large grid, as a node."""
    import slicer.util

    array = np.zeros((LARGE,) * 3, np.int16)
    array[LARGE // 4 : 3 * LARGE // 4, 32 : LARGE // 2, 100:160] = 1
    array[LARGE // 4 : 3 * LARGE // 4, LARGE // 2 : -32, 100:160] = 2
    return slicer.util.addVolumeFromArray(
        array, np.diag([0.25, 0.25, 0.25, 1]), "large", "vtkMRMLLabelMapVolumeNode"
    )


def main() -> None:
    host = start()
    widget = open_widget(load_module(MODULE))
    widget.parent.show()

    def synthesize(what: str) -> list[str]:
        host.process_events(1000)
        block = longest_block(
            host, widget.ui.synthesizeButton.click, lambda: not widget.panel.synthesis.busy
        )
        assert widget.ui.statusLabel.text == "", widget.ui.statusLabel.text
        return [what, f"{block:.0f} ms"]

    widget.ui.exampleButton.click()
    rows = [synthesize("the example, the worker's start and loading of the model included")]
    rows.append(synthesize("the example, the worker warm"))
    large = large_label_map()
    host.process_events(1000)

    def choose() -> None:
        widget.panel.parameters.label_node = large

    block = longest_block(host, choose, lambda: widget.panel.labels.fit.ok)
    rows.append(
        [f"choosing a label map of {LARGE}³ voxels, and whether it fits", f"{block:.0f} ms"]
    )
    rows.append(synthesize(f"a label map and so a volume of {LARGE}³ voxels"))
    close_widget(widget)
    host.close()
    report(
        "responsiveness",
        "Longest block of the event loop during a synthesis",
        ["what", "longest block"],
        rows,
    )


if __name__ == "__main__":
    main()
