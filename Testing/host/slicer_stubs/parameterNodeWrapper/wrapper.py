"""The decorator ``@parameterNodeWrapper``."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import qt
import slicer.util
import vtk

from .annotations import Default, Validator
from .connectors import Connector, connector_for
from .storage import storage_for

SlicerParameterNamePropertyName = "SlicerParameterName"


class Parameter:
    """One member of a wrapper: an attribute that lives in the parameter node."""

    def __init__(self, name: str, kind: Any, given: Any) -> None:
        self.name = name
        self.kind, *notes = typing.get_args(Annotated[kind, None])[:-1]
        self.notes = notes
        self.storage = storage_for(self.kind)
        marked = next((note for note in notes if isinstance(note, Default)), None)
        self.start = given or marked or Default(generator=self.storage.default)

    def __get__(self, wrapper: Any, owner: Any = None) -> Any:
        if wrapper is None:
            return self
        if not self.storage.has(wrapper.parameterNode, self.name):
            self.__set__(wrapper, self.start.value)
        return self.storage.read(wrapper.parameterNode, self.name)

    def __set__(self, wrapper: Any, value: Any) -> None:
        if not self.storage.accepts(value):
            kind = ValueError if value is None else TypeError
            raise kind(f"{self.name} cannot be {value!r}: it is a {self.kind}")
        for note in self.notes:
            if isinstance(note, Validator):
                note.validate(value)
        with slicer.util.NodeModify(wrapper.parameterNode):
            self.storage.write(wrapper.parameterNode, self.name, value)


class WrapperMethods:
    """The methods that every wrapper gets."""

    parameterNode: Any
    allParameters: dict[str, Parameter]
    _is_parameter_node_wrapper = True

    def _start(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, Connector]] = {}
        self._tags: dict[int, int] = {}
        self._next_tag = 0
        self._updating = False
        for name, parameter in self.allParameters.items():
            if not parameter.storage.has(parameterNode, name):
                setattr(self, name, parameter.start.value)

    def getValue(self, name: str) -> Any:
        return getattr(self, self._known(name))

    def setValue(self, name: str, value: Any) -> None:
        setattr(self, self._known(name), value)

    def default(self, name: str) -> Default:
        return self.allParameters[self._known(name)].start

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def connectGui(self, gui: Any) -> int:
        """Bind the widgets that name a parameter in the property SlicerParameterName."""
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: w for name, w in named.items() if name})

    def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int:
        connectors = {}
        for name, widget in mapping.items():
            parameter = self.allParameters[self._known(name)]
            connectors[name] = connector_for(widget, parameter.kind, parameter.notes)
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(self._reader(name, connector))
        event = vtk.vtkCommand.ModifiedEvent
        self._tags[tag] = self.AddObserver(event, lambda *_: self._show())
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        for connector in self._guis.pop(guiTag, {}).values():
            connector.on_changed(None)
        if guiTag in self._tags:
            self.RemoveObserver(self._tags.pop(guiTag))

    def _known(self, name: str) -> str:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return name

    def _reader(self, name: str, connector: Connector) -> Callable[[], None]:
        def read() -> None:
            if not self._updating:
                self.setValue(name, connector.read())

        return read

    def _show(self) -> None:
        """Bring the widgets up to the node, without reading them back."""
        if self._updating:
            return
        self._updating = True
        try:
            for connectors in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False


def wrap(cls: Any) -> Any:
    parameters = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        given = Default(getattr(cls, name)) if hasattr(cls, name) else None
        parameters[name] = Parameter(name, kind, given)
    for name, member in vars(WrapperMethods).items():
        if name.startswith("__") or name == "_start":
            continue
        if name in parameters or hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, member)
    for name, parameter in parameters.items():
        setattr(cls, name, parameter)
    cls.allParameters = parameters
    cls.__init__ = WrapperMethods._start
    return cls


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Make a class with type hints the typed view of a parameter node."""
    return wrap if classtype is None else wrap(classtype)


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return bool(getattr(classOrObj, "_is_parameter_node_wrapper", False))
