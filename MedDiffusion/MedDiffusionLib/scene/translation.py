"""Slicer's translation, for sentences of the scene ring that the panel shows."""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # Slicer's core alone has no translation.

    def _(text: str) -> str:
        return text
