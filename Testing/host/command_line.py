"""Slicer's own parser and engine for command-line modules, on slicer-core.

``libModuleDescriptionParser`` has no Python face, so it is called through ctypes; with what it made
of an XML file, ``vtkSlicerCLIModuleLogic`` runs a script as Slicer does: it writes the input nodes
to files, starts the process, reads its progress, loads the outputs and the returned values.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import slicer
import vtk

_FOLDER = Path(str(import_module("slicer_core").__file__)).parent
_STANDARD = ctypes.CDLL("libstdc++.so.6")
_PARSER = ctypes.CDLL(str(_FOLDER / "third_party.libs" / "libModuleDescriptionParser.so"))
_NODES = ctypes.CDLL(str(_FOLDER / "libMRMLCLI.so"))
_LOGICS = ctypes.CDLL(str(_FOLDER / "libvtkSlicerBaseLogic.so"))
_DESCRIPTION_BYTES = 16384  # More than a ModuleDescription has.
PATIENCE = 300.0


class BadDescription(ValueError):
    """Slicer's parser refused an XML file; what it says of it went to stderr."""


class Description:
    """A ModuleDescription: what Slicer's parser makes of an XML file.

    It is never destroyed, as the library exports no destructor for it.
    """

    def __init__(self, xml: str) -> None:
        self.memory = ctypes.create_string_buffer(_DESCRIPTION_BYTES)
        _PARSER["_ZN17ModuleDescriptionC1Ev"](self.memory)
        parse = _PARSER["_ZN23ModuleDescriptionParser5ParseERKSsR17ModuleDescription"]
        parse.restype = ctypes.c_int
        parser = ctypes.create_string_buffer(8)  # It has no state.
        if parse(parser, _standard_string(xml), self.memory):
            raise BadDescription("Slicer's parser refuses the XML")

    def set(self, what: str, value: str) -> None:
        """Call ``SetTarget`` and the like."""
        symbol = f"_ZN17ModuleDescription{len(what) + 3}Set{what}ERKSs"
        _PARSER[symbol](self.memory, _standard_string(value))


def _standard_string(text: str) -> Any:
    """A ``std::string`` of the older kind (one pointer), which the wheel is built with."""
    made = ctypes.create_string_buffer(8)
    allocator = ctypes.create_string_buffer(8)
    _STANDARD["_ZNSsC1EPKcRKSaIcE"](made, text.encode(), allocator)
    return made


class CommandLineModule:
    """A command-line module in ``slicer.modules``, made of ``NAME.py`` and ``NAME.xml``."""

    def __init__(self, script: Path, python: str = sys.executable) -> None:
        self.name = script.stem
        self.path = str(script)
        self._description = Description(script.with_suffix(".xml").read_text("utf-8"))
        self._description.set("Type", "CommandLineModule")
        self._description.set("Location", python)
        self._description.set("Target", self.path)
        _NODES["_ZN28vtkMRMLCommandLineModuleNode25RegisterModuleDescriptionE17ModuleDescription"](
            self._description.memory
        )
        self._logic = slicer.vtkSlicerCLIModuleLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        address = int(self._logic.__this__.split("_")[1], 16)
        _LOGICS["_ZN23vtkSlicerCLIModuleLogic27SetDefaultModuleDescriptionERK17ModuleDescription"](
            ctypes.c_void_p(address), self._description.memory
        )
        setattr(slicer.modules, self.name.lower(), self)

    def logic(self) -> Any:
        return self._logic

    def cliModuleLogic(self) -> Any:
        return self._logic


@contextmanager
def processing() -> Iterator[None]:
    """While this lasts, Slicer's thread for command-line modules runs."""
    logic = slicer.app.applicationLogic()
    logic.CreateProcessingThread()
    try:
        yield
    finally:
        logic.TerminateProcessingThread()


class Run:
    """A module's node from start to end; ``statuses`` and ``progress`` are what was seen of it."""

    def __init__(self, module: CommandLineModule, **parameters: Any) -> None:
        self.statuses: list[str] = []
        self.progress: list[int] = []
        self.node = module.logic().CreateNodeInScene()
        for name, value in parameters.items():
            _set_parameter(self.node, name, value)
        self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)
        module.logic().Apply(self.node, False)

    def wait(self, until: Callable[[], bool] = lambda: False) -> Run:
        """Let Slicer work until the node is done, or as told."""
        give_up = time.monotonic() + PATIENCE
        while self.node.IsBusy() and not until():
            assert time.monotonic() < give_up, f"{self.statuses} {self.progress}"
            pump()
            time.sleep(0.005)
        pump()
        return self

    @property
    def status(self) -> str:
        return self.node.GetStatusString()

    @property
    def errors(self) -> str:
        return self.node.GetErrorText()

    @property
    def output(self) -> str:
        return self.node.GetOutputText()

    def value(self, name: str) -> str:
        """A parameter's value; of an output parameter, what the module returned."""
        return self.node.GetParameterAsString(name)

    def _look(self, node: Any, event: str) -> None:
        if self.status not in self.statuses[-1:]:
            self.statuses.append(self.status)
        if node.GetProgress() not in self.progress[-1:]:
            self.progress.append(node.GetProgress())


def pump() -> None:
    """What Slicer's timers do."""
    logic = slicer.app.applicationLogic()
    logic.ProcessModified()
    logic.ProcessReadData()
    logic.ProcessWriteData()


def _set_parameter(node: Any, name: str, value: Any) -> None:
    assert name in parameter_names(node), f"{name} is no parameter"
    if isinstance(value, bool):
        node.SetParameterAsBool(name, value)
    elif isinstance(value, int):
        node.SetParameterAsInt(name, value)
    elif isinstance(value, float):
        node.SetParameterAsDouble(name, value)
    elif isinstance(value, slicer.vtkMRMLNode):
        node.SetParameterAsNode(name, value)
    else:
        node.SetParameterAsString(name, str(value))


def parameter_names(node: Any) -> list[str]:
    """The names of a node's parameters, in order."""
    return [
        node.GetParameterName(group, number)
        for group in range(node.GetNumberOfParameterGroups())
        for number in range(node.GetNumberOfParametersInGroup(group))
    ]
