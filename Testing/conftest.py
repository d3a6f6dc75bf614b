"""Shared fixtures: a tiny untrained model bundle, and a user folder of the tests' own.

Tests that start processes, or run in one of their own, bear the mark ``process``: single ones that
say so themselves, and else all of a file that imports ``subprocess`` or asks for the host.
``make test-fast`` leaves them out.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MedDiffusionLib.bundles.manifest import (
    BUNDLE_VERSION,
    Manifest,
    parse_plan_manifest,
    read_manifest,
)
from MedDiffusionLib.bundles.names import MANIFEST_NAME
from MedDiffusionLib.compute.files import write_json

# Tests run beside each other, one to a core, and so do the processes that they start. Torch reads
# it once it is loaded, which no file of Slicer's parts needs: that takes longer than most of them.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
# A shell's background jobs, and so the processes that tests start there, would not hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHELF = "MEDDIFFUSION_TEST_BUNDLES"  # The folder of the bundles that were made.
NO_WEIGHTS = ("name", "title", "grid", "sampling")  # Of a manifest, what its weights do not follow.
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


def pytest_configure() -> None:
    shelf()


def shelf() -> Path:
    """Where bundles are kept: one folder for a process and all that it starts."""
    if SHELF not in os.environ:
        os.environ[SHELF] = tempfile.mkdtemp(prefix="bundles-")
        atexit.register(shutil.rmtree, os.environ[SHELF], ignore_errors=True)
    return Path(os.environ[SHELF])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What shares a process stays together, and so do the tests of any other file."""
    from xdist.scheduler import LoadFileScheduling

    from host.isolation import process_of

    class LoadProcessScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return process_of(super()._split_scope(nodeid))

    return LoadProcessScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Where torch is loaded anyway, make the bundle that processes without it want."""
    if "torch" in sys.modules:
        make_bundle(Path(tempfile.mkdtemp(dir=shelf())))


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
    """Write the tiny bundle, its manifest changed as told; random weights, fixed seed.

    Weights are made once in a run, then copied, so that a process without torch can have them.
    """
    shaping = {key: value for key, value in changes.items() if key not in NO_WEIGHTS}
    facts = json.dumps(shaping, sort_keys=True)
    kept = shelf() / hashlib.sha256(facts.encode()).hexdigest()
    if not kept.exists():
        build_bundle(kept, shaping)
    shutil.copytree(kept, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    manifest = replace(tiny_manifest(**changes), weights=read_manifest(kept).weights)
    write_json(folder / MANIFEST_NAME, manifest.to_json())
    return folder


def build_bundle(folder: Path, changes: dict[str, Any]) -> None:
    """Make a bundle; another process may make the same one meanwhile."""
    import torch

    from MedDiffusionLib.bundles.bundle import write_bundle
    from MedDiffusionLib.bundles.model import build_model

    torch.manual_seed(0)
    model = build_model(tiny_manifest(**changes))
    for parameter in model.parameters():
        # The zero-initialized layers would make every result independent of its label map.
        torch.nn.init.normal_(parameter, std=0.05)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    made.chmod(0o755)
    write_bundle(made, model)
    with contextlib.suppress(OSError):
        made.rename(folder)


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny")
