"""The section Train a model: what its buttons do, what a run asks for and what it says."""

from __future__ import annotations

import re
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from ..wording import _
from .control import Control
from .training_folder import TrainingFolder

TABLES = (".csv", ".tsv")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class Choices(Protocol):
    """What the user has chosen: the parameter node, as far as a training needs it."""

    scans: str
    label_maps: str
    training_name: str
    training_hours: float
    skip_bad: bool


class Press(Enum):
    """What a press of Train does."""

    TRAIN = auto()
    STOP = auto()
    """The run saves and ends by itself."""
    KILL = auto()
    """The run has not begun: there is nothing to save."""


class Training:
    """One check or one training at a time."""

    def __init__(self) -> None:
        self.running = False
        self.stopping = False
        self.sentence = ""
        """What the section says; empty: nothing."""
        self.folder: TrainingFolder | None = None
        """Of the training that runs; None while a check runs, or nothing."""
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why no training can start, as the buttons were shown last; empty where one can, or
        runs."""
        return self._reason

    def controls(
        self, chosen: Choices | None, has_module: bool, folder: TrainingFolder | None
    ) -> dict[str, Control]:
        """The buttons by their names in the form.

        ``chosen`` is None while the scene is being closed; ``has_module``: Slicer knows the CLI
        module; ``folder`` is that of the chosen name, see :func:`folder_of`.
        """
        refusal = _refusal(chosen, has_module)
        busy = _("A check or a training is running.") if self.running else ""
        unnamed = "" if folder or chosen is None else _name_refusal(chosen.training_name)
        blocked = refusal or unnamed or busy
        resumable = folder is not None and folder.has_checkpoint
        nothing = "" if resumable else _("There is no stopped training of this name.")
        self._reason = "" if self.running else refusal or unnamed or _taken(folder)
        return {
            "checkButton": Control(
                _("Look at every scan and label map, and say what a training would do."),
                refusal or busy,
            ),
            "trainButton": self._train_button(blocked or _taken(folder)),
            "resumeButton": Control(
                _("Go on with the training of this name, for as many hours in all."),
                blocked or nothing,
            ),
        }

    def _train_button(self, refusal: str) -> Control:
        if self.folder is None:
            return Control(_("Start the training, in the background."), refusal, _("Train"))
        stopping = _("The training is being stopped: it saves first.") if self.stopping else ""
        return Control(_("Stop after this step; it can be resumed."), stopping, _("Stop"))

    def press(self) -> Press:
        """Note a press of Train, and tell what it does."""
        if self.folder is None:
            return Press.TRAIN
        if not self.folder.has_checkpoint:
            return Press.KILL
        self.stopping = True
        return Press.STOP

    def started(self, folder: TrainingFolder | None) -> None:
        """A training has started in this folder, or a check where there is none."""
        self.running, self.stopping = True, False
        self.folder = folder
        self.sentence = _("Starting…")

    def polled(self, waits: bool, look: bool) -> None:
        """The run is going on; ``waits``: for another module to end; ``look``: into its log."""
        if waits:
            self.sentence = _("Waiting for another module to finish…")
        elif self.folder is None:
            self.sentence = _("Checking…")
        elif look and not self.stopping:
            self.sentence = self.folder.describe() or self.sentence

    def ended(self, message: str) -> None:
        """The run is over; ``message``: what went wrong, or what a check has found."""
        folder = self.folder
        self.running = self.stopping = False
        self.folder = None
        self.sentence = message
        if folder is not None and folder.has_model and not message:
            text = _("The model {name} is in the list of models.")
            self.sentence = text.format(name=folder.path.name)


def folder_of(name: str, models: Path) -> TrainingFolder | None:
    """Where the model of a name is made, below the user's models; None where it is no name."""
    return TrainingFolder(models / name) if NAME.fullmatch(name) else None


def is_table(scans: str) -> bool:
    """Whether a data set is named by a table, which lists its label maps too."""
    return Path(scans).suffix.lower() in TABLES


def data_request(chosen: Choices) -> dict[str, object]:
    """The parameters of the CLI module that a check and a training share."""
    if chosen.label_maps and not is_table(chosen.scans):
        data = {"images": chosen.scans, "labels": chosen.label_maps}
    else:
        data = {"data": chosen.scans}
    return {**data, "skipBad": chosen.skip_bad}


def check_request(chosen: Choices, output: Path, report: Path) -> dict[str, object]:
    """The parameters of a check that writes what it found into ``report``."""
    return {**data_request(chosen), "check": True, "output": str(output), "report": str(report)}


def training_request(
    chosen: Choices, folder: TrainingFolder, report: Path, resume: bool
) -> dict[str, object]:
    """The parameters of a training that writes into ``report`` why it failed, if it does."""
    return {
        **data_request(chosen),
        "output": str(folder.path),
        "report": str(report),
        "minutes": 60 * chosen.training_hours,
        "resume": resume,
        "name": folder.path.name,
    }


def _refusal(chosen: Choices | None, has_module: bool) -> str:
    """Why neither a check nor a training can start; empty where they can."""
    if chosen is None:
        return _("The scene is being closed.")
    if not has_module:
        return _("The module MedDiffusionTrain is not loaded: add the folder CLI to the paths.")
    return "" if chosen.scans else _("Choose the folder of the scans, or a table.")


def _name_refusal(name: str) -> str:
    if not name:
        return _("Give the new model a name.")
    return _("A name has small letters, digits, dots and dashes: choose another.")


def _taken(folder: TrainingFolder | None) -> str:
    """Why a new training cannot start in a folder; empty where it can."""
    if folder is not None and folder.has_model:
        return _("There is a model of this name already: choose another name.")
    if folder is not None and folder.has_checkpoint:
        return _("There is a training of this name that was stopped: resume it, or rename.")
    return ""
