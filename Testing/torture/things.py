"""What all inputs share, made once: tiny models, label maps, training data; nobody writes to it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from conftest import TINY, make_bundle
from data_factory import affine
from MedDiffusionLib.bundles.bundle import read_bundle, write_bundle
from MedDiffusionLib.bundles.catalog import DEFAULT_MODEL, resources_folder
from MedDiffusionLib.bundles.model import Model
from MedDiffusionLib.bundles.shape_model import fit_shape_model, save_shape_model
from MedDiffusionLib.volumes.volume import Kind, Volume
from training_factory import make_plan, write_data

SIZE = (12, 14, 13)
AFFINE = affine(np.diag([-1.0, -1, 1]), (1.0, 1.0, 1.25), (-31.25, 17.5, 10.0))
"""Of the label maps: LPS, as most scanners are, and exact in all formats."""


def label_array() -> NDArray[np.uint8]:
    """The voxels of the usual label map: two boxes of the tiny models' labels 1 and 2."""
    array = np.zeros(SIZE, np.uint8)
    array[3:9, 3:7, 4:10], array[3:9, 7:11, 4:10] = 1, 2
    return array


@dataclass(frozen=True)
class Things:
    """Paths of what is shared, and the environment that commands get."""

    root: Path
    environment: dict[str, str]

    @property
    def model(self) -> Path:
        """The tiny model: one channel, labels may be missing, a shape model."""
        return self.root / "tiny"

    @property
    def pair(self) -> Path:
        """A tiny model of two channels."""
        return self.root / "pair"

    @property
    def strict(self) -> Path:
        """A tiny model that needs all its labels."""
        return self.root / "strict"

    @property
    def bundled(self) -> str:
        """The name of the model that everyone has."""
        return DEFAULT_MODEL

    @property
    def data(self) -> Path:
        """Training cases in ``images`` and ``labels``, and ``plan.json``, a complete preset."""
        return self.root / "data"

    def plan(self, **training: Any) -> dict[str, Any]:
        """The plan of the training data, its training settings changed as told."""
        return make_plan(**training)

    def label_map(self, path: Path, array: NDArray | None = None) -> Path:
        """Write the usual label map, or other voxels in its place, in any format of SimpleITK."""
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray((label_array() if array is None else array).transpose())
        spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
        image.SetSpacing([float(s) for s in spacing])
        image.SetOrigin([-AFFINE[0, 3], -AFFINE[1, 3], AFFINE[2, 3]])
        sitk.WriteImage(image, str(path))
        return path


def make_things(root: Path) -> Things:
    """Make all of it in a folder."""
    root.mkdir(parents=True, exist_ok=True)
    make_bundle(root / "tiny")
    _add_shape_model(root / "tiny")
    (channel,) = TINY["channels"]
    channels = [channel, {**channel, "name": "FLAIR"}]
    make_bundle(root / "pair", name="pair", channels=channels)
    make_bundle(root / "strict", name="strict", label_dropout=0)
    write_data(root / "data", 3)
    (root / "data" / "plan.json").write_text(json.dumps(make_plan()))
    user = root / "user"
    user.mkdir()
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(user),
        "MEDDIFFUSION_HOME": str(user),
        "LC_ALL": "C.UTF-8",
        # Strict as in a user's own locale; the locale C.UTF-8 alone is not.
        "PYTHONIOENCODING": "utf-8:strict",
        "OMP_NUM_THREADS": "1",
    }
    return Things(root, environment)


def _add_shape_model(folder: Path) -> None:
    model = read_bundle(folder)
    maps = [
        Volume(np.roll(_shapes(width), 1, axis=0), np.eye(4), Kind.LABEL) for width in (5, 6, 7)
    ]
    values = [label.value for label in model.manifest.labels]
    digest = save_shape_model(fit_shape_model(maps, model.manifest.grid, values), folder)
    manifest = replace(model.manifest, shape_model_sha256=digest)
    write_bundle(folder, Model(manifest, model.denoiser, model.representation))


def _shapes(width: int) -> NDArray[np.int32]:
    array = np.zeros((16, 16, 16), np.int32)
    array[5:10, 3:8, 4 : 4 + width], array[5:10, 8:13, 4 : 4 + width] = 1, 2
    return array


def copy_bundled(target: Path) -> Path:
    """A copy of the bundled model."""
    shutil.copytree(resources_folder() / "Models" / DEFAULT_MODEL, target)
    return target


def set_threads() -> None:
    """Few threads here: the cores are for the commands."""
    torch.set_num_threads(1)
