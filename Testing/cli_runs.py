"""What tests of the command share: label maps in files, a tiny model, what a refusal looks like."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from conftest import make_bundle
from MedDiffusionLib.commands.cli import main

SIZE = (18, 20, 22)


def labels() -> np.ndarray:
    array = np.zeros(SIZE, np.uint8)
    array[6:12, 6:10, 8:14], array[6:12, 10:14, 8:14] = 1, 2
    return array


def nifti(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = labels() if array is None else array
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def nrrd(path: Path, directions: str, sizes: str = "18 20 22", data: bytes | None = None) -> Path:
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {sizes}\nspace directions: {directions}\nkinds: domain domain domain\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path.write_bytes(header.encode() + (labels().tobytes("F") if data is None else data))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "models" / "tiny")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def synthesize(source: Path, output: Path, model: Path, *more: str) -> int:
    return main(["synthesize", str(source), "-o", str(output), "--model", str(model), *more])


def refused(capfd: pytest.CaptureFixture[str], code: int) -> str:
    """The one sentence on stderr of a refused command."""
    captured = capfd.readouterr()
    assert code == 1
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("meddiffusion: error: ")
    assert line.endswith(".")
    return line


def run_command(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; ``limit`` bounds the files it may write, in bytes."""

    def bound() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "MedDiffusionLib", *map(str, arguments)],
        capture_output=True, text=True, preexec_fn=bound, check=False,
    )  # fmt: skip
