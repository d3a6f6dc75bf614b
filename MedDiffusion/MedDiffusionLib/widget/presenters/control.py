"""What a button, check box or section of the form looks like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """Its tooltip says what it does, or why it cannot be used now."""

    tip: str
    """What it does."""
    refusal: str = ""
    """Why it cannot be used; empty where it can."""
    text: str = ""
    """What is written on it; empty: what the form says."""

    @property
    def enabled(self) -> bool:
        return not self.refusal

    @property
    def tooltip(self) -> str:
        return self.refusal or self.tip
