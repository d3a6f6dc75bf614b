"""The translation of what the panel and the scene say; without Slicer it is the text itself."""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # Without Slicer there is nothing to translate with.

    def _(text: str) -> str:
        return text
