"""A host for Slicer scripted modules without the desktop program.

Real MRML, logics and views come from the wheel ``slicer-core``; Qt comes from PySide6, made to
behave like PythonQt; CTK's and Slicer's widgets are stand-ins which refuse whatever the real ones
do not offer (``qt-api.json``).
"""

from __future__ import annotations

import importlib.util


def missing(*packages: str) -> str:
    """Say why the host cannot run here, or return an empty string.

    Looks without importing: the process that collects tests must not load VTK and Qt.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    note = " (slicer-core has wheels for Python 3.11 only)" if "slicer_core" in absent else ""
    return f"{' and '.join(absent)} not installed{note}"
