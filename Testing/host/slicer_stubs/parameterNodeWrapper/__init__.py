"""A typed view on a vtkMRMLScriptedModuleNode, which can be bound to a panel."""

from __future__ import annotations

from .annotations import (
    Choice,
    Default,
    Validator,
    WithinRange,
)
from .wrapper import SlicerParameterNamePropertyName, isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Default",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
