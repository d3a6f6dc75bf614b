"""The panel's words: their translation, and what it advises where the engine only knows why.

The presenters take ``_`` from here, so that they can be used where there is no Slicer.
"""

from __future__ import annotations

from html import escape

from ..compute.errors import UserError
from ..compute.parsing import printable

__all__ = ["PROBLEMS", "REMEDIES", "_", "joined", "plain", "rich", "sentence", "tip"]

try:
    from slicer.i18n import tr as _
except ImportError:  # Without Slicer there is nothing to translate with.

    def _(text: str) -> str:
        return text


PROBLEMS = {
    "packages-broken": _("PyTorch, or another package that synthesis needs, cannot be loaded"),
    "worker-answer": _("The synthesis process answered what was not understood"),
    "worker-ended": _("The synthesis process ended unexpectedly"),
    "worker-late": _("The synthesis process was not ready in time"),
    "worker-memory": _(
        "The synthesis process was ended by the system, most likely for lack of memory"
    ),
    "worker-start": _("The synthesis process does not start"),
    "worker-updated": _("MedDiffusion was updated while Slicer ran"),
}
"""What is wrong, by the code of a :class:`UserError`: the same words, to be translated."""
REMEDIES = {
    "packages-broken": _("restart Slicer, then press Reinstall PyTorch… under Advanced"),
    "worker-answer": _("it was ended, try again"),
    "worker-ended": _("try again"),
    "worker-late": _("restart Slicer and try again"),
    "worker-memory": _("close other programs or crop the label map"),
    "worker-start": _("try again"),
    "worker-updated": _("restart Slicer"),
    "label-unknown": _("say what it is in the table of the section Label map, or leave it out"),
    "label-override": _("choose anew in the table of the section Label map"),
    "output-exists": _("choose another name, or agree to replace it"),
    "out-of-memory": _("close other programs, crop the label map, or choose another device"),
    "too-much": _("crop the label map, choose Fast as Quality, or make fewer volumes at once"),
    "device-missing": _("choose Automatic or CPU under Advanced"),
    "no-checkpoint": _("press Train to start one"),
    "holds-run": _("press Resume to go on with it, or choose another name"),
    "resume": _("press Resume to go on"),
    "data-unusable": _("press Check to see every problem, or tick Leave out bad cases"),
}
"""What to do in the panel, by the code of a :class:`UserError`."""


def sentence(error: UserError) -> str:
    """An error as the panel says it."""
    return plain(error.sentence(REMEDIES, PROBLEMS))


def plain(text: str) -> str:
    """A text that may come from a file, for a place that shows it as it is: the lines stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def rich(text: str) -> str:
    """The same for a place that shows rich text."""
    return escape(plain(text)).replace("\n", "<br>")


def tip(text: str) -> str:
    """The same for a tooltip or message box, where Qt guesses which of both it is."""
    return f"<qt>{rich(text)}</qt>" if {"<", "&"} & set(text) else plain(text)


def joined(*sentences: str) -> str:
    """Sentences in a row; the empty ones are left out."""
    return " ".join(filter(None, sentences))
