"""The module ``ctk``: stand-ins of CTK's widgets that a scripted module puts on its panel."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from host.standin import StandIn, declare, emit, registry

HEADER = 24


class ctkCollapsibleButton(QtWidgets.QAbstractButton, metaclass=StandIn):
    """A section with a header; a press on the header hides or shows what is in it."""

    def _setup(self) -> None:
        self.setContentsMargins(0, HEADER, 0, 0)
        self.minimumHeight = HEADER
        self.__dict__["_hidden"] = []

    def nextCheckState(self) -> None:
        if self.checkable:
            QtWidgets.QAbstractButton.nextCheckState(self)
            self.collapsed = not self.checked
        else:
            self.collapsed = not self.collapsed

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < HEADER

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        QtWidgets.QAbstractButton.showEvent(self, event)
        self._arrange()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, HEADER - 2)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = "▸" if self.collapsed else "▾"
        place = option.rect.adjusted(6, 0, 0, 0)
        painter.drawText(place, QtCore.Qt.AlignmentFlag.AlignVCenter, f"{arrow} {self.text}")

    def _after_collapsed(self) -> None:
        self._arrange()
        emit(self, "contentsCollapsed(bool)", self.collapsed)

    def _arrange(self) -> None:
        """Hide the children that were showing, or show them again."""
        hidden: list[QtWidgets.QWidget] = self.__dict__["_hidden"]
        if self.collapsed:
            for child in self.children():
                if child.isWidgetType() and not child.isHidden():
                    child.hide()
                    hidden.append(child)
        else:
            while hidden:
                hidden.pop().show()
        self.maximumHeight = HEADER if self.collapsed else 16777215


class ctkPathLineEdit(QtWidgets.QWidget, metaclass=StandIn):
    """A path in an editable combo box, with its history, and a button that browses."""

    _defaults = {"showBrowseButton": True, "showHistoryButton": True}  # noqa: RUF012

    def _setup(self) -> None:
        self.__dict__["_combo"] = QtWidgets.QComboBox()
        self._combo.editable = True
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo, 1)
        self.__dict__["_browse"] = QtWidgets.QToolButton(self)
        layout.addWidget(self._browse)
        self._combo.connect("editTextChanged(QString)", self._on_text)

    def _after_showBrowseButton(self) -> None:
        self._browse.setVisible(self.showBrowseButton)

    def _get_currentPath(self) -> str:
        return str(self._combo.currentText)

    def _set_currentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    def _on_text(self, path: str) -> None:
        emit(self, "currentPathChanged(QString)", path)
        emit(self, "validInputChanged(bool)", Path(path).exists())


declare(
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkMessageBox",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSliderWidget",
)
globals().update({name: cls for name, cls in registry.items() if name.startswith("ctk")})
