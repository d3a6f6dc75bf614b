"""What checks and trainings leave in files, shown: findings, plan, progress, curve, montage."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles.manifest import MANIFEST_NAME

COLUMNS = ("case", "sentence", "remedy")
TABLE_HEIGHT = 160
PICTURE_WIDTH = 370


class TrainingFolder:
    """The folder of a training: its checkpoint, log, pictures, and in the end its model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / "checkpoint.safetensors").is_file()

    @property
    def has_model(self) -> bool:
        return (self.path / MANIFEST_NAME).is_file()

    def ask_to_stop(self) -> None:
        """The training looks for this file after every step."""
        (self.path / "stop").touch()

    def describe(self) -> str:
        """Iteration, loss and time left, by the last line of the log; empty before there is one."""
        try:
            *_before, last = (self.path / "log.jsonl").read_text("utf-8").splitlines()
            line = json.loads(last)
        except (OSError, ValueError):
            return ""
        if "loss" not in line:
            return str(line.get("note", ""))
        minutes = max(0.0, line["seconds_left"] or 0.0) / 60
        left = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        text = _("Iteration {iteration}, loss {loss}, {left} left")
        return text.format(iteration=line["iteration"], loss=f"{line['loss']:.4f}", left=left)

    def show_pictures(self, ui: Any) -> None:
        """The loss curve and the montage, as far as they are there."""
        for name, label in (("loss.png", ui.curveLabel), ("montage.png", ui.montageLabel)):
            picture = qt.QPixmap(str(self.path / name))
            if not picture.isNull():
                label.setPixmap(picture.scaledToWidth(PICTURE_WIDTH, qt.Qt.SmoothTransformation))


class Findings:
    """The table of what a check found, and the plan below it."""

    def __init__(self, ui: Any) -> None:
        self._table = ui.findingsTable
        self._plan = ui.planLabel
        self._folder: Path | None = None
        self.summary = ""
        self._table.setColumnCount(len(COLUMNS))
        self._table.setHorizontalHeaderLabels([_("Case"), _("What was found"), _("What to do")])
        self._table.verticalHeader().setVisible(False)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.setFixedHeight(TABLE_HEIGHT)
        self.clear()

    def new_folder(self) -> Path:
        """A folder for the files of a check; that of the check before is removed."""
        self._remove_folder()
        self._folder = Path(tempfile.mkdtemp(prefix="check-", dir=slicer.app.temporaryPath))
        return self._folder / "model"

    @property
    def report(self) -> Path:
        """The file that a check writes what it found into."""
        assert self._folder is not None
        return self._folder / "report.json"

    def show(self) -> bool:
        """Show what the last check found; false where it found no data to look at."""
        try:
            report = json.loads(self.report.read_text("utf-8"))
        except (OSError, ValueError):
            return False
        finally:
            self._remove_folder()
        findings = report["findings"]
        self._table.setRowCount(len(findings))
        for row, finding in enumerate(findings):
            for column, key in enumerate(COLUMNS):
                item = qt.QTableWidgetItem(finding[key])
                item.setToolTip(finding["file"] or finding[key])
                self._table.setItem(row, column, item)
        self._table.resizeRowsToContents()
        self._table.setVisible(bool(findings))
        self._plan.text = report["plan"]
        self._plan.setVisible(bool(report["plan"]))
        errors = sum(finding["severity"] == "error" for finding in findings)
        good = report["cases"] - len(report["bad_cases"])
        if report["usable"]:
            text = _("{good} of {cases} cases can be trained on.")
        else:
            text = _("{errors} problems stand in the way: see to them, or leave out bad cases.")
        self.summary = text.format(good=good, cases=report["cases"], errors=errors)
        return True

    def clear(self) -> None:
        self._table.setRowCount(0)
        self._table.setVisible(False)
        self._plan.setVisible(False)

    def cleanup(self) -> None:
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
