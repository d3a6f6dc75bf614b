"""``from slicer.i18n import tr as _``: texts pass through Qt's translators."""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6 import QtCore


def translate(context: str, text: str) -> str:
    return QtCore.QCoreApplication.translate(context, text)


def getContext(sourceFile: str) -> str:
    """A text's context is its file's name, preceded by its package's, if it is in one."""
    path = Path(sourceFile)
    packaged = (path.parent / "__init__.py").is_file()
    return f"{path.parent.name}.{path.stem}" if packaged else path.stem


def tr(text: str) -> str:
    return translate(getContext(sys._getframe(1).f_code.co_filename), text)
