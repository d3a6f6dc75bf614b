"""Runs CLI modules: ``createNode`` and ``run``, on the module's real logic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def createNode(cliModule: Any, parameters: Mapping[str, Any] | None = None) -> Any:
    """Make the node of a run, with its parameters."""
    node = cliModule.logic().CreateNodeInScene()
    setNodeParameters(node, parameters)
    return node


def setNodeParameters(node: Any, parameters: Mapping[str, Any] | None) -> None:
    """Set parameters by name; types that Slicer only prints a line about are refused."""
    import slicer

    setters = (
        (str, node.SetParameterAsString),
        (bool, node.SetParameterAsBool),  # Before int, which a bool is.
        (int, node.SetParameterAsInt),
        (float, node.SetParameterAsDouble),
        (slicer.vtkMRMLNode, node.SetParameterAsNode),
    )
    for name, value in (parameters or {}).items():
        setter = next((found for kind, found in setters if type(value) is kind), None)
        if setter is None and isinstance(value, slicer.vtkMRMLNode):
            setter = node.SetParameterAsNode
        if setter is None:
            raise TypeError(f"parameter {name}: slicer.cli does not know {type(value).__name__}")
        setter(name, value)


def run(
    module: Any,
    node: Any = None,
    parameters: Mapping[str, Any] | None = None,
    wait_for_completion: bool = False,
    delete_temporary_files: bool = True,
    update_display: bool = True,
    hide_window: bool = True,
) -> Any:
    """Start a run, or do it at once with ``wait_for_completion``; return its node."""
    if node is None:
        node = createNode(module, parameters)
    else:
        setNodeParameters(node, parameters)
    logic = module.logic()
    logic.SetDeleteTemporaryFiles(int(delete_temporary_files))
    logic.SetHideWindow(int(hide_window))
    (logic.ApplyAndWait if wait_for_completion else logic.Apply)(node, update_display)
    return node
