"""An output folder has one writer at a time, and keeps nothing of a killed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.locks import folder_lock

HOLDER = """
import sys, time
from pathlib import Path
from MedDiffusionLib.compute.locks import folder_lock
with folder_lock(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["shared", "alone"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the folder; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), request.param],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    request.addfinalizer(process.wait)
    request.addfinalizer(process.kill)
    return process


def test_a_held_folder_is_refused_until_its_holder_is_killed(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is being written by another run"), folder_lock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with folder_lock(tmp_path):
        assert list(tmp_path.iterdir()) == [], "the lock itself is no file"


def test_only_those_who_share_come_in_together(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    stray = tmp_path / ".meddiffusion-0123456789abcdef.nii.gz"
    stray.touch()
    if "shared" in holder.args:  # type: ignore[operator]
        with folder_lock(tmp_path, shared=True):
            assert stray.exists(), "it may be the other's"
    else:
        with pytest.raises(UserError), folder_lock(tmp_path, shared=True):
            pass


@pytest.mark.parametrize("shared", [False, True])
def test_temporary_files_that_nobody_writes_are_removed(tmp_path: Path, shared: bool) -> None:
    (tmp_path / ".meddiffusion-0123456789abcdef.seg.nrrd").touch()
    (tmp_path / ".meddiffusion-fedcba9876543210").touch()
    (tmp_path / ".meddiffusion-notes.txt").touch()
    with folder_lock(tmp_path, shared=shared):
        assert [path.name for path in tmp_path.iterdir()] == [".meddiffusion-notes.txt"]


def test_a_failure_inside_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), folder_lock(tmp_path):
        raise BlockingIOError
    with folder_lock(tmp_path):
        pass
