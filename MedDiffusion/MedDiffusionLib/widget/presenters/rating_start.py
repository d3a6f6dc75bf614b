"""The first page: which study, who the reader is, and whether the scene is empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...compute.errors import UserError
from ...studies.answers import AnswerLog
from ...studies.study import Study, read_study
from ..wording import _, sentence
from .control import Control
from .rating import Rating

_NAMED = 3


class Start:
    """Nothing is written before a session is opened."""

    def __init__(self) -> None:
        self.study: Study | None = None
        self.sentence = ""
        """What the study is, or why it cannot be used."""

    def choose(self, folder: str) -> None:
        """Look at the study in a folder; an empty name is none."""
        self.study, self.sentence = None, ""
        if not folder:
            return
        try:
            self.study = read_study(Path(folder))
        except UserError as error:
            self.sentence = sentence(error)

    def button(self, reader: str) -> Control:
        """The button that opens the session."""
        tip = _("Go to the instructions, or on with what was begun.")
        refusal = ""
        if self.study is None:
            refusal = self.sentence or _("Choose the folder of the study.")
        elif not reader.strip():
            refusal = _("Give the code that the organizer gave you.")
        return Control(tip, refusal)

    def open(self, reader: str, session: int) -> Rating | None:
        """Begin a session, or go on with it; None, and a sentence, where that cannot be."""
        assert self.study is not None
        self.sentence = ""
        try:
            # As it is now: somebody may have changed it since it was chosen.
            study = read_study(self.study.folder)
            log = AnswerLog(study, reader.strip(), session)
        except UserError as error:
            self.sentence = sentence(error)
            return None
        try:
            return Rating(log)
        except BaseException:
            log.close()
            raise


def other_data_question(names: Sequence[str]) -> str:
    """What is asked where a scene holds other data than the study's."""
    named = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    text = _(
        "The scene holds other data ({names}). Beside the cases of a study it could tell what they "
        "are, so the study needs an empty scene. Close the scene now? What is not saved in it is "
        "lost."
    )
    return text.format(names=named)


def scene_kept() -> str:
    """What is said when the user keeps the scene."""
    return _("The study needs an empty scene: save what you need and close it, then try again.")
