"""The Qt interface of CTK's and Slicer's classes, as far as this project needs it.

``qt-api.json`` holds facts only: class -> base, properties (type, writable), slots, signals and
invokable methods. The stand-ins are checked against it, so a module that passes on the host calls
nothing that PythonQt would not find in Slicer. Cut it anew after adding a class to ``CLASSES``::

    python Testing/host/api_table.py ../shared/slicer-api.json
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("qt-api.json")

CLASSES = (
    "ctkCheckablePushButton",
    "ctkCheckBox",
    "ctkCollapsibleButton",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkRangeWidget",
    "ctkSliderWidget",
    "qMRMLNodeComboBox",
    "qMRMLRangeWidget",
    "qMRMLSegmentEditorWidget",
    "qMRMLSliceView",
    "qMRMLSliceWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLThreeDView",
    "qMRMLThreeDWidget",
    "qMRMLWidget",
    "qSlicerApplication",
    "qSlicerIOManager",
    "qSlicerLayoutManager",
    "qSlicerModuleManager",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerWidget",
)

DECLARATION = re.compile(r"^(\w+)\(([^()]*)\)$")
NOT_TYPES = ("qWarning", "Q_UNUSED", "Q_ASSERT", "if", "for", "return")


class Method(NamedTuple):
    """A slot or signal: its name and the types of its parameters."""

    name: str
    parameters: tuple[str, ...]

    @property
    def signature(self) -> str:
        return f"{self.name}({','.join(self.parameters)})"


class ClassApi(NamedTuple):
    """What PythonQt offers of one class beyond its base."""

    base: str
    properties: dict[str, tuple[str, bool]]
    slots: tuple[Method, ...]
    signals: tuple[Method, ...]
    invokables: frozenset[str]

    @property
    def names(self) -> set[str]:
        methods = {method.name for method in (*self.slots, *self.signals)}
        return {*self.properties, *methods, *self.invokables}


def parse(declaration: str) -> Method | None:
    """Read "name(const QString& text, int n)"; None for lines of code that were mistaken for it."""
    match = DECLARATION.match(declaration)
    if match is None or match[1] in NOT_TYPES:
        return None
    parameters = [normalized_type(text) for text in match[2].split(",") if text.strip()]
    return Method(match[1], tuple(parameters))


def normalized_type(parameter: str) -> str:
    """Reduce "const QString& text" to "QString" as Qt's signal signatures do."""
    words = parameter.replace("*", "* ").replace("&", " ").split()
    words = [word for word in words if word != "const"]
    if len(words) > 1 and words[0] != "unsigned":
        return words[0]
    return " ".join(words[:2])


def decorations(full: dict[str, Any]) -> dict[str, set[str]]:
    """Find the methods that PythonQt's decorator classes add to other classes.

    ``static_qSlicerCoreApplication_testingEnabled()`` gives that class testingEnabled(), and
    ``widgetRepresentation(qSlicerAbstractModule* module)`` gives that one widgetRepresentation().
    """
    added: dict[str, set[str]] = {}
    for name in full:
        methods = (parse(text) for text in full[name]["slots"] if name.endswith("Decorators"))
        for method in methods:
            if method is None:
                continue
            static = re.match(r"static_([^_]+)_(\w+)", method.name)
            if static:
                added.setdefault(static[1], set()).add(static[2])
            elif method.parameters and method.parameters[0].rstrip("*") in full:
                added.setdefault(method.parameters[0].rstrip("*"), set()).add(method.name)
    return added


def cut(source: Path) -> dict[str, object]:
    """Take this project's classes and their bases out of the full table."""
    full = json.loads(source.read_text())
    added = decorations(full)
    table: dict[str, object] = {}
    for name in CLASSES:
        current = name
        while current in full:
            entry = full[current]
            table[current] = {
                "base": entry["base"],
                "properties": entry["properties"],
                "slots": [text for text in entry["slots"] if parse(text)],
                "signals": [text for text in entry["signals"] if parse(text)],
                "invokables": sorted({*entry["invokables"], *added.get(current, ())}),
            }
            current = entry["base"]
    return dict(sorted(table.items()))


@cache
def load() -> dict[str, ClassApi]:
    """Read the table that the project carries."""
    table = {}
    for name, entry in json.loads(FILE.read_text()).items():
        table[name] = ClassApi(
            base=entry["base"],
            properties={key: (kind, can) for key, (kind, can) in entry["properties"].items()},
            slots=tuple(method for text in entry["slots"] if (method := parse(text))),
            signals=tuple(method for text in entry["signals"] if (method := parse(text))),
            invokables=frozenset(entry["invokables"]),
        )
    return table


if __name__ == "__main__":
    FILE.write_text(json.dumps(cut(Path(sys.argv[1])), indent=1) + "\n")
