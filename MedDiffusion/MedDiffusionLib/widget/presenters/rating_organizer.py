"""For organizers: what a study is made with, what an analysis asks for, and what both say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from ...studies.request import Generation, StudyRequest
from ..wording import _
from .control import Control


@dataclass(frozen=True)
class StudyForm:
    """What the organizer has filled in; an empty text, or 0, is nothing chosen."""

    real: str = ""
    synthetic: str = ""
    model: str = ""
    labels: str = ""
    protocol: str = ""
    readers: str = ""
    per_arm: int = 0
    repeats: int = 15
    title: str = ""
    output: str = ""

    def refusal(self) -> str:
        """Why no study can be made of it; empty where one can."""
        if not self.real:
            return _("Choose the folder of the real volumes.")
        if not self.synthetic and not (self.model and self.labels):
            return _("Choose the folder of the synthetic volumes, or label maps for the model.")
        if not self.readers.strip():
            return _("Give the readers' codes.")
        return "" if self.output else _("Choose a new folder for the study.")

    def request(self) -> StudyRequest:
        """The same for the engine, which says what is wrong before anything is read."""
        synthetic = Path(self.synthetic) if self.synthetic else Generation(self.model)
        return StudyRequest(
            output=Path(self.output),
            real=Path(self.real),
            synthetic=synthetic,
            labels=Path(self.labels) if self.labels else None,
            protocol=self.protocol,
            readers=tuple(code.strip() for code in self.readers.split(",")),
            per_arm=self.per_arm or None,
            repeats_percent=self.repeats,
            title=self.title,
        )

    def arguments(self) -> list[str]:
        """The same for the command."""
        asked = {
            "real": self.real, "synthetic": self.synthetic, "labels": self.labels,
            "model": "" if self.synthetic else self.model, "protocol": self.protocol,
            "readers": self.readers, "per-arm": str(self.per_arm or ""),
            "repeats": str(self.repeats), "title": self.title, "output": self.output,
        }  # fmt: skip
        return ["study", "make", *(f"--{name}={value}" for name, value in asked.items() if value)]


@dataclass(frozen=True)
class AnalysisForm:
    """The same for an analysis."""

    study: str = ""
    key: str = ""
    output: str = ""

    def refusal(self) -> str:
        """Why nothing can be analysed; empty where it can."""
        if not self.study:
            return _("Choose the folder of the study.")
        if not self.key:
            return _("Choose the key file: it opens the truth, so let all readers end before.")
        return "" if self.output else _("Choose a new folder for the report.")

    def arguments(self) -> list[str]:
        return ["study", "analyse", f"--key={self.key}", f"--output={self.output}", self.study]


class Work(Enum):
    """What runs."""

    MAKE = auto()
    CHECK = auto()
    """Follows a making by itself."""
    ANALYSE = auto()


class Organizer:
    """One work at a time."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self.sentence = ""
        """What is said in a line; empty: nothing."""
        self.text = ""
        """What was found, in several lines."""
        self.page = ""
        """The report's page."""
        self._form = StudyForm()

    def controls(self, study: StudyForm, analysis: AnalysisForm) -> dict[str, Control]:
        """The buttons by their names in the form."""
        busy = _("Something is being made already.") if self.work else ""
        return {
            "makeButton": Control(
                _("Make the study and its key, then prove that it is blind."),
                busy or study.refusal(),
            ),
            "analyseButton": Control(
                _("Open the key, and write the report."), busy or analysis.refusal()
            ),
        }

    def started(self, work: Work, form: StudyForm | None = None) -> None:
        """A work has begun."""
        self.work, self.page = work, ""
        if work is not Work.CHECK:
            self.text = ""
        self._form = form or self._form
        said = {
            Work.MAKE: _("Making the study…"),
            Work.CHECK: _("Checking that the study is blind…"),
            Work.ANALYSE: _("Analysing…"),
        }
        self.sentence = said[work]

    def check_arguments(self) -> list[str]:
        """The check of the study that was made."""
        request = self._form.request()
        return ["study", "check", f"--key={request.key_path}", str(request.output)]

    def ended(
        self, code: int, results: list[str], sentences: list[str], cancelled: bool
    ) -> Work | None:
        """A work has ended; returns what follows it."""
        work, self.work = self.work, None
        failed = code != 0 and not (work is Work.CHECK and results)
        if cancelled:
            self.sentence = _("Cancelled.")
        elif failed:
            self.sentence = sentences[-1] if sentences else _("It ended without a word.")
        elif work is Work.MAKE:
            self.text = "\n".join(sentences)
            return Work.CHECK
        elif work is Work.CHECK:
            self.text = "\n".join([self.text, "", *results])
            self.sentence = _("The study was made.") if code == 0 else _("The study is not blind.")
        else:
            self.text = "\n".join(sentences)
            self.page = results[-1] if results else ""
            self.sentence = _("The report was written.")
        return None
