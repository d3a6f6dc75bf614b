"""The module ``qt``: all of QtCore, QtGui and QtWidgets in one name space, and the form loader."""

from __future__ import annotations

from host.forms import QUiLoader
from host.pythonqt import MODULES, install

__all__ = ["QUiLoader"]

install()
for _module in MODULES:
    _names = [name for name in dir(_module) if name.startswith("Q")]
    globals().update({name: getattr(_module, name) for name in _names})
