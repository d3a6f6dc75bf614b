"""The cases of a session in the views: read ahead, shown, blanked and put away."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..compute.errors import unexpected
from ..scene.rating_volumes import CaseVolumes
from ..studies.voxels import ReadAhead
from .presenters.rating import Rating, Stage
from .rating_views import RatingViews

TURN_SECONDS = 0.004
"""For the thread that reads, each time: Slicer's event loop leaves it none."""


class Screen:
    """Shows what a session has as its current case; nothing where it has none, or is paused."""

    def __init__(self) -> None:
        self._rating: Rating | None = None
        self._ahead: ReadAhead | None = None
        self._volumes = CaseVolumes()
        self._views = RatingViews(self._on_slice, self._on_window)

    @property
    def nodes(self) -> list[Any]:
        """The volume nodes that hold the case."""
        return self._volumes.nodes

    def open(self, rating: Rating) -> None:
        """Begin with a session: its first case is read already."""
        self._rating = rating
        self._ahead = ReadAhead(rating.study)
        self._read_ahead(rating)

    def follow(self) -> None:
        """Bring the views up to the session, as far as the case is read."""
        rating = self._rating
        if rating is None:
            return
        self._read_ahead(rating)
        if rating.stage is Stage.CASE and not rating.is_shown:
            self._show(rating)
        if not rating.is_shown:
            self._views.blank()

    def turn(self) -> bool:
        """Let reading go on; whether a case was shown meanwhile, or found to be unreadable."""
        rating = self._rating
        if rating is None or self._ahead is None:
            return False
        if rating.stage is Stage.CASE and not rating.is_shown:
            self._show(rating)
            return rating.is_shown or rating.stage is not Stage.CASE
        self._ahead.turn(TURN_SECONDS)
        self._views.settle()
        return False

    def blank(self) -> None:
        """Show nothing."""
        self._views.blank()

    def put_away(self) -> None:
        """Take the case out of the scene, and give the views back."""
        self._views.end()
        self._volumes.remove()

    def close(self) -> None:
        """The same, and nothing is read any more."""
        self.put_away()
        if self._ahead is not None:
            self._ahead.close()
        self._rating = self._ahead = None

    def _read_ahead(self, rating: Rating) -> None:
        if self._ahead is not None:
            # A repeat may come next to its case where a study is small.
            wanted = {case.id: case for case in (rating.case, rating.upcoming) if case}
            self._ahead.ask(*wanted.values())

    def _show(self, rating: Rating) -> None:
        assert rating.case is not None and self._ahead is not None
        try:
            volumes = self._ahead.take(rating.case, TURN_SECONDS)
            if volumes is None:
                return
            self._volumes.show(volumes, rating.study.window)
            self._views.show(self._volumes.nodes)
            rating.shown()
            self._views.look()
        except Exception as error:  # Not once more at every turn: the reader is told.
            rating.failed(unexpected(error))
            self._views.blank()

    def _on_slice(self, view: str, number: int) -> None:
        if self._rating is not None:
            self._rating.attention.see(view, number)

    def _on_window(self) -> None:
        if self._rating is not None:
            self._rating.attention.change_window()


def is_slicer_seen() -> bool:
    """Whether the reader can see the views: Slicer is neither minimized nor hidden."""
    window = slicer.util.mainWindow()
    states = (qt.Qt.ApplicationHidden, qt.Qt.ApplicationSuspended)
    hidden = qt.QGuiApplication.applicationState() in states
    return not hidden and not (window is not None and window.minimized)
