"""ITK reads in a process of its own: what it does there costs one file, and nothing else."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NoReturn

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_array_equal

from bad_files import BAD
from data_factory import SHAPE, write_dicom, write_mha, write_nifti, write_nrrd
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.formats import itk_client
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from test_rings import MODULE, PACKAGE, loaded_by

COUNT = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
LABELS = (COUNT % 4).astype(np.int16)


def process_id() -> int:
    assert itk_client._process is not None
    return itk_client._process.pid


def test_a_file_that_ends_the_process_costs_one_sentence_and_the_next_is_read(
    tmp_path: Path,
) -> None:
    good = write_nrrd(tmp_path / "good.nrrd", COUNT)
    _, make = BAD["NRRD of text that is none"]
    bad = make(tmp_path)
    for _ in range(3):
        with pytest.raises(UserError, match="cannot be read: it is damaged"):
            read_image(bad)
        assert_array_equal(read_image(good).array, COUNT)


def test_the_process_stays_for_the_next_file_and_for_what_is_refused(tmp_path: Path) -> None:
    good = write_mha(tmp_path / "good.mha", COUNT)
    read_image(good)
    first = process_id()
    _, make = BAD["singular MetaImage"]
    with pytest.raises(UserError):
        read_image(make(tmp_path))
    read_image(good)
    assert process_id() == first


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_process_that_was_ended_meanwhile_is_started_again(tmp_path: Path) -> None:
    good = write_nrrd(tmp_path / "good.nrrd", COUNT)
    read_image(good)
    os.kill(process_id(), signal.SIGKILL)
    assert itk_client._process is not None
    itk_client._process.wait()
    assert_array_equal(read_image(good).array, COUNT)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_process_that_the_system_ends_for_want_of_memory_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_and_answer(process: subprocess.Popen[bytes], request: object) -> NoReturn:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        raise EOFError

    path = write_nrrd(tmp_path / "a.nrrd", COUNT)
    monkeypatch.setattr(itk_client, "_answer", end_and_answer)
    with pytest.raises(UserError, match="free memory of this machine"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
def test_a_file_that_is_never_done_ends_with_its_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mha")
    request = {"path": str(tmp_path / "a.mha"), "reader": "MetaImageIO", "needed": 1, "stored": 1}
    with pytest.raises(EOFError):
        itk_client.ask({**request, "seconds": 0.2}, tmp_path / "a.mha")
    assert_array_equal(read_image(write_mha(tmp_path / "b.mha", COUNT)).array, COUNT)


def test_a_header_that_itk_reads_otherwise_is_refused_before_its_voxels(tmp_path: Path) -> None:
    path = write_mha(tmp_path / "a.mha", COUNT)
    request = {"path": str(path), "reader": "MetaImageIO", "stored": 1, "seconds": 60}
    facts, array = itk_client.ask({**request, "needed": COUNT.nbytes - 1}, path)
    assert array is None
    assert "several ways" in facts["damaged"]
    assert_array_equal(read_image(path).array, COUNT)


@pytest.mark.process
def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path / "good.nrrd", COUNT)
    script = (
        "import sys, pathlib\n"
        "from MedDiffusionLib.volumes import reading\n"
        "from MedDiffusionLib.volumes.formats import itk_client\n"
        "reading.read_image(pathlib.Path(sys.argv[1]))\n"
        "print(itk_client._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(MODULE)},
    )
    assert parent.stdout is not None
    reader = int(parent.stdout.readline())
    assert is_running(reader)
    parent.kill()
    parent.communicate()
    for _ in range(600):
        if not is_running(reader):
            return
        time.sleep(0.1)
    pytest.fail("the reading process is still there")


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_nothing_in_the_current_folder_is_taken_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itk_client.end()
    for name in ("numpy.py", "json.py", "SimpleITK.py"):
        (tmp_path / name).write_text("raise SystemExit\n")
    write_nrrd(tmp_path / "a.nrrd", COUNT)
    monkeypatch.chdir(tmp_path)
    assert_array_equal(read_image(Path("a.nrrd")).array, COUNT)


def test_nifti_and_mgh_need_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itk_client, "ask", lambda *_: pytest.fail("a process is asked"))
    assert_array_equal(read_image(write_nifti(tmp_path / "a.nii.gz", COUNT)).array, COUNT)
    nibabel.save(nibabel.MGHImage(COUNT, np.eye(4)), tmp_path / "a.mgz")
    assert_array_equal(read_image(tmp_path / "a.mgz").array, COUNT)


def test_a_process_that_cannot_be_started_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itk_client.end()
    path = write_nrrd(tmp_path / "a.nrrd", COUNT)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-that-is-not-there"))
    with pytest.raises(UserError, match=r"does not start \(No such file"):
        read_image(path)


def test_slicers_own_process_asks_no_reading_process() -> None:
    library = MODULE / PACKAGE
    found = loaded_by([*library.glob("scene/*.py"), *library.glob("widget/**/*.py")])
    assert any(name.startswith(f"{PACKAGE}.volumes.label_statistics") for name in found)
    assert [way for name, way in found.items() if "itk_client" in name] == []


def test_in_a_program_that_has_python_within_the_interpreter_beside_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    beside = tmp_path / "PythonSlicer"
    beside.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert itk_client._python(tmp_path) == str(beside)
    beside.unlink()
    with pytest.raises(UserError, match="no Python interpreter"):
        itk_client._python(tmp_path)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are UTF-8")
@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "nhdr", "mha", "mhd", "gipl", "gipl.gz"])
def test_a_file_name_of_any_bytes_is_read(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / os.fsdecode(b"gro\xdf")
    folder.mkdir()
    image = sitk.GetImageFromArray(LABELS.transpose())
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    for path in tmp_path.glob("a.*"):
        # A header names its voxels by their name, which stays.
        is_data = path.suffix in (".raw", ".gz") and suffix in ("nhdr", "mhd")
        path.rename(folder / (path.name if is_data else os.fsdecode(b"b\xe9.") + suffix))
    assert_array_equal(
        read_label_map(folder / os.fsdecode(b"b\xe9." + suffix.encode())).array, LABELS
    )


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are UTF-8")
def test_a_dicom_series_of_names_of_any_bytes_is_read(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / os.fsdecode(b"s\xe9rie"[:1]), COUNT)
    for n, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / os.fsdecode(b"\xff%d" % n))
    assert_array_equal(read_image(folder).array, COUNT)
    moved = folder.rename(tmp_path / os.fsdecode(b"s\xe9rie"))
    assert_array_equal(read_image(moved).array, COUNT)


def test_metadata_of_any_bytes_are_read_over(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", COUNT, "KEY:=value")
    path.write_bytes(path.read_bytes().replace(b"KEY:=value", b"\xffEY:=\xfe\xff"))
    assert_array_equal(read_image(path).array, COUNT)


@pytest.mark.parametrize("length", [2**18 - 1, 2**18, 2**18 + 1, 2**19])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_deflated_voxels_of_any_length_are_read(tmp_path: Path, length: int, level: int) -> None:
    array = np.zeros((2, 2, length), np.int16)
    array[1] = np.arange(length) % 7
    data = zlib.compress(array.tobytes("F"), level)
    fields = f"CompressedData = True\nCompressedDataSize = {len(data)}"
    assert_array_equal(
        read_label_map(write_mha(tmp_path / "a.mha", array, fields, data)).array, array
    )


def test_more_packed_voxels_than_a_gipl_needs_are_not_unpacked(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(COUNT.transpose()), str(tmp_path / "a.gipl"))
    content = (tmp_path / "a.gipl").read_bytes()
    (tmp_path / "a.gipl.gz").write_bytes(gzip.compress(content) + b"\x1f\x8b no more gzip")
    assert_array_equal(read_image(tmp_path / "a.gipl.gz").array, COUNT)
