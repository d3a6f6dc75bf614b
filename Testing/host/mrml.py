"""A real MRML application on slicer-core, without Qt.

``boot()`` does what Slicer's start does below its windows, so that ``slicer.util``, module logics
and scene files work; ``slicer.app`` is as small as they allow and is replaced by
``host.application`` where widgets are needed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk

from host.scene_files import CoreFiles

LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class LogicModule:
    """The entry of a C++ module in ``slicer.modules``: its name and its logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class CoreApp:
    """``slicer.app`` as far as ``slicer.util`` needs it without Qt."""

    def __init__(self, booted: Mrml) -> None:
        self._booted = booted
        self._files = CoreFiles(booted.scene, booted.applicationLogic)
        self.temporaryPath = str(booted.temporary)

    def applicationLogic(self) -> Any:
        return self._booted.applicationLogic

    def mrmlScene(self) -> Any:
        return self._booted.scene

    def coreIOManager(self) -> CoreFiles:
        return self._files

    def processEvents(self) -> None:
        self._booted.applicationLogic.ProcessModified()

    def testingEnabled(self) -> bool:
        return True

    def pauseRender(self) -> None:
        self._booted.applicationLogic.PauseRender()

    def resumeRender(self) -> None:
        self._booted.applicationLogic.ResumeRender()


class Mrml:
    """A running MRML application: its scene, application logic and module logics."""

    def __init__(self) -> None:
        self.temporary = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        self.scene = slicer.vtkMRMLScene()
        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.logics: dict[str, Any] = {}
        self._connect_files()
        self._add_default_nodes()
        for name, class_name in LOGICS.items():
            self._add_logic(name, getattr(slicer, class_name)())

    def _connect_files(self) -> None:
        """Both calls are needed, and a cache directory: reading a bundle crashes without them."""
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._remote.GetCacheManager().SetRemoteCacheDirectory(str(self.temporary))
        self._data = slicer.vtkDataIOManagerLogic()
        self._data.SetMRMLApplicationLogic(self.applicationLogic)
        self.applicationLogic.SetMRMLSceneDataIO(self.scene, self._remote, self._data)
        self.applicationLogic.SetMRMLScene(self.scene)
        self.applicationLogic.SetTemporaryPath(str(self.temporary))

    def _add_default_nodes(self) -> None:
        self.scene.RegisterNodeClass(slicer.vtkMRMLCommandLineModuleNode())
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.applicationLogic.SetSliceLogics(vtk.vtkCollection())
        self.applicationLogic.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)

    def _add_logic(self, name: str, logic: Any) -> None:
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.applicationLogic)
        self.applicationLogic.SetModuleLogic(name, logic)
        self.logics[name] = logic
        if name == "Colors":
            logic.AddDefaultColorNodes()

    def close(self) -> None:
        """Empty the scene and remove the temporary files."""
        self.scene.Clear(1)
        shutil.rmtree(self.temporary, ignore_errors=True)


def boot() -> Mrml:
    """Start the application and publish it as ``slicer.mrmlScene``, ``slicer.app``, … ."""
    booted = Mrml()
    slicer.mrmlScene = booted.scene
    slicer.modules = types.ModuleType("slicer.modules")
    slicer.moduleNames = types.ModuleType("slicer.moduleNames")
    sys.modules["slicer.modules"] = slicer.modules
    sys.modules["slicer.moduleNames"] = slicer.moduleNames
    for name, logic in booted.logics.items():
        setattr(slicer.modules, name.lower(), LogicModule(name, logic))
        setattr(slicer.moduleNames, name, name)
    slicer.app = CoreApp(booted)
    return booted
