"""The section For organizers: makes studies and analyses them, each in a process of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import qt
import slicer

from ..bundles.catalog import load_manifests
from ..compute.errors import UserError
from ..studies.protocols import protocol_names, read_protocol
from ..studies.request import check_request
from ..worker.command import Command
from .gui import say, show_controls
from .install import ensure_installed, ensure_small
from .presenters.rating_organizer import AnalysisForm, Organizer, StudyForm, Work
from .wording import _, plain, sentence

POLL_MILLISECONDS = 100


class OrganizerPanel:
    """One work at a time; the session of a reader does not know of it."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._organizer = Organizer()
        self._command: Command | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)
        for name in protocol_names():
            ui.protocolSelector.addItem(plain(read_protocol(name).title), name)
        ui.protocolSelector.currentIndex = ui.protocolSelector.findData("real-or-synthetic")
        ui.organizerSection.connect("contentsCollapsed(bool)", self._on_section)
        for field in (ui.realPath, ui.syntheticPath, ui.makeLabelsPath, ui.studyOutputPath,
                      ui.answeredPath, ui.keyPath, ui.reportPath):  # fmt: skip
            field.connect("currentPathChanged(QString)", self.show)
        ui.readersEdit.connect("textChanged(QString)", self.show)
        ui.makeButton.connect("clicked(bool)", self._on_make)
        ui.analyseButton.connect("clicked(bool)", self._on_analyse)
        ui.organizerCancelButton.connect("clicked(bool)", self._on_cancel)
        ui.showReportButton.connect("clicked(bool)", self._on_show_report)
        self.show()

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return self._command is not None

    def show(self) -> None:
        """Bring the section up to what can be done, and was said."""
        ui, organizer = self._ui, self._organizer
        show_controls(ui, organizer.controls(self._study_form(), self._analysis_form()))
        ui.organizerProgress.setVisible(self.busy)
        ui.organizerCancelButton.setVisible(self.busy)
        if ui.organizerText.plainText != organizer.text:
            ui.organizerText.setPlainText(plain(organizer.text))
        ui.organizerText.setVisible(bool(organizer.text))
        ui.showReportButton.setVisible(bool(organizer.page))
        progress = self._command.progress if self._command is not None else ""
        say(ui.organizerStatus, progress or organizer.sentence)

    def cleanup(self) -> None:
        """End what runs: a study that is half made goes."""
        self._timer.stop()
        self._timer.disconnect("timeout()", self._poll)
        if self._command is not None:
            self._command.close()
            self._command = None

    def _study_form(self) -> StudyForm:
        ui = self._ui
        return StudyForm(
            real=ui.realPath.currentPath,
            synthetic=ui.syntheticPath.currentPath,
            model=ui.makeModelSelector.currentData or "",
            labels=ui.makeLabelsPath.currentPath,
            protocol=ui.protocolSelector.currentData or "",
            readers=ui.readersEdit.text,
            per_arm=ui.perArmSpinBox.value,
            repeats=ui.repeatsSpinBox.value,
            title=ui.titleEdit.text,
            output=ui.studyOutputPath.currentPath,
        )

    def _analysis_form(self) -> AnalysisForm:
        ui = self._ui
        return AnalysisForm(
            ui.answeredPath.currentPath, ui.keyPath.currentPath, ui.reportPath.currentPath
        )

    def _on_section(self, collapsed: bool) -> None:
        """The models are looked for when the section is first opened."""
        selector = self._ui.makeModelSelector
        if not collapsed and selector.count == 0:
            for folder, manifest in load_manifests():
                if not isinstance(manifest, UserError):
                    selector.addItem(plain(manifest.title), str(folder))
        self.show()

    def _on_make(self) -> None:
        form = self._study_form()
        try:
            check_request(form.request())
        except UserError as error:
            self._say(sentence(error))
            return
        if form.synthetic:
            there = ensure_small(["nibabel"], _("A study"), self._say)
        else:
            there = ensure_installed(self._say)
        if there:
            self._start(Work.MAKE, form.arguments(), form)

    def _on_analyse(self) -> None:
        if ensure_small(["scipy"], _("The analysis"), self._say):
            self._start(Work.ANALYSE, self._analysis_form().arguments())

    def _on_cancel(self) -> None:
        if self._command is not None:
            self._command.cancel()

    def _on_show_report(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._organizer.page))

    def _start(self, work: Work, arguments: list[str], form: StudyForm | None = None) -> None:
        python = [shutil.which("PythonSlicer") or sys.executable]
        try:
            self._command = Command(python, arguments, Path(slicer.app.temporaryPath))
        except OSError as error:
            text = _("The process does not start ({reason}).")
            self._say(text.format(reason=error.strerror or error))
            return
        self._organizer.started(work, form)
        self._timer.start()
        self.show()

    def _poll(self) -> None:
        command = self._command
        if command is None or not command.poll():
            self.show()
            return
        self._timer.stop()
        self._command = None
        following = self._organizer.ended(
            command.code or 0, command.results, command.sentences, command.cancelled
        )
        command.close()
        if following is not None:
            self._start(following, self._organizer.check_arguments())
        self.show()

    def _say(self, text: str) -> None:
        self._organizer.sentence = text
        self.show()
        slicer.app.processEvents()
