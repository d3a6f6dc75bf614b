"""Shared fixtures: a tiny untrained model bundle, and a user folder of the tests' own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from MedDiffusionLib.bundles.bundle import write_bundle
from MedDiffusionLib.bundles.manifest import BUNDLE_VERSION, Manifest, parse_plan_manifest
from MedDiffusionLib.bundles.model import build_model

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "bundle_version": BUNDLE_VERSION,
    "name": "tiny",
    "version": "0",
    "title": "Tiny untrained model",
    "description": "For tests.",
    "architecture": {
        "network": {
            "name": "resunet",
            "channels": [8, 8],
            "blocks": 1,
            "groups": 4,
            "embedding": 8,
        },
        "representation": {"name": "haar", "levels": 1},
        "schedule": {"name": "cosine"},
        "parameterization": "v",
    },
    "labels": [
        {"value": 1, "name": "anterior", "color": [230, 120, 60], "code": "SCT:1"},
        {"value": 2, "name": "posterior", "color": [70, 150, 220], "code": "SCT:2"},
    ],
    "label_dropout": 0.1,
    "channels": [{"name": "T1w", "units": "arbitrary", "range": [0, 1000]}],
    "grid": {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size": [16, 16, 16]},
    "intensity": {"percentiles": [0.5, 99.5]},
    "sampling": {"sampler": "ddim", "steps": 2, "guidance": 1.0},
    "license": "CC0-1.0",
    "attribution": "Nobody's data.",
    "training": {"data": "none", "cases": 1, "iterations": 0, "command": "none"},
    "figures": [],
}


@pytest.fixture(autouse=True)
def own_user_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """No test reads or writes the real user folder; the execution choice is not measured anew."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("MEDDIFFUSION_HOME", str(folder))
    return folder


def tiny_manifest(**changes: Any) -> Manifest:
    """The tiny model's manifest, changed as told."""
    return parse_plan_manifest({**copy.deepcopy(TINY), **changes})


def make_bundle(folder: Path, **changes: Any) -> Path:
    """Write the tiny bundle, its manifest changed as told; random weights, fixed seed."""
    torch.manual_seed(0)
    model = build_model(tiny_manifest(**changes))
    for parameter in model.parameters():
        # The zero-initialized layers would make every result independent of its label map.
        torch.nn.init.normal_(parameter, std=0.05)
    write_bundle(folder, model)
    return folder


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny")
