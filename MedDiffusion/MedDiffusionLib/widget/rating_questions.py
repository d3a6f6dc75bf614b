"""The questions of a case as widgets: what can be answered, what was, and by which keys."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import qt

from ..studies.answer_lines import MOST_COMMENT
from ..studies.protocols import Question
from .gui import plain_label, silenced
from .presenters.rating_form import CANNOT_JUDGE_KEY, Form
from .wording import _, plain

LINE = 46
"""Letters of an answer in a line."""


class Questions:
    """Shows one form after the other; ``on_change`` is called when the reader has answered."""

    def __init__(self, area: Any, on_change: Callable[[], None]) -> None:
        self._area = area
        self._on_change = on_change
        self._form: Form | None = None
        self._asked: list[_Asked] = []

    def show(self, form: Form) -> None:
        """Bring the widgets up to a form; they are made anew where it asks otherwise."""
        if self._form is None or self._form.questions != form.questions:
            self.clear()
            for question in form.questions:
                self._asked.append(_Asked(self._area, question, self))
        self._form = form
        for number, asked in enumerate(self._asked):
            is_current = number == form.current and len(self._asked) > 1
            asked.show(form, is_current)

    def clear(self) -> None:
        """Take all of them away."""
        for asked in self._asked:
            asked.box.setParent(None)
            asked.box.deleteLater()
        self._asked, self._form = [], None

    def write_comment(self) -> None:
        """Put the cursor into the comment on the current question, where it takes one."""
        if self._form is not None:
            comment = self._asked[self._form.current].comment
            if comment is not None:
                comment.activateWindow()  # The panel may be a window of its own.
                comment.setFocus()

    def choose(self, question: str, answer: int | None) -> None:
        """A button was pressed; no answer: that it cannot be judged."""
        if self._form is None:
            return
        if answer is None:
            self._form.choose_cannot_judge(question)
        else:
            self._form.choose(question, answer)
        self._on_change()

    def comment(self, question: str, text: str) -> None:
        if self._form is not None:
            self._form.comment(question, text)


class _Asked:
    """One question."""

    def __init__(self, area: Any, question: Question, owner: Questions) -> None:
        self._question = question
        self.box = qt.QFrame()
        column = qt.QVBoxLayout(self.box)
        column.setContentsMargins(0, 4, 0, 4)
        column.setSpacing(2)
        self._title = _wrapped(question.text)
        self._title.styleSheet = "font-weight: bold"
        column.addWidget(self._title)
        if question.help:
            column.addWidget(_wrapped(question.help))
        self._group = qt.QButtonGroup(self.box)
        self._buttons: dict[int | None, Any] = {}
        for option in question.options:
            self._add(column, option.value, option.key, option.text, owner)
        if question.cannot_judge:
            self._add(column, None, CANNOT_JUDGE_KEY, _("Cannot judge"), owner)
        self.comment: Any = None
        if question.comment:
            self.comment = qt.QLineEdit()
            self.comment.setMaxLength(MOST_COMMENT)
            self.comment.setPlaceholderText(_("Comment, where you have one (key: /)"))
            self.comment.connect(
                "textChanged(QString)", lambda text: owner.comment(question.id, text)
            )
            # Enter ends the comment, and does not yet go to the next case.
            self.comment.connect("returnPressed()", lambda: self.comment.clearFocus())
            column.addWidget(self.comment)
        area.addWidget(self.box)

    def show(self, form: Form, is_current: bool) -> None:
        given = form.given[self._question.id]
        mark = "▸ " if is_current else ""
        self._title.text = plain(mark + self._question.text)
        # A group lets no button go but for another.
        self._group.setExclusive(False)
        for value, button in self._buttons.items():
            chosen = given.cannot_judge if value is None else given.answer == value
            if button.checked != chosen:
                with silenced(button):
                    button.setChecked(chosen)
        self._group.setExclusive(True)
        if self.comment is not None and self.comment.text != given.comment:
            with silenced(self.comment):
                self.comment.text = given.comment

    def _add(self, column: Any, value: int | None, key: str, text: str, owner: Questions) -> None:
        button = qt.QRadioButton()
        button.text = _button_text(key, text)
        button.toolTip = _("Key: {key}").format(key=key)
        # Keys come from the shortcuts alone: an arrow must not change an answer.
        button.setFocusPolicy(qt.Qt.NoFocus)
        button.connect("clicked(bool)", lambda: owner.choose(self._question.id, value))
        self._group.addButton(button)
        self._buttons[value] = button
        column.addWidget(button)


def _button_text(key: str, text: str) -> str:
    """The key and the answer in lines that fit the panel: radio buttons do not break lines."""
    first, *others = textwrap.wrap(plain(text), LINE) or [""]
    lines = [f"{key}   {first}", *(f"     {line}" for line in others)]
    return "\n".join(lines).replace("&", "&&")


def _wrapped(text: str) -> Any:
    label = plain_label(text)
    label.setWordWrap(True)
    return label
