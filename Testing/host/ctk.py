"""The module ``ctk``: stand-ins of CTK's widgets that a scripted module puts on its panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


class _Number:
    """The parts that ctkSliderWidget and ctkDoubleSpinBox share: a spin box holds the numbers."""

    _spin: QtWidgets.QDoubleSpinBox

    @staticmethod
    def delegates(*names: str) -> dict[str, Any]:
        """Hooks that keep properties of the widget in the spin box inside it."""
        hooks: dict[str, Any] = {}
        for name in names:
            hooks[f"_get_{name}"] = lambda self, name=name: getattr(self._spin, name)
            hooks[f"_set_{name}"] = lambda self, value, name=name: setattr(self._spin, name, value)
        return hooks


class ctkSliderWidget(QtWidgets.QWidget, metaclass=StandIn):
    """A slider beside a spin box; the spin box holds the value."""

    locals().update(_Number.delegates("value", "decimals", "singleStep", "prefix", "suffix"))
    _defaults = {"pageStep": 10.0, "tracking": True, "spinBoxVisible": True}  # noqa: RUF012

    def _setup(self) -> None:
        self.__dict__["_slider"] = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.__dict__["_spin"] = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.keyboardTracking = False
        self._spin.valueChanged.connect(self._on_spin)
        self._slider.valueChanged.connect(self._on_slider)
        self.minimum, self.maximum = 0.0, 99.0

    def _get_minimum(self) -> float:
        return float(self._spin.minimum)

    def _get_maximum(self) -> float:
        return float(self._spin.maximum)

    def _set_minimum(self, value: float) -> None:
        self._spin.minimum = value
        self._fit_slider()

    def _set_maximum(self, value: float) -> None:
        self._spin.maximum = value
        self._fit_slider()

    def _after_spinBoxVisible(self) -> None:
        self._spin.setVisible(self.spinBoxVisible)

    def reset(self) -> None:
        self.value = 0.0

    def _fit_slider(self) -> None:
        count = (self.maximum - self.minimum) / max(self.singleStep, 1e-9)
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, round(min(count, 1e9)))
        self._slider.blockSignals(blocked)

    def _on_spin(self, value: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round((value - self.minimum) / max(self.singleStep, 1e-9)))
        self._slider.blockSignals(blocked)
        emit(self, "valueIsChanging(double)", value)
        emit(self, "valueChanged(double)", value)

    def _on_slider(self, step: int) -> None:
        self._spin.value = self.minimum + step * self.singleStep


class ctkDoubleSpinBox(QtWidgets.QWidget, metaclass=StandIn):
    """A spin box in a widget, as in CTK."""

    locals().update(
        _Number.delegates(
            "value", "minimum", "maximum", "decimals", "singleStep", "prefix", "suffix", "readOnly"
        )
    )

    def _setup(self) -> None:
        self.__dict__["_spin"] = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._on_value)
        self._spin.editingFinished.connect(lambda: emit(self, "editingFinished()"))

    def _get_cleanText(self) -> str:
        return str(self._spin.cleanText)

    def stepUp(self) -> None:
        self._spin.stepUp()

    def stepDown(self) -> None:
        self._spin.stepDown()

    def _on_value(self, value: float) -> None:
        emit(self, "valueChanged(double)", value)
        emit(self, "valueChanged(QString)", self._spin.text)


class ctkPathLineEdit(QtWidgets.QWidget, metaclass=StandIn):
    """A path in an editable combo box, with its history, and a button that browses."""

    _defaults = {"showBrowseButton": True, "showHistoryButton": True}  # noqa: RUF012

    def _setup(self) -> None:
        self.__dict__["_combo"] = QtWidgets.QComboBox()
        self._combo.editable = True
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo, 1)
        layout.addWidget(QtWidgets.QToolButton(self))
        self._combo.connect("editTextChanged(QString)", self._on_text)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    def addCurrentPathToHistory(self) -> None:
        if self.currentPath and self._combo.findText(self.currentPath) < 0:
            blocked = self._combo.blockSignals(True)
            self._combo.insertItem(0, self.currentPath)
            self._combo.blockSignals(blocked)

    def _get_currentPath(self) -> str:
        return str(self._combo.currentText)

    def _set_currentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    def _on_text(self, path: str) -> None:
        emit(self, "currentPathChanged(QString)", path)
        emit(self, "validInputChanged(bool)", Path(path).exists())


class ctkDirectoryButton(QtWidgets.QWidget, metaclass=StandIn):
    """A button that names a folder."""

    def _setup(self) -> None:
        self.__dict__["_button"] = QtWidgets.QPushButton()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)

    def _after_directory(self) -> None:
        self._button.text = self.text or self.directory
        emit(self, "directoryChanged(QString)", self.directory)


class ctkFittedTextBrowser(QtWidgets.QTextBrowser, metaclass=StandIn):
    """A text that can be folded to its first lines."""

    _defaults = {"collapsed": True}  # noqa: RUF012

    def setCollapsibleText(self, text: str) -> None:
        self.__dict__["_collapsible"] = text
        self.setText(text)

    def setCollapsibleHtml(self, text: str) -> None:
        self.__dict__["_collapsible"] = text
        self.setHtml(text)

    def setCollapsiblePlainText(self, text: str) -> None:
        self.__dict__["_collapsible"] = text
        self.setPlainText(text)

    def collapsibleText(self) -> str:
        return str(self.__dict__.get("_collapsible", ""))


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox, metaclass=StandIn):
    """A group box whose check mark shows or hides its contents."""

    def _setup(self) -> None:
        self.checkable = True
        self.connect("toggled(bool)", self._on_toggled)

    def _get_collapsed(self) -> bool:
        return not self.checked

    def _set_collapsed(self, collapsed: bool) -> None:
        self.checked = not collapsed

    def _on_toggled(self, checked: bool) -> None:
        for child in self.children():
            if child.isWidgetType():
                child.setVisible(checked)


declare(
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkExpandableWidget",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSearchBox",
)
globals().update({name: cls for name, cls in registry.items() if name.startswith("ctk")})
