"""Which widget can show a parameter of which type, as in Slicer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import ctk
import qt
import slicer

from .annotations import Choice, WithinRange

UNBOUNDED = 2**31


class Connector:
    """Ties one widget to one parameter by a property of the widget."""

    def __init__(self, widget: Any, signal: str | None, read: Any, write: Any) -> None:
        self.widget = widget
        self.read: Callable[[], Any] = read
        self.write: Callable[[Any], None] = write
        self._signal = getattr(widget, signal) if signal else None
        self._changed: Callable[[], None] | None = None

    def on_changed(self, function: Callable[[], None] | None) -> None:
        if self._signal is not None and self._changed is not None:
            self._signal.disconnect(self._changed)
        self._changed = function
        if self._signal is not None and function is not None:
            self._signal.connect(function)


def property_connector(widget: Any, signal: str | None, name: str, kind: Any) -> Connector:
    def write(value: Any) -> None:
        if getattr(widget, name) != value:
            setattr(widget, name, value)

    return Connector(widget, signal, lambda: kind(getattr(widget, name)), write)


def choice_connector(widget: Any, labels: Sequence[str], values: Sequence[Any]) -> Connector:
    widget.clear()
    widget.addItems([str(label) for label in labels])

    def write(value: Any) -> None:
        widget.currentIndex = list(values).index(value)

    return Connector(
        widget, "currentIndexChanged", lambda: values[max(widget.currentIndex, 0)], write
    )


def node_connector(widget: Any, kinds: Sequence[type]) -> Connector:
    widget.nodeTypes = [kind.__name__ for kind in kinds]
    return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def connector_for(widget: Any, kind: Any, notes: Sequence[Any]) -> Connector:
    """Make the connector of a widget; a combination that Slicer refuses is an error."""
    widget_type = type(widget)
    node_types = nodes_of(kind)
    if widget_type is slicer.qMRMLNodeComboBox and node_types:
        return node_connector(widget, node_types)
    if isinstance(kind, type):
        if kind is bool and widget_type in (qt.QCheckBox, ctk.ctkCheckBox):
            return property_connector(widget, "stateChanged", "checked", bool)
        if kind is str and widget_type is qt.QLineEdit:
            return property_connector(widget, "textChanged", "text", str)
        if widget_type in (qt.QComboBox, ctk.ctkComboBox):
            return combo_connector(widget, kind, notes)
        integer = kind is int and widget_type in (qt.QSpinBox, qt.QSlider)
        if integer or (kind in (int, float) and widget_type is qt.QDoubleSpinBox):
            return number_connector(widget, kind, notes)
    raise RuntimeError(f"Unable to create GUI connector from {kind} to {widget_type.__name__}")


def combo_connector(widget: Any, kind: Any, notes: Sequence[Any]) -> Connector:
    if issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return choice_connector(widget, [label(member) for member in kind], list(kind))
    choice = next((note for note in notes if isinstance(note, Choice)), None)
    if choice is None:
        raise RuntimeError("A combo box needs the annotation Choice, or an Enum")
    return choice_connector(widget, [str(value) for value in choice.choices], choice.choices)


def number_connector(widget: Any, kind: Any, notes: Sequence[Any]) -> Connector:
    limits = next((note for note in notes if isinstance(note, WithinRange)), None)
    if type(widget) is qt.QSlider and limits is None:
        raise RuntimeError("Cannot have a connection to QSlider where the int type is unbounded.")
    if kind is int and type(widget) is qt.QDoubleSpinBox:
        widget.decimals = 0
    limit: Any = UNBOUNDED - 1 if type(widget) is qt.QSpinBox else float("inf")
    widget.minimum = limits.minimum if limits else -limit
    widget.maximum = limits.maximum if limits else limit
    return property_connector(widget, "valueChanged", "value", kind)


def nodes_of(kind: Any) -> list[type]:
    """Return the node classes of a type or union; nothing if it is about something else."""
    given = getattr(kind, "__args__", (kind,))
    kinds = [one for one in given if one is not type(None)]
    are_nodes = [isinstance(one, type) and issubclass(one, slicer.vtkMRMLNode) for one in kinds]
    return kinds if all(are_nodes) else []
