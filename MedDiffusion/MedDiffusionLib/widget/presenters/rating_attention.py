"""What a reader did with a case: for how long it was looked at, which slices, which windows."""

from __future__ import annotations

from collections.abc import Callable, Hashable

ONE_CHANGE_SECONDS = 0.7
"""Window changes that follow each other within so long are one: a drag of the mouse."""


class Attention:
    """Counts while it runs: not while the case is put away, the study paused, or Slicer hidden."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` tells seconds that never go back."""
        self._now = now
        self._before = 0.0
        self._since: float | None = None
        self._slices: set[Hashable] = set()
        self._window_at: float | None = None
        self.window_changes = 0

    @property
    def running(self) -> bool:
        return self._since is not None

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return self._before + (0.0 if self._since is None else self._now() - self._since)

    @property
    def slices_seen(self) -> int:
        """Different slices, of all views."""
        return len(self._slices)

    def run(self, running: bool) -> None:
        """Start or stop the clock; again is no change."""
        if running and self._since is None:
            self._since = self._now()
        elif not running:
            self._before, self._since = self.seconds, None

    def see(self, view: str, slice_number: int) -> None:
        """A view shows a slice."""
        if self.running:
            self._slices.add((view, slice_number))

    def change_window(self) -> None:
        """The window was changed a bit."""
        if not self.running:
            return
        now = self._now()
        if self._window_at is None or now - self._window_at > ONE_CHANGE_SECONDS:
            self.window_changes += 1
        self._window_at = now
