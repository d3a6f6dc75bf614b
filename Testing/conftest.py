"""Shared fixtures: a tiny untrained model bundle, and a user folder of the tests' own.

Tests that start processes, or run in one of their own, bear the mark ``process``: single ones that
say so themselves, and else all of a file that imports ``subprocess`` or asks for the host.
``make test-fast`` leaves them out.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

# Tests run beside each other, one to a core, and so do the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from MedDiffusionLib.bundles.bundle import write_bundle
from MedDiffusionLib.bundles.manifest import BUNDLE_VERSION, Manifest, parse_plan_manifest
from MedDiffusionLib.bundles.model import build_model

torch.set_num_threads(1)
# A shell's background jobs, and so the processes that tests start there, would not hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

READING_PROCESS = "volumes.formats.itk_process"
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes, and put it first: what takes long must not begin at the end."""
    mark_themselves = {item.path for item in items if item.get_closest_marker("process")}
    for item in items:
        names = vars(getattr(item, "module", None))
        starts = "subprocess" in names or "host.isolation" in names.get("pytest_plugins", ())
        if starts and item.path not in mark_themselves:
            item.add_marker("process")
    processes = {item.path for item in items if item.get_closest_marker("process")}
    items.sort(key=lambda item: item.path not in processes)


@pytest.fixture(autouse=True)
def no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without the mark ``process`` starts none, but for the one that reads files for all."""
    start = subprocess.Popen.__init__

    def refuse(*given: Any, **named: Any) -> None:
        if READING_PROCESS not in str(given[1:2]):
            pytest.fail("a test that starts a process bears the mark process")
        start(*given, **named)

    if request.node.get_closest_marker("process") is None:
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
        monkeypatch.setattr(os, "fork", refuse)


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
