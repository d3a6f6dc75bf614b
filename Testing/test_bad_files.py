"""Files that cannot be used are refused with one sentence, and nothing is printed."""

from __future__ import annotations

import shutil
import tempfile
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bad_files import BAD, COUNT, LABELS, NO_LABELS
from data_factory import (
    AFFINES,
    SHAPE,
    ordinary_user,
    write_dicom,
    write_mha,
    write_nifti,
    write_nrrd,
)
from MedDiffusionLib.compute.errors import UserError, printable
from MedDiffusionLib.volumes.formats import dicom
from MedDiffusionLib.volumes.formats.content import MAX_VOXELS
from MedDiffusionLib.volumes.reading import read_image, read_label_map


def assert_refused(
    read: Callable[[Path], object], path: Path, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the file and says what is wrong, and nothing printed."""
    capfd.readouterr()
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("error")
        read(path)
    message = str(caught.value)
    where = printable(str(path))
    assert message.startswith(where)
    assert words in message
    assert message.endswith(".")
    assert ":" in message.removeprefix(where)
    assert message.isprintable()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.fixture(autouse=True)
def no_logging(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Where nobody listens, Python prints what libraries log."""
    yield
    assert caplog.records == []


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_a_bad_file_is_refused_in_silence_with_one_sentence(
    tmp_path: Path,
    name: str,
    read: Callable[[Path], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, make = BAD[name]
    assert_refused(read, make(tmp_path), words, capfd)


@pytest.mark.parametrize("name", NO_LABELS)
def test_an_image_is_refused_as_label_map(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words, make = NO_LABELS[name]
    assert_refused(read_label_map, make(tmp_path), words, capfd)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("write", [write_nifti, write_nrrd])
def test_an_image_with_a_number_that_is_none_is_refused(
    tmp_path: Path, bad: float, write: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    array = COUNT.astype(np.float32)
    array[1, 2, 3] = bad
    path = tmp_path / ("a.nii.gz" if write is write_nifti else "a.nrrd")
    assert_refused(read_image, write(path, array), "NaN, infinite or huge", capfd)


def test_an_image_beyond_float32_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_nifti(tmp_path / "a.nii", np.full(SHAPE, 1e300))
    assert_refused(read_image, path, "NaN, infinite or huge", capfd)


def test_a_segmentation_is_refused_as_image(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_nrrd(tmp_path / "a.seg.nrrd", LABELS, "Segment0_ID:=a")
    assert_refused(read_image, path, "is a segmentation", capfd)


def test_a_file_that_may_not_be_read_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    # Not tmp_path: its parents are closed to everyone but their owner.
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        path = write_nifti(folder / "a.nii", LABELS)
        path.chmod(0)
        closed = write_dicom(folder / "closed", LABELS)
        header = write_nrrd(folder / "b.nhdr", LABELS, "data file: a.nii", b"")
        closed.chmod(0)
        with ordinary_user():
            assert_refused(read_image, path, "permission", capfd)
            assert_refused(read_image, closed, "permission", capfd)
            assert_refused(read_image, closed / "1-000.dcm", "permission", capfd)
            assert_refused(read_image, header, "cannot be opened (Permission denied)", capfd)
    finally:
        closed.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("name", "most"), [("_MAX_FILES", 5), ("_MAX_BYTES", 2000)])
def test_a_folder_of_far_too_much_is_no_series(
    tmp_path: Path,
    name: str,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dicom, name, most)
    assert_refused(read_image, write_dicom(tmp_path / "a", LABELS), "holds more than", capfd)


def test_a_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    voxels = zlib.compress(bytes(2**26))
    path = write_mha(tmp_path / "a.mha", LABELS, "CompressedData = True", voxels)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="damaged, incomplete"):
            read_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def test_a_file_name_does_not_change_the_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spacing allocated.nrrd"
    path.write_text("hello")
    assert_refused(read_image, path, "damaged, incomplete", capfd)


def test_the_largest_volume_allowed_is_refused_only_for_its_missing_voxels(tmp_path: Path) -> None:
    size = round(MAX_VOXELS ** (1 / 3))
    for extra, words in [(0, "incomplete"), (8, "too large")]:
        n = size // 8 * 8 + extra
        path = write_mha(tmp_path / "a.mha", LABELS, f"DimSize = {n} {n} {n}")
        with pytest.raises(UserError, match=words):
            read_image(path)


def test_axes_within_rounding_of_right_angles_are_accepted(tmp_path: Path) -> None:
    tilted = AFFINES["oblique"].copy()
    tilted[0, 1] += 1e-5
    path = write_nifti(tmp_path / "a.nii", LABELS, tilted)
    np.testing.assert_allclose(read_image(path).affine, tilted, rtol=1e-6)
