"""The table of CTK's and Slicer's Qt classes that the project carries is read and cut rightly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.api_table import CLASSES, cut, load, parse


@pytest.mark.parametrize(
    ("declaration", "signature"),
    [
        ("valueChanged(double value)", "valueChanged(double)"),
        ("setCurrentPath(const QString& path)", "setCurrentPath(QString)"),
        ("valueChanged(const QString &)", "valueChanged(QString)"),
        ("currentNodeChanged(vtkMRMLNode* node)", "currentNodeChanged(vtkMRMLNode*)"),
        ("setValues(double low,double high)", "setValues(double,double)"),
        ("browse()", "browse()"),
        ("invoke(unsigned int delay,void* caller)", "invoke(unsigned int,void*)"),
    ],
)
def test_a_declaration_becomes_a_signature(declaration: str, signature: str) -> None:
    method = parse(declaration)
    assert method is not None
    assert method.signature == signature


def test_lines_of_code_are_no_declarations() -> None:
    assert parse('qWarning("setMasterVolumeNode is deprecated")') is None
    assert parse("Q_UNUSED(pause)") is None


def test_every_class_is_there_with_its_bases() -> None:
    table = load()
    assert set(CLASSES) <= set(table)
    for name, api in table.items():
        assert api.base in table or api.base.startswith("Q"), name


def test_cutting_keeps_bases_and_adds_what_decorators_give(tmp_path: Path) -> None:
    nothing: dict[str, object] = {"properties": {}, "slots": [], "signals": [], "invokables": []}
    full = {
        "qMRMLWidget": {**nothing, "base": "qOther", "slots": ["show(int n)", "if(d)"]},
        "qOther": {**nothing, "base": "QWidget"},
        "qSpare": {**nothing, "base": "QWidget"},
        "qSomeDecorators": {
            **nothing,
            "base": "QObject",
            "slots": ["static_qOther_isTesting()", "reload(qMRMLWidget* widget)"],
        },
    }
    source = tmp_path / "full.json"
    source.write_text(json.dumps(full))
    assert cut(source) == {
        "qMRMLWidget": {
            **nothing,
            "base": "qOther",
            "slots": ["show(int n)"],
            "invokables": ["reload"],
        },
        "qOther": {**nothing, "base": "QWidget", "invokables": ["isTesting"]},
    }
