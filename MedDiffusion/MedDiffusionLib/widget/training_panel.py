"""The section Train a model: check a data set, train in the background, watch, stop, resume."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..bundles.installing import models_folder
from ..compute.errors import UserError
from ..scene.training_run import TrainingRun, has_training_module
from .gui import say, show_controls, silenced
from .install import ensure_installed
from .model_panel import ModelPanel
from .presenters.training import Press, Training, check_request, folder_of, training_request
from .presenters.training_folder import TrainingFolder
from .training_findings import Findings, Pictures
from .wording import _, sentence

POLL_MILLISECONDS = 200
LOOK_POLLS = 10
"""The run's folder is looked at every so many polls."""
PROGRESS_STEPS = 1000


class TrainingPanel:
    """Runs one check or training at a time. The training goes on when the panel is closed."""

    def __init__(self, ui: Any, models: ModelPanel) -> None:
        self._ui = ui
        self._models = models
        self._parameters: Any = None
        self._run: TrainingRun | None = None
        self._training = Training()
        self._polls = 0
        self._findings = Findings(ui)
        self._pictures = Pictures(ui)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)
        ui.scansPath.connect("currentPathChanged(QString)", self._on_scans)
        ui.labelMapsPath.connect("currentPathChanged(QString)", self._on_label_maps)
        ui.scansFolderButton.connect("clicked(bool)", self._on_folder)
        ui.scansTableButton.connect("clicked(bool)", self._on_table)
        ui.checkButton.connect("clicked(bool)", self._on_check)
        ui.trainButton.connect("clicked(bool)", self._on_train)
        ui.resumeButton.connect("clicked(bool)", lambda: self._train(resume=True))
        ui.trainingProgressBar.setRange(0, PROGRESS_STEPS)
        self._show_progress()

    @property
    def busy(self) -> bool:
        return self._run is not None

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        self.show()

    def show(self) -> None:
        """Bring the section up to the parameter node and to what runs."""
        chosen, ui = self._parameters, self._ui
        for field, text in (
            (ui.scansPath, chosen.scans if chosen else ""),
            (ui.labelMapsPath, chosen.label_maps if chosen else ""),
        ):
            if field.currentPath != text:
                with silenced(field):
                    field.currentPath = text
        controls = self._training.controls(chosen, has_training_module(), self._folder())
        show_controls(ui, controls)
        say(ui.trainingReason, self._training.reason)

    def on_end_close(self) -> None:
        """The scene was closed: what runs goes on."""
        if self._run is not None:
            self._run.stay()

    def cleanup(self) -> None:
        """Let go of what runs: a training goes on, and can be stopped by its stop file."""
        self._timer.stop()
        self._timer.disconnect("timeout()", self._poll)
        if self._run is not None and self._training.folder is None:
            self._run.cancel()
        self._run = None
        self._findings.cleanup()
        self._pictures.clear()
        self._parameters = None

    def _folder(self) -> TrainingFolder | None:
        """Where the model of the chosen name is made; None where the name is none."""
        try:
            name = self._parameters.training_name if self._parameters else ""
            return folder_of(name, models_folder())
        except UserError:
            return None

    def _on_scans(self, path: str) -> None:
        if self._parameters is not None:
            self._parameters.scans = path

    def _on_label_maps(self, path: str) -> None:
        if self._parameters is not None:
            self._parameters.label_maps = path

    def _on_folder(self) -> None:
        title = _("Choose the folder of the scans")
        self._on_chosen(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title))

    def _on_table(self) -> None:
        title, kinds = _("Choose a table of scans and label maps"), _("Tables (*.csv *.tsv)")
        window = slicer.util.mainWindow()
        self._on_chosen(qt.QFileDialog.getOpenFileName(window, title, "", kinds))

    def _on_chosen(self, path: str) -> None:
        if path:
            self._ui.scansPath.currentPath = path

    def _on_check(self) -> None:
        if ensure_installed(self._say):
            output = self._findings.new_folder()
            request = check_request(self._parameters, output, self._findings.report)
            self._start(request, None)

    def _on_train(self) -> None:
        press, folder = self._training.press(), self._training.folder
        if press is Press.TRAIN:
            self._train(resume=False)
        elif press is Press.STOP and folder is not None:
            folder.ask_to_stop()
            self.show()
        elif self._run is not None:
            self._run.cancel()

    def _train(self, resume: bool) -> None:
        folder = self._folder()
        if folder is not None and ensure_installed(self._say):
            self._findings.clear()
            self._pictures.clear()
            self._findings.new_folder()
            report = self._findings.report
            self._start(training_request(self._parameters, folder, report, resume), folder)

    def _start(self, request: dict[str, object], folder: TrainingFolder | None) -> None:
        self._training.started(folder)
        self._run = TrainingRun(request)
        self._polls = 0
        self._timer.start()
        self._show_progress()
        self.show()

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        if run.poll():
            self._on_ended(run.message)
            return
        look = self._polls % LOOK_POLLS == 0
        self._training.polled(run.waits, look)
        folder = self._training.folder
        if look and folder is not None and not run.waits:
            if self._training.stopping:
                folder.ask_to_stop()  # Again: a run that begins clears old requests.
            self._pictures.show(folder)
        self._polls += 1
        self._show_progress()

    def _on_ended(self, message: str) -> None:
        folder = self._training.folder
        self._timer.stop()
        self._run = None
        if folder is None:
            report = self._findings.take_report()
            self._training.ended(report.summary if report else message)
        else:
            self._pictures.show(folder)
            error = self._findings.take_error()
            self._training.ended(sentence(error) if error else message)
            self._models.refresh()
        self._show_progress()
        self.show()

    def _say(self, text: str) -> None:
        self._training.sentence = text
        self._show_progress()

    def _show_progress(self) -> None:
        bar = self._ui.trainingProgressBar
        bar.setVisible(self.busy)
        bar.value = round(self._run.progress * PROGRESS_STEPS) if self._run else 0
        say(self._ui.trainingStatus, self._training.sentence)
