"""The panel's words: their translation, and what it advises where the engine only knows why.

The presenters take ``_`` from here, so that they can be used where there is no Slicer.
"""

from __future__ import annotations

from ..compute.errors import UserError

__all__ = ["REMEDIES", "_", "joined", "sentence"]

try:
    from slicer.i18n import tr as _
except ImportError:  # Without Slicer there is nothing to translate with.

    def _(text: str) -> str:
        return text


REMEDIES = {
    "label-unknown": _("say what it is in the table of the section Label map, or leave it out"),
    "label-override": _("choose anew in the table of the section Label map"),
    "output-exists": _("choose another name, or agree to replace it"),
    "out-of-memory": _("close other programs, crop the label map, or choose another device"),
    "device-missing": _("choose Automatic or CPU under Advanced"),
    "no-checkpoint": _("press Train to start one"),
    "holds-run": _("press Resume to go on with it, or choose another name"),
    "resume": _("press Resume to go on"),
    "data-unusable": _("press Check to see every problem, or tick Leave out bad cases"),
}
"""What to do in the panel, by the code of a :class:`UserError`."""


def sentence(error: UserError) -> str:
    """An error as the panel says it."""
    return error.sentence(REMEDIES)


def joined(*sentences: str) -> str:
    """Sentences in a row; the empty ones are left out."""
    return " ".join(filter(None, sentences))
