"""The one scene logic of this Slicer, and the timer that keeps it going.

The panel and every script share it, so that they share the warm worker process and its queue.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

import qt

from ..scene.jobs import SceneLogic, SynthesisJob
from ..scene.live import LiveVolume

POLL_MILLISECONDS = 20


class Runner:
    """Starts jobs and listens to the worker for as long as there are any."""

    def __init__(self) -> None:
        self.scene_logic = SceneLogic([shutil.which("PythonSlicer") or sys.executable])
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._listen)

    @property
    def listening(self) -> bool:
        return bool(self._timer.active)

    def start_synthesis(self, *arguments: Any, **options: Any) -> SynthesisJob:
        """See SceneLogic.startSynthesis."""
        job = self.scene_logic.startSynthesis(*arguments, **options)
        self._timer.start()
        return job

    def start_generation(self, *arguments: Any, **options: Any) -> SynthesisJob:
        """See SceneLogic.startGeneration."""
        job = self.scene_logic.startGeneration(*arguments, **options)
        self._timer.start()
        return job

    def start_random_label_map(self, *arguments: Any) -> None:
        """See SceneLogic.startRandomLabelMap."""
        self.scene_logic.startRandomLabelMap(*arguments)
        self._timer.start()

    def start_variation(self, *arguments: Any) -> None:
        """See SceneLogic.startVariation."""
        self.scene_logic.startVariation(*arguments)
        self._timer.start()

    def start_import(self, *arguments: Any) -> None:
        """See SceneLogic.startImport."""
        self.scene_logic.startImport(*arguments)
        self._timer.start()

    def make_live(self, live: LiveVolume, *arguments: Any) -> None:
        """See LiveVolume.make."""
        live.make(*arguments)
        self._timer.start()

    def close(self) -> None:
        """End the worker and what it does."""
        self.scene_logic.cleanup()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._listen)

    def _listen(self) -> None:
        self.scene_logic.process()
        if not self.scene_logic.busy:
            self._timer.stop()


_shared: list[Runner] = []


def shared_runner() -> Runner:
    """The runner, made when it is first needed."""
    if not _shared:
        _shared.append(Runner())
    return _shared[0]


def close_runner() -> None:
    """End the runner; the next use makes a new one."""
    while _shared:
        _shared.pop().close()
