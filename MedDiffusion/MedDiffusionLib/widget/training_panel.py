"""The section Train a model: check a data set, train in the background, watch, stop, resume."""

from __future__ import annotations

import re
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles.installing import models_folder
from ..compute.errors import UserError
from ..scene.training_run import TrainingRun, has_training_module
from .gui import allow, say, silenced
from .install import cost, install_missing, missing
from .model_panel import ModelPanel
from .training_results import Findings, TrainingFolder

POLL_MILLISECONDS = 200
LOOK_POLLS = 10
"""The run's folder is looked at every so many polls."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
PROGRESS_STEPS = 1000


class TrainingPanel:
    """Runs one check or training at a time. The training goes on when the panel is closed."""

    def __init__(self, ui: Any, models: ModelPanel) -> None:
        self._ui = ui
        self._models = models
        self._parameters: Any = None
        self._run: TrainingRun | None = None
        self._training: TrainingFolder | None = None
        self._stopping = False
        self._polls = 0
        self._findings = Findings(ui)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)
        ui.scansPath.connect("currentPathChanged(QString)", self._on_scans)
        ui.labelMapsPath.connect("currentPathChanged(QString)", self._on_label_maps)
        ui.checkButton.connect("clicked(bool)", self._on_check)
        ui.trainButton.connect("clicked(bool)", self._on_train)
        ui.resumeButton.connect("clicked(bool)", lambda: self._train(resume=True))
        ui.trainingProgressBar.setRange(0, PROGRESS_STEPS)
        ui.trainingProgressBar.setVisible(False)
        say(ui.trainingStatus, "")

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
        refusal = self._refusal()
        busy = _("A check or a training is running.") if self.busy else ""
        allow(
            ui.checkButton,
            _("Look at every scan and label map, and say what a training would do."),
            refusal or busy,
        )
        folder = self._folder()
        named = refusal or ("" if folder else self._name_refusal())
        resumable = folder is not None and folder.has_checkpoint
        taken = _("There is a model of this name already: choose another name.")
        half = _("There is a training of this name that was stopped: resume it, or rename.")
        finished = folder is not None and folder.has_model
        if self._training is not None:
            stopping = _("The training is being stopped: it saves first.") if self._stopping else ""
            ui.trainButton.text = _("Stop")
            allow(ui.trainButton, _("Stop after this step; it can be resumed."), stopping)
        else:
            ui.trainButton.text = _("Train")
            reason = taken if finished else half if resumable else ""
            allow(
                ui.trainButton, _("Start the training, in the background."), named or busy or reason
            )
        nothing = _("There is no stopped training of this name.")
        allow(
            ui.resumeButton,
            _("Go on with the training of this name, for as many hours in all."),
            named or busy or ("" if resumable else nothing),
        )

    def on_end_close(self) -> None:
        """The scene was closed: what runs goes on."""
        if self._run is not None:
            self._run.stay()

    def cleanup(self) -> None:
        """Let go of what runs: a training goes on, and can be stopped by its stop file."""
        self._timer.stop()
        self._timer.disconnect("timeout()", self._poll)
        if self._run is not None and self._training is None:
            self._run.cancel()
        self._run = None
        self._findings.cleanup()
        self._parameters = None

    def _refusal(self) -> str:
        """Why neither a check nor a training can start; empty where they can."""
        if self._parameters is None:
            return _("The scene is being closed.")
        if not has_training_module():
            return _("The module MedDiffusionTrain is not loaded: add the folder CLI to the paths.")
        if not self._parameters.scans:
            return _("Choose the folder of the scans.")
        return ""

    def _name_refusal(self) -> str:
        if not self._parameters.training_name:
            return _("Give the new model a name.")
        return _("A name has small letters, digits, dots and dashes: choose another.")

    def _folder(self) -> TrainingFolder | None:
        """Where the model of the chosen name is made; None where the name is none."""
        name = self._parameters.training_name if self._parameters else ""
        try:
            return TrainingFolder(models_folder() / name) if NAME.fullmatch(name) else None
        except UserError:
            return None

    def _on_scans(self, path: str) -> None:
        if self._parameters is not None:
            self._parameters.scans = path

    def _on_label_maps(self, path: str) -> None:
        if self._parameters is not None:
            self._parameters.label_maps = path

    def _request(self) -> dict[str, Any]:
        """The parameters of the CLI module that a check and a training share."""
        chosen = self._parameters
        if chosen.label_maps:
            data = {"images": chosen.scans, "labels": chosen.label_maps}
        else:
            data = {"data": chosen.scans}
        return {**data, "skipBad": chosen.skip_bad}

    def _on_check(self) -> None:
        if self._installed():
            folder = self._findings.new_folder()
            told = {"check": True, "output": str(folder), "report": str(self._findings.report)}
            self._start({**self._request(), **told})

    def _on_train(self) -> None:
        if self._training is None or self._run is None:
            self._train(resume=False)
        elif self._training.has_checkpoint:
            self._stopping = True
            self._training.ask_to_stop()
            self.show()
        else:
            self._run.cancel()  # It has not begun: there is nothing to save.

    def _train(self, resume: bool) -> None:
        folder = self._folder()
        if folder is None or not self._installed():
            return
        self._training = folder
        self._stopping = False
        self._findings.clear()
        told = {
            "output": str(folder.path),
            "minutes": 60 * self._parameters.training_hours,
            "resume": resume,
            "name": folder.path.name,
        }
        self._start({**self._request(), **told})

    def _installed(self) -> bool:
        if missing():
            self._say(cost())
            slicer.app.processEvents()
            if problem := install_missing():
                self._say(problem)
                return False
        return True

    def _start(self, parameters: dict[str, Any]) -> None:
        self._ui.trainingProgressBar.value = 0
        self._ui.trainingProgressBar.setVisible(True)
        self._say(_("Starting…"))
        self._run = TrainingRun(parameters)
        self._polls = 0
        self._timer.start()
        self.show()

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        if run.poll():
            self._timer.stop()
            self._ui.trainingProgressBar.setVisible(False)
            self._run = None
            (self._on_checked if self._training is None else self._on_trained)(run.message)
            return
        self._ui.trainingProgressBar.value = round(run.progress * PROGRESS_STEPS)
        if run.waits:
            self._say(_("Waiting for another module to finish…"))
        elif self._training is None:
            self._say(_("Checking…"))
        elif self._polls % LOOK_POLLS == 0:
            self._look()
        self._polls += 1

    def _look(self) -> None:
        """Show what the training says of itself in its folder."""
        if self._training is not None:
            if self._stopping:
                self._training.ask_to_stop()  # Again: a run that begins clears old requests.
            self._training.show_pictures(self._ui)
            if (said := self._training.describe()) and not self._stopping:
                self._say(said)

    def _on_checked(self, sentence: str) -> None:
        self._say(self._findings.summary if self._findings.show() else sentence)
        self.show()

    def _on_trained(self, sentence: str) -> None:
        folder = self._training
        self._stopping = False
        self._look()
        self._training = None
        if folder is not None and folder.has_model and not sentence:
            text = _("The model {name} is in the list of models.")
            self._say(text.format(name=folder.path.name))
        else:
            self._say(sentence)
        self._models.refresh()
        self.show()

    def _say(self, sentence: str) -> None:
        say(self._ui.trainingStatus, sentence)
