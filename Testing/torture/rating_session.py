"""A reader who answers a study by keys as fast as the module allows; rating_kills.py kills it.

    python Testing/torture/rating_session.py STUDY READER SEEN

``SEEN`` gets a line of JSON for each case that was shown, and for each answer after which the next
case or page came: what the reader may count on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from host.application import start
from host.modules import load_module, open_widget
from rating_module import (
    MODULE,
    answer_of,
    open_study,
    presentation,
    press,
    show_windows,
    to_case,
    wait_for_case,
)


class Seen:
    """Writes down at once, as far as the system: a killed process loses nothing of it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **facts: Any) -> None:
        os.write(self._descriptor, json.dumps(facts).encode() + b"\n")


def main(study: Path, reader: str, seen: Seen) -> None:
    host = start()
    widget = open_widget(load_module(MODULE))
    show_windows(host, widget)
    seen.write(event="ready")
    begun = time.perf_counter()
    open_study(host, widget, study, reader)
    assert widget.panel.rating is not None, widget.ui.startStatus.text
    to_case(host, widget)
    seconds = time.perf_counter() - begun
    while widget.ui.caseBox.visible:
        shown = presentation(widget)
        seen.write(event="shown", shown=shown, seconds=seconds,
                   position=widget.panel.rating.progress[1])  # fmt: skip
        press(host, widget, str(answer_of(shown)), "Return")
        assert widget.ui.sessionStatus.text == "", widget.ui.sessionStatus.text
        seen.write(event="confirmed", shown=shown)
        wait_for_case(host, widget)
    seen.write(event="finished")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Seen(Path(sys.argv[3])))
