"""What checks and trainings leave in files, shown: findings, plan, loss curve, montage."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer

from ..compute.errors import UserError
from ..scene.training_curve import TrainingCurve
from ..training.loop.names import MONTAGE_NAME
from .presenters.training_folder import (
    COLUMNS,
    CheckReport,
    TrainingFolder,
    read_check_report,
    read_error,
)
from .wording import _, tip

TABLE_HEIGHT = 160
PICTURE_WIDTH = 370


class Pictures:
    """The loss curve and the montage of a training, as far as they are there."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._curve = TrainingCurve()
        ui.curveButton.connect("clicked(bool)", lambda: self._curve.show())
        self.clear()

    def show(self, folder: TrainingFolder) -> None:
        """Bring both up to what lies in the folder."""
        curves = folder.curves()
        if any(curves.values()):
            title = _("Loss of {name}").format(name=folder.path.name)
            self._curve.update(title, (_("iteration"), _("loss")), curves)
        self._ui.curveButton.setVisible(bool(self._curve.nodes))
        picture = qt.QPixmap(str(folder.stage / MONTAGE_NAME))
        if not picture.isNull():
            scaled = picture.scaledToWidth(PICTURE_WIDTH, qt.Qt.SmoothTransformation)
            self._ui.montageLabel.setPixmap(scaled)
            self._show_montage(True)

    def clear(self) -> None:
        """Show nothing; nothing stays in the scene."""
        self._curve.remove()
        self._ui.curveButton.setVisible(False)
        self._show_montage(False)

    def _show_montage(self, visible: bool) -> None:
        self._ui.montageCaption.setVisible(visible)
        self._ui.montageLabel.setVisible(visible)


class Findings:
    """The table of what a check found, and the plan below it."""

    def __init__(self, ui: Any) -> None:
        self._table = ui.findingsTable
        self._plan = ui.planLabel
        self._folder: Path | None = None
        self._table.setColumnCount(len(COLUMNS))
        self._table.setHorizontalHeaderLabels([_("Case"), _("What was found"), _("What to do")])
        self._table.verticalHeader().setVisible(False)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.setFixedHeight(TABLE_HEIGHT)
        self.clear()

    def new_folder(self) -> Path:
        """A folder for the files of a run; that of the run before is removed."""
        self.cleanup()
        self._folder = Path(tempfile.mkdtemp(prefix="check-", dir=slicer.app.temporaryPath))
        return self._folder / "model"

    @property
    def report(self) -> Path:
        """The file that a check writes what it found into, and a training why it failed."""
        assert self._folder is not None
        return self._folder / "report.json"

    def take_report(self) -> CheckReport | None:
        """Show what the last check found; None where it found no data to look at."""
        report = read_check_report(self.report)
        self.cleanup()
        if report is not None:
            self._show(report)
        return report

    def take_error(self) -> UserError | None:
        """What the last training said of its failure, if it said anything."""
        error = read_error(self.report)
        self.cleanup()
        return error

    def clear(self) -> None:
        self._table.setRowCount(0)
        self._table.setVisible(False)
        self._plan.setVisible(False)

    def cleanup(self) -> None:
        """Remove the files of the last run."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _show(self, report: CheckReport) -> None:
        self._table.setRowCount(len(report.rows))
        for row, cells in enumerate(report.rows):
            for column, cell in enumerate(cells):
                item = qt.QTableWidgetItem(cell.text)
                item.setToolTip(tip(cell.tip))
                self._table.setItem(row, column, item)
        self._table.resizeRowsToContents()
        self._table.setVisible(bool(report.rows))
        self._plan.text = report.plan
        # A layout gives rich text that wraps too little room by itself.
        self._plan.setMinimumHeight(self._plan.heightForWidth(PICTURE_WIDTH))
        self._plan.setVisible(bool(report.plan))
