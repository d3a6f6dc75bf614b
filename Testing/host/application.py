"""Slicer's application for a scripted module: ``slicer.app``, its managers, and their start.

``start()`` boots MRML, makes Qt behave as PythonQt does, and publishes what a module imports:
``slicer``, ``qt``, ``ctk`` and Slicer's pure-Python parts (the stand-ins beside this file, or
Slicer's own files where ``SLICER_SOURCE_DIR`` names a source tree).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from host import ctk, dialogs, mrml, packages, pythonqt, qt, sample_data, signals
from host import scripted as _scripted  # These two register their classes, and those they need.
from host import segment_editor as _segment_editor
from host.scene_files import CoreFiles
from host.standin import StandIn, emit, registry

STUBS = Path(__file__).with_name("slicer_stubs")


def slicer_python_folder() -> Path:
    """Return the folder of Slicer's pure-Python parts: its own, or the stand-ins."""
    source = os.environ.get("SLICER_SOURCE_DIR", "")
    if not source:
        return STUBS
    folder = Path(source) / "Base" / "Python" / "slicer"
    if not (folder / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"SLICER_SOURCE_DIR={source} is no Slicer source tree: no {folder}")
    return folder


class qSlicerModuleManager(QtCore.QObject, metaclass=StandIn):
    """Knows the modules by name and tells when one is about to be unloaded."""


class qSlicerCoreIOManager(QtCore.QObject, metaclass=StandIn):
    """Reads and writes files through MRML's storage nodes."""

    def fileType(self, name: str) -> str:
        return self._files.fileType(name)

    def fileWriterFileType(self, node: Any, file_format: str = "") -> str:
        return self._files.fileWriterFileType(node, file_format)

    def loadNodes(self, *arguments: Any) -> bool:
        return self._files.loadNodes(*arguments)

    def saveNodes(self, *arguments: Any) -> bool:
        return self._files.saveNodes(*arguments)

    @property
    def _files(self) -> CoreFiles:
        return self.__dict__["_core_files"]


class qSlicerIOManager(qSlicerCoreIOManager, metaclass=StandIn):
    """The same with dialogs, which the host does not have."""


class qSlicerCoreApplication(QtWidgets.QApplication, metaclass=StandIn):
    """The application below its windows."""

    _defaults = {  # noqa: RUF012
        "slicerHome": "/nonexistent",
        "majorVersion": 5,
        "minorVersion": 13,
        "revision": "31053",
        "documentationBaseUrl": "https://slicer.readthedocs.io/en/latest/",
        "os": sys.platform,
    }

    def __init__(self, booted: mrml.Mrml, testing: bool) -> None:
        QtWidgets.QApplication.__init__(self, ["Slicer"])
        self.__dict__.update(_booted=booted, _testing=testing)
        self.__dict__["_modules"] = qSlicerModuleManager()
        self.__dict__["_io"] = qSlicerIOManager()
        self._io.__dict__["_core_files"] = CoreFiles(booted.scene, booted.applicationLogic)
        self.temporaryPath = str(booted.temporary)

    def applicationLogic(self) -> Any:
        return self._booted.applicationLogic

    def moduleManager(self) -> Any:
        return self._modules

    def coreIOManager(self) -> Any:
        return self._io

    def userSettings(self) -> Any:
        return QtCore.QSettings()

    def settings(self) -> Any:
        return QtCore.QSettings()

    def revisionUserSettings(self) -> Any:
        return QtCore.QSettings()

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def testingEnabled(self) -> bool:
        return bool(self.__dict__["_testing"])

    def processEvents(self, *arguments: Any) -> None:
        """Also what Slicer's timers do: requested modifications and loaded data reach the scene."""
        self.applicationLogic().ProcessModified()
        self.applicationLogic().ProcessReadData()
        QtWidgets.QApplication.processEvents(*arguments)


class qSlicerApplication(qSlicerCoreApplication, metaclass=StandIn):
    """The application with its windows."""

    def __init__(self, booted: mrml.Mrml, testing: bool) -> None:
        qSlicerCoreApplication.__init__(self, booted, testing)

    def ioManager(self) -> Any:
        return self._io

    def layoutManager(self) -> Any:
        return self.__dict__.get("_layout_manager")

    def setLayoutManager(self, manager: Any) -> None:
        self.__dict__["_layout_manager"] = manager


class Host:
    """The running application, for tests: ``scene``, ``app``, and what has gone wrong so far."""

    def __init__(self, testing: bool) -> None:
        self.mrml = mrml.boot()
        self.scene = self.mrml.scene
        keep_settings_in(self.mrml.temporary)
        self.app = qSlicerApplication(self.mrml, testing)
        publish(self.app)
        from host.layout import qSlicerLayoutManager  # It needs slicer.app to be there.

        self.app.setLayoutManager(qSlicerLayoutManager())
        self.app.layoutManager().setMRMLScene(self.scene)
        self.main_window = QtWidgets.QMainWindow()
        self.main_window.name = "qSlicerMainWindow"

    @property
    def errors(self) -> list[str]:
        """The tracebacks of exceptions that Qt or VTK swallowed."""
        return signals.ERRORS

    def finish_startup(self) -> None:
        """Tell modules that Slicer is up (they register sample data then)."""
        emit(self.app, "startupCompleted()")

    def process_events(self, milliseconds: int = 0) -> None:
        """Let Qt and MRML work for a while."""
        clock = QtCore.QElapsedTimer()
        clock.start()
        self.app.processEvents()
        while clock.elapsed() < milliseconds:
            QtCore.QThread.msleep(2)
            self.app.processEvents()

    def close(self) -> None:
        self.app.layoutManager().setMRMLScene(None)
        self.main_window.delete()
        self.process_events()
        self.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        self.mrml.close()


def keep_settings_in(folder: Path) -> None:
    settings = QtCore.QSettings
    settings.setDefaultFormat(settings.Format.IniFormat)
    settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, str(folder))
    QtCore.QCoreApplication.setOrganizationName("host")
    QtCore.QCoreApplication.setApplicationName("Slicer")


def publish(app: Any) -> None:
    """Put everything where a scripted module looks for it."""
    sys.modules.update({"qt": qt, "ctk": ctk, "SampleData": sample_data})
    slicer.app = app
    for name, cls in registry.items():
        if name.startswith("q"):
            setattr(slicer, name, cls)
    folder = str(slicer_python_folder())
    if folder not in slicer.__path__:
        slicer.__path__.append(folder)
    packages.install()


def start(testing: bool = False) -> Host:
    """Start the application; once per process."""
    pythonqt.install()
    dialogs.install()
    return Host(testing)


assert _scripted
assert _segment_editor
