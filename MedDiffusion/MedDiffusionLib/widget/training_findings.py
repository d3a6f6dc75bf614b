"""What checks and trainings leave in files, shown: findings, plan, curve, montage."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer

from ..training.loop.names import CURVE_NAME, MONTAGE_NAME
from .presenters.training_folder import COLUMNS, CheckReport, read_check_report
from .wording import _

TABLE_HEIGHT = 160
PICTURE_WIDTH = 370


def show_pictures(ui: Any, folder: Path) -> None:
    """The loss curve and the montage of a training, as far as they are there."""
    for name, label in ((CURVE_NAME, ui.curveLabel), (MONTAGE_NAME, ui.montageLabel)):
        picture = qt.QPixmap(str(folder / name))
        if not picture.isNull():
            label.setPixmap(picture.scaledToWidth(PICTURE_WIDTH, qt.Qt.SmoothTransformation))


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
        """A folder for the files of a check; that of the check before is removed."""
        self.cleanup()
        self._folder = Path(tempfile.mkdtemp(prefix="check-", dir=slicer.app.temporaryPath))
        return self._folder / "model"

    @property
    def report(self) -> Path:
        """The file that a check writes what it found into."""
        assert self._folder is not None
        return self._folder / "report.json"

    def take_report(self) -> CheckReport | None:
        """Show what the last check found; None where it found no data to look at."""
        report = read_check_report(self.report)
        self.cleanup()
        if report is not None:
            self._show(report)
        return report

    def clear(self) -> None:
        self._table.setRowCount(0)
        self._table.setVisible(False)
        self._plan.setVisible(False)

    def cleanup(self) -> None:
        """Remove the files of the last check."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _show(self, report: CheckReport) -> None:
        self._table.setRowCount(len(report.rows))
        for row, cells in enumerate(report.rows):
            for column, cell in enumerate(cells):
                item = qt.QTableWidgetItem(cell.text)
                item.setToolTip(cell.tip)
                self._table.setItem(row, column, item)
        self._table.resizeRowsToContents()
        self._table.setVisible(bool(report.rows))
        self._plan.text = report.plan
        self._plan.setVisible(bool(report.plan))
