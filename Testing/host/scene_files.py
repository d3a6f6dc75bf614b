"""Loading and saving for ``slicer.util.load…`` and ``save…``, on MRML's storage nodes.

Slicer's readers and writers are Qt classes of its desktop program; these few lines do the same
for the file types that this project handles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

READERS = {
    "VolumeFile": "vtkMRMLScalarVolumeNode",
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "ModelFile": "vtkMRMLModelNode",
    "TransformFile": "vtkMRMLLinearTransformNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
}
EXTENSIONS = {
    ".seg.nrrd": "SegmentationFile",
    ".seg.nhdr": "SegmentationFile",
    ".nrrd": "VolumeFile",
    ".nhdr": "VolumeFile",
    ".nii": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".mha": "VolumeFile",
    ".mhd": "VolumeFile",
    ".mgz": "VolumeFile",
    ".vtk": "ModelFile",
    ".vtp": "ModelFile",
    ".stl": "ModelFile",
    ".tfm": "TransformFile",
    ".h5": "TransformFile",
    ".ctbl": "ColorTableFile",
    ".mrb": "SceneFile",
    ".mrml": "SceneFile",
}


def known_extension(name: str) -> str:
    """Return the longest known extension that the name ends in, or an empty string."""
    matches = [extension for extension in EXTENSIONS if name.lower().endswith(extension)]
    return max(matches, key=len, default="")


class CoreFiles:
    """Reads nodes and scenes into, and writes them from, one scene."""

    def __init__(self, scene: Any, application_logic: Any) -> None:
        self._scene = scene
        self._application_logic = application_logic

    def fileType(self, name: str) -> str:
        return EXTENSIONS.get(known_extension(str(name)), "NoFile")

    def fileWriterFileType(self, node: Any, _format: str = "") -> str:
        for file_type, class_name in READERS.items():
            if node.IsA(class_name):
                return file_type
        return "NoFile"

    def loadNodes(
        self,
        file_type: str,
        properties: Mapping[str, Any],
        loaded: Any = None,
        _messages: Any = None,
    ) -> bool:
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear", True)))
        if file_type not in READERS or not Path(path).is_file():
            return False
        class_name = READERS[file_type]
        if properties.get("labelmap"):
            class_name = "vtkMRMLLabelMapVolumeNode"
        stem = Path(path).name.removesuffix(known_extension(path))
        name = self._scene.GenerateUniqueName(str(properties.get("name") or stem))
        node = self._scene.AddNewNodeByClass(class_name, name)
        node.AddDefaultStorageNode(path)
        if not node.GetStorageNode().ReadData(node):
            self._scene.RemoveNode(node.GetStorageNode())
            self._scene.RemoveNode(node)
            return False
        node.CreateDefaultDisplayNodes()
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def saveNodes(
        self, file_type: str, properties: Mapping[str, Any], _messages: Any = None
    ) -> bool:
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._save_scene(path)
        node = self._scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None and not node.AddDefaultStorageNode(path):
            return False
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))

    def _load_scene(self, path: str, clear: bool) -> bool:
        if not Path(path).is_file():
            return False
        if path.endswith(".mrb"):
            return bool(self._scene.ReadFromMRB(path, clear))
        self._scene.SetURL(path)
        return bool(self._scene.Connect() if clear else self._scene.Import())

    def _save_scene(self, path: str) -> bool:
        if path.endswith(".mrb"):
            return bool(self._scene.WriteToMRB(path))
        if path.endswith(".mrml"):
            self._scene.SetURL(path)
            return bool(self._scene.Commit())
        return bool(self._application_logic.SaveSceneToSlicerDataBundleDirectory(path, None))
