"""Wherever torch is started, threads that wait for others soon sleep, unless the user chose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from MedDiffusionLib.compute.threads import POLICY, SETTINGS, wait_passively
from MedDiffusionLib.worker.client import WorkerClient

LIBRARY = Path(__file__).parents[1] / "MedDiffusion"
STARTS = {
    "command": ["-m", "MedDiffusionLib", "synthesize", "labels.nii", "-o", "volume.nii"],
    "training, as torchrun starts it": ["-m", "MedDiffusionLib.train", "--output", "model"],
    "worker": ["-m", "MedDiffusionLib.worker"],
    "module Synthesize": [
        str(LIBRARY / "CLI" / "MedDiffusionSynthesize.py"),
        "--label_map",
        "labels.nii",
        "--output_volume",
        "volume.nii",
    ],
    "module Train": [str(LIBRARY / "CLI" / "MedDiffusionTrain.py"), "--output", "model"],
}
"""What Python is started with, by what it starts; each loads torch before it misses anything."""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting yet, and a torch that writes down the setting it is loaded with, to a file."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    seen = tmp_path / "seen"
    (tmp_path / "labels.nii").touch()
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "torch.py").write_text(
        "import os, pathlib\n"
        f"policy = os.environ.get({POLICY!r}, 'none')\n"
        f"pathlib.Path({str(seen)!r}).write_text(policy)\n"
        "os._exit(0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "shadow"), str(LIBRARY)]))
    return seen


@pytest.mark.parametrize("what", STARTS)
def test_torch_is_loaded_with_passive_waiting(environment: Path, tmp_path: Path, what: str) -> None:
    start(tmp_path, STARTS[what])
    assert environment.read_text() == "PASSIVE"


@pytest.mark.parametrize("what", STARTS)
def test_what_the_user_has_set_is_kept(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv(POLICY, "ACTIVE")
    start(tmp_path, STARTS[what])
    assert environment.read_text() == "ACTIVE"


@pytest.mark.parametrize("users", [None, "ACTIVE"])
def test_a_worker_is_started_with_it(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: str | None
) -> None:
    """So its Python may load torch before the worker's first line; Slicer's own stays as it is."""
    if users:
        monkeypatch.setenv(POLICY, users)
    client = WorkerClient([sys.executable, "-c", "import torch", "--"], tmp_path)
    client.submit(lambda folder: {"do": "nothing"}, lambda event: None)
    process = client._process
    assert process is not None
    process.wait()
    client.close()
    assert environment.read_text() == (users or "PASSIVE")
    assert os.environ.get(POLICY) == users


@pytest.mark.parametrize("name", SETTINGS)
def test_any_setting_of_the_users_is_their_choice(name: str) -> None:
    chosen = {name: "theirs"}
    wait_passively(chosen)
    assert chosen == {name: "theirs"}


@pytest.mark.skipif(sys.platform != "linux", reason="torch comes with another runtime here")
def test_torchs_own_runtime_understands_it() -> None:
    """It tells how often a waiting thread looks before it sleeps."""
    environment: dict[str, str] = {}
    wait_passively(environment)
    others = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", "import torch"], capture_output=True, text=True, check=True,
        env={**others, **environment, "OMP_DISPLAY_ENV": "VERBOSE"},
    )  # fmt: skip
    assert "GOMP_SPINCOUNT = '2000'" in done.stderr


def start(folder: Path, arguments: list[str]) -> None:
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        check=True,
    )  # fmt: skip
