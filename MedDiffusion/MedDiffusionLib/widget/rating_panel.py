"""The panel of Realism Rating: a page after the other, from choosing the study to the thanks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.util import VTKObservationMixin

from ..compute.errors import UserError
from ..scene.rating_volumes import other_data
from ..studies.answers import write_csv
from .gui import agrees, plain_labels, say, show_control, show_controls, silenced
from .presenters.rating import Rating, Stage
from .presenters.rating_form import keys
from .presenters.rating_start import Start, other_data_question, scene_kept
from .rating_keys import Keys
from .rating_organizer import OrganizerPanel
from .rating_questions import Questions
from .rating_screen import Screen, is_slicer_seen
from .wording import _, sentence

LAST_STUDY = "MedDiffusion/RealismRating/Study"
"""Where Slicer's settings keep the folder that was opened last."""
TICK_MILLISECONDS = 15
LOOK_TICKS = 15
"""Ticks after which it is looked whether Slicer can be seen."""


class RatingPanel(VTKObservationMixin):
    """Binds the form to a reader's session; it is the only one that shows cases in the views."""

    def __init__(self, ui: Any) -> None:
        VTKObservationMixin.__init__(self)
        plain_labels(ui)
        self._ui = ui
        self._start = Start()
        self.rating: Rating | None = None
        """The session that is open."""
        self.screen = Screen()
        self._questions = Questions(ui.questionsBox.layout(), self._show_answers)
        self._keys = Keys(ui.sessionBox)
        self._ticks = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MILLISECONDS)
        self._timer.connect("timeout()", self._on_tick)
        self.organizer = OrganizerPanel(ui)
        self._connect()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self._on_other_scene)
        self.addObserver(scene, scene.StartImportEvent, self._on_other_scene)
        ui.studyPath.currentPath = slicer.app.userSettings().value(LAST_STUDY) or ""
        self.show()

    def enter(self) -> None:
        self.show()

    def exit(self) -> None:
        """The module is left: the case is put away until the reader comes back."""
        self._put_away()
        self.show()

    def cleanup(self) -> None:
        """Leave nothing in the scene, no observer, thread, timer, shortcut or open log behind."""
        self._close_study()
        self._keys.close()
        self.organizer.cleanup()
        self._timer.disconnect("timeout()", self._on_tick)
        self.removeObservers()

    def show(self) -> None:
        """Bring the form up to where the reader is."""
        ui, rating = self._ui, self.rating
        ui.startBox.setVisible(rating is None)
        ui.sessionBox.setVisible(rating is not None)
        if rating is None:
            self._keys.set({})
            self._show_start()
            return
        is_case = rating.stage is Stage.CASE
        who = _("{study}: reader {reader}, session {session}")
        say(ui.whoLabel, who.format(study=rating.study.title, reader=rating.log.reader,
                                    session=rating.log.session))  # fmt: skip
        ui.caseBox.setVisible(is_case)
        ui.pageBox.setVisible(not is_case)
        ui.tableButton.setVisible(rating.stage is Stage.FINISHED)
        if is_case:
            self._show_case()
        else:
            self._questions.clear()
            page = rating.page
            say(ui.pageHeading, page.heading)
            say(ui.pageText, page.text)
            ui.continueButton.setVisible(bool(page.button))
            ui.continueButton.text = page.button
        say(ui.sessionStatus, rating.sentence)
        self._set_keys()

    # ---- pages

    def _show_start(self) -> None:
        ui, study = self._ui, self._start.study
        reader = ui.readerEdit.text
        show_control(ui.openButton, self._start.button(reader))
        say(ui.studyTitle, study.title if study else "")
        say(ui.startStatus, self._start.sentence)
        # Who has chosen a study is a reader, and its words would tell what is not to be told.
        ui.organizerSection.setVisible(not ui.studyPath.currentPath or self.organizer.busy)

    def _show_case(self) -> None:
        ui, rating = self._ui, self.rating
        assert rating is not None
        where, done, count = rating.progress
        say(ui.progressLabel, where)
        ui.progressBar.maximum = count
        ui.progressBar.value = done
        ui.backButton.setVisible(rating.study.protocol.allow_back)
        self._show_answers()

    def _show_answers(self) -> None:
        rating = self.rating
        if rating is not None and rating.stage is Stage.CASE:
            self._questions.show(rating.form)
            show_controls(self._ui, rating.controls())

    def _connect(self) -> None:
        ui = self._ui
        ui.studyPath.connect("currentPathChanged(QString)", self._on_study)
        ui.studyFolderButton.connect("clicked(bool)", self._on_folder)
        ui.readerEdit.connect("textChanged(QString)", self._show_start)
        ui.readerEdit.connect("returnPressed()", self._on_open)
        for button, react in (
            (ui.openButton, self._on_open),
            (ui.continueButton, self._on_continue),
            (ui.nextButton, self._on_next),
            (ui.backButton, self._on_back),
            (ui.pauseButton, self._on_pause),
            (ui.tableButton, self._on_table),
            (ui.closeButton, self._on_close),
        ):
            # Keys come from the shortcuts alone, so that none counts twice.
            button.setFocusPolicy(qt.Qt.NoFocus)
            button.connect("clicked(bool)", react)

    def _set_keys(self) -> None:
        rating = self.rating
        assert rating is not None
        if rating.stage is Stage.CASE:
            actions = {key: self._key(key) for key in keys(rating.form.questions)}
            actions |= {
                "Return": self._on_next, "Enter": self._on_next, "Backspace": self._on_back,
                "Space": self._on_pause, "Tab": self._on_next_question,
                "/": self._questions.write_comment,
            }  # fmt: skip
        else:
            going_on = ("Return", "Enter", "Space")
            actions = dict.fromkeys(going_on, self._on_continue)
        self._keys.set(actions)

    # ---- what the reader does

    def _on_study(self, path: str) -> None:
        self._start.choose(path)
        self._show_start()

    def _on_folder(self) -> None:
        title, last = _("Choose the folder of the study"), self._ui.studyPath.currentPath
        path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, last)
        if path:
            self._ui.studyPath.currentPath = path

    def _on_open(self) -> None:
        ui = self._ui
        if self.rating is not None or not ui.openButton.enabled or not self._make_room():
            return
        self.rating = self._start.open(ui.readerEdit.text, ui.sessionSpinBox.value)
        if self.rating is not None:
            folder = str(self.rating.study.folder)
            slicer.app.userSettings().setValue(LAST_STUDY, folder)
            self.screen.open(self.rating)
            self._timer.start()
            self._keys.take_over()
        self.show()

    def _on_continue(self) -> None:
        rating = self.rating
        if rating is None or rating.stage in (Stage.CASE, Stage.FINISHED):
            return
        if rating.stage is Stage.PAUSED and not self._make_room():
            rating.sentence = scene_kept()
        else:
            rating.go_on()
        self._after_a_move()

    def _on_next(self) -> None:
        if self.rating is not None:
            self.rating.confirm()
            self._after_a_move()

    def _on_back(self) -> None:
        if self.rating is not None:
            self.rating.back()
            self._after_a_move()

    def _on_pause(self) -> None:
        if self.rating is not None:
            self.rating.pause()
            self._after_a_move()

    def _on_next_question(self) -> None:
        if self.rating is not None:
            self.rating.form.next_question()
            self._show_answers()

    def _key(self, key: str) -> Any:
        def press() -> None:
            if self.rating is not None and self.rating.stage is Stage.CASE:
                self.rating.form.press(key)
                self._show_answers()

        return press

    def _on_table(self) -> None:
        """A copy of the reader's own answers, as a table."""
        rating = self.rating
        title, kinds = _("Save my answers as a table"), _("Tables (*.csv)")
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, "", kinds)
        if rating is None or not path:
            return
        try:
            write_csv(rating.study, Path(path), rating.log.reader)
            rating.sentence = _("The table was saved.")
        except UserError as error:
            rating.sentence = sentence(error)
        self.show()

    def _on_close(self) -> None:
        self._close_study()
        self.show()

    def _after_a_move(self) -> None:
        self.screen.follow()
        self.show()
        self._keys.take_over()

    def _on_tick(self) -> None:
        rating = self.rating
        if rating is None:
            return
        if self.screen.turn():
            self.show()
        self._ticks += 1
        if self._ticks % LOOK_TICKS == 0:
            rating.look(is_slicer_seen())

    # ---- putting away

    def _make_room(self) -> bool:
        """Whether the scene holds nothing else, maybe after the user let it be closed."""
        names = other_data()
        if not names:
            return True
        if not agrees(other_data_question(names)):
            self._start.sentence = scene_kept()
            self._show_start()
            return False
        slicer.mrmlScene.Clear(0)
        return True

    def _put_away(self) -> None:
        if self.rating is not None:
            self.rating.pause()
        self.screen.put_away()

    def _close_study(self) -> None:
        self._put_away()
        self._timer.stop()
        self.screen.close()
        if self.rating is not None:
            self.rating.close()
            self.rating = None
        with silenced(self._ui.readerEdit):
            self._ui.readerEdit.text = ""

    def _on_start_close(self, _caller: Any, _event: Any) -> None:
        if self.rating is not None:
            self.rating.pause()
        self.screen.blank()

    def _on_other_scene(self, _caller: Any, _event: Any) -> None:
        """The scene was closed, or another comes into it."""
        self._put_away()
        self.show()
