"""A reader's session of a study: what is shown and asked, what a press does, what is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum, auto

from ...compute.errors import UserError
from ...studies.answer_lines import Answer
from ...studies.answers import AnswerLog, latest
from ...studies.protocols import Phase, Question
from ...studies.study import Case
from ..wording import _, joined, sentence
from .control import Control
from .rating_attention import Attention
from .rating_form import Form, Given
from .rating_walk import Step, go_on_at, steps_of


class Stage(Enum):
    """What the reader has before the eyes."""

    INSTRUCTIONS = auto()
    PART = auto()
    """A few words before the cases of a phase, or those to practise on."""
    CASE = auto()
    FEEDBACK = auto()
    PAUSED = auto()
    FINISHED = auto()


@dataclass(frozen=True)
class Page:
    """What is read where no case is shown; ``button``: what leads on, empty where nothing does."""

    heading: str
    text: str
    button: str


class Rating:
    """One session; the log is open as long as this is, and closed by :meth:`close`.

    What is answered is on the disk before the next case is the current one.
    """

    def __init__(self, log: AnswerLog, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` tells seconds that never go back."""
        self.log = log
        self.study = log.study
        self.stage = Stage.INSTRUCTIONS
        self.sentence = " ".join(log.notes)
        """What went wrong; empty: nothing."""
        self.is_shown = False
        """Whether the views show the case."""
        self._now = now
        self._steps = steps_of(log.study, log.reader, log.session)
        answers = [a for a in latest(log.read()) if a.session == log.session]
        self._recorded = {(a.phase, a.presentation, a.question): a for a in answers}
        self._forms: dict[int, Form] = {}
        self._at = go_on_at(log.study, self._steps, answers, log.reader, log.session)
        self._is_resumed = bool(answers)
        self.attention = Attention(now)
        if self._at == len(self._steps):
            self.stage = Stage.FINISHED

    def close(self) -> None:
        self.log.close()

    @property
    def case(self) -> Case | None:
        """The current case, be it shown yet or not; None where all are done."""
        return self._step.case if self._at < len(self._steps) else None

    @property
    def upcoming(self) -> Case | None:
        """The case after it."""
        following = self._steps[self._at + 1 : self._at + 2]
        return following[0].case if following else None

    @property
    def form(self) -> Form:
        """The questions of the current case."""
        if self._at not in self._forms:
            questions = self._phase.questions
            step = self._step
            places = [(step.phase, step.presentation, q.id) for q in questions]
            known = [self._recorded[p] for p in places if p in self._recorded]
            self._forms[self._at] = Form(questions, [] if step.is_training else known)
        return self._forms[self._at]

    @property
    def progress(self) -> tuple[str, int, int]:
        """Where the reader is: in words, and as the cases done, of how many."""
        step = self._step
        if step.is_training:
            text = _("Case {number} of {count} to practise on")
        else:
            text = _("Case {number} of {count}")
        where = text.format(number=step.position + 1, count=step.count)
        phases = len(self.study.protocol.phases)
        if phases > 1:
            part = _("part {number} of {count}").format(number=step.phase + 1, count=phases)
            where = f"{where}, {part}"
        return where, step.position, step.count

    @property
    def page(self) -> Page:
        """What is read now."""
        protocol = self.study.protocol
        if self.stage is Stage.INSTRUCTIONS:
            heading = _("Welcome back") if self._is_resumed else self.study.title
            return Page(heading, protocol.instructions, _("Continue"))
        if self.stage is Stage.PART:
            return Page(*self._intro(), _("Continue"))
        if self.stage is Stage.FEEDBACK:
            return Page(_("Practice"), self._step.feedback or "", _("Continue"))
        if self.stage is Stage.PAUSED:
            text = _("The clock stands still. The study goes on at the same case, also when Slicer "
                     "is closed meanwhile.")  # fmt: skip
            return Page(_("Paused"), text, _("Continue"))
        text = _("All cases of this session are answered, and your answers are saved in the folder "
                 "of the study. Give the folder back to the organizer.")  # fmt: skip
        return Page(_("Finished, thank you"), text, "")

    def controls(self) -> dict[str, Control]:
        """The buttons of the case by their names in the form."""
        unready = "" if self.is_shown else _("The case is being loaded.")
        missing = "" if self.form.complete else _("Answer every question first.")
        return {
            "nextButton": Control(
                _("Save the answers and show the next case (Enter)"), unready or missing
            ),
            "backButton": Control(
                _("Look at the case before again (Backspace)"), self._back_refusal()
            ),
            "pauseButton": Control(_("Hide the case and stop the clock (Space)")),
        }

    def go_on(self) -> None:
        """Leave the page that is read."""
        if self.stage is Stage.INSTRUCTIONS:
            self.stage = self._first_stage()
        elif self.stage is Stage.FEEDBACK:
            self._move(self._at + 1)
        elif self.stage in (Stage.PART, Stage.PAUSED):
            self.stage = Stage.CASE
        self.sentence = ""

    def shown(self) -> None:
        """The views show the current case."""
        self.is_shown = True
        self.attention.run(True)

    def failed(self, error: UserError) -> None:
        """The current case cannot be shown: it is tried again when the reader goes on."""
        self.pause()
        self.sentence = sentence(error)

    def look(self, visible: bool) -> None:
        """Slicer's window can be seen, or not: then no time passes."""
        self.attention.run(visible and self.is_shown and self.stage is Stage.CASE)

    def pause(self) -> None:
        """Put the case away; what was answered of it is kept until it is shown again."""
        if self.stage is Stage.CASE:
            self.attention.run(False)
            self.stage, self.is_shown = Stage.PAUSED, False

    def confirm(self) -> None:
        """Next: record the answers, and go on; where they cannot be saved the case stays."""
        if self.stage is not Stage.CASE or not self.is_shown or not self.form.complete:
            return
        self.sentence = ""
        if self._step.is_training:
            self.attention.run(False)
            self.stage, self.is_shown = Stage.FEEDBACK, False
            return
        try:
            for question, given in self.form.to_record:
                self._record(question, given)
        except UserError as error:
            self.sentence = sentence(error)
            return
        del self._forms[self._at]
        self._move(self._at + 1)

    def back(self) -> None:
        """Go back to the case before; what was chosen here is kept, but not recorded."""
        if self.stage is Stage.CASE and not self._back_refusal():
            self.sentence = ""
            self._move(self._at - 1)
            self.stage = Stage.CASE

    def _move(self, to: int) -> None:
        self._at, self.is_shown = to, False
        self.attention = Attention(self._now)
        self.stage = Stage.FINISHED if to == len(self._steps) else self._first_stage()

    def _first_stage(self) -> Stage:
        """What comes first at the current step."""
        return Stage.PART if self._intro()[1] else Stage.CASE

    @property
    def _step(self) -> Step:
        return self._steps[self._at]

    @property
    def _phase(self) -> Phase:
        return self.study.protocol.phases[self._step.phase]

    def _intro(self) -> tuple[str, str]:
        """Heading and text before the current step; the text is empty where none is needed."""
        step = self._step
        if step.position > 0:
            return "", ""
        heading = self.study.title
        told = ""
        practised = not step.is_training and self._at > 0 and self._steps[self._at - 1].is_training
        if step.phase > 0:
            phases = len(self.study.protocol.phases)
            heading = _("Part {number} of {count}").format(number=step.phase + 1, count=phases)
            if not practised:
                asked = "\n".join(question.text for question in self._phase.questions)
                told = _("You will see the volumes again, in another order, and be asked:\n{asked}")
                told = told.format(asked=asked)
        if step.is_training:
            text = _("First come {count} cases to practise on. You are told the truth after each, "
                     "and your answers to them are not kept.")  # fmt: skip
            return heading, joined(told, text.format(count=step.count))
        if practised:
            text = _("That was the practice. Now the cases of the study come: {count}.")
            return heading, text.format(count=step.count)
        return heading, told

    def _back_refusal(self) -> str:
        if not self.study.protocol.allow_back:
            return _("In this study there is no way back.")
        if self._step.is_training or self._step.position == 0:
            return _("There is no case before this one to go back to.")
        return ""

    def _record(self, question: Question, given: Given) -> None:
        step = self._step
        place = (step.phase, step.presentation, question.id)
        answer = Answer(
            study=self.study.id,
            reader=self.log.reader,
            session=self.log.session,
            position=step.position,
            presentation=step.presentation,
            case=step.case.id,
            phase=step.phase,
            question=question.id,
            answer=given.answer,
            comment=given.comment,
            seconds=round(self.attention.seconds, 3),
            slices_seen=self.attention.slices_seen,
            window_changes=self.attention.window_changes,
            changed=place in self._recorded,
            time_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.log.add(answer)
        self._recorded[place] = answer
        self.form.recorded[question.id] = given
