"""The bundled example label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from ..bundles.catalog import resources_folder
from ..bundles.manifest import Manifest
from ..scene.canvas import add_label_map
from ..scene.label_maps import read_label_node
from ..synthesis.labels import match_labels

SUFFIX = ".nii.gz"


def example_files() -> dict[str, Path]:
    """The example label maps by name: ``hippocampus`` is for models named ``hippocampus...``."""
    found = sorted((resources_folder() / "Examples").glob(f"*{SUFFIX}"))
    return {path.name.removesuffix(SUFFIX): path for path in found}


def example_for(model: str) -> tuple[str, Path] | None:
    """The example that goes with a model."""
    return next((item for item in example_files().items() if model.startswith(item[0])), None)


def add_example(manifest: Manifest, name: str, path: Path) -> Any:
    """Load an example as a segmentation with the model's labels. Raises UserError."""
    loaded = slicer.util.loadLabelVolume(str(path), {"show": False})
    try:
        labels = match_labels(read_label_node(loaded).labels, manifest, {})
        node, _volume = add_label_map(slicer.mrmlScene, manifest, labels, f"{name} example")
    finally:
        for leftover in (loaded.GetDisplayNode(), loaded.GetStorageNode(), loaded):
            if leftover is not None:
                slicer.mrmlScene.RemoveNode(leftover)
    return node


def register_sample_data() -> None:
    """Offer the examples in the module Sample Data; they are files of the extension."""
    import SampleData

    for name, path in example_files().items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedDiffusion",
            sampleName=f"MedDiffusion {name} labels",
            uris=path.as_uri(),
            fileNames=f"MedDiffusion-{path.name}",
            nodeNames=f"{name} labels",
            loadFileTypes="VolumeFile",
            loadFileProperties={"labelmap": True},
        )
