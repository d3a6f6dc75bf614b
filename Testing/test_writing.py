"""Written volumes are what nibabel, SimpleITK and the header's own text say they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from data_factory import AFFINES, by_nibabel, image, label_map, ordinary_user, rotation
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import WRITABLE_SUFFIXES, check_writable, write_volume

every_affine = pytest.mark.parametrize("name", AFFINES)
every_suffix = pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
image_suffix = pytest.mark.parametrize("suffix", [s for s in WRITABLE_SUFFIXES if "seg" not in s])


def itk_affine(path: Path) -> NDArray[np.float64]:
    """The RAS affine that SimpleITK gives: where it puts the first voxel and its neighbours."""
    itk = sitk.ReadImage(str(path))
    corner = np.array(itk.TransformIndexToPhysicalPoint((0, 0, 0)))
    steps = [
        itk.TransformIndexToPhysicalPoint(tuple(e)) - corner for e in np.eye(3, dtype=int).tolist()
    ]
    lps = np.vstack([np.column_stack([*steps, corner]), [0, 0, 0, 1]])
    return np.diag([-1.0, -1, 1, 1]) @ lps


@every_affine
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sform_and_qform_of_a_nifti_are_the_affine(tmp_path: Path, name: str, suffix: str) -> None:
    volume = image(affine=AFFINES[name])
    write_volume(tmp_path / f"a{suffix}", volume)
    written = by_nibabel(tmp_path / f"a{suffix}")
    assert written.shape == volume.array.shape
    assert_array_equal(written.get_fdata(), volume.array)
    assert written.header.get_xyzt_units()[0] == "mm"
    scale = np.abs(volume.affine).max()
    for affine, code in (written.get_sform(coded=True), written.get_qform(coded=True)):
        assert code == 1
        assert_allclose(affine, volume.affine, rtol=0, atol=1e-6 * scale)
    assert_allclose(written.affine, volume.affine, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("turn", [(180, 0, 0), (179.9, 0.1, 0), (0, 180, 30), (90, 0, 180)])
def test_the_qform_holds_half_turns_to_the_precision_of_its_field(
    tmp_path: Path, turn: tuple[float, float, float]
) -> None:
    # Near a half turn, NIfTI derives the fourth part of the quaternion from a small difference of
    # float32 numbers, which is good to their root: about 3e-4.
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn)
    write_volume(tmp_path / "a.nii", image(affine=affine))
    written = by_nibabel(tmp_path / "a.nii")
    assert_allclose(written.get_sform(), affine, atol=1e-7)
    assert_allclose(written.get_qform(), affine, atol=1e-3)


@every_affine
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha"])
def test_simpleitk_finds_the_voxels_where_they_belong(
    tmp_path: Path, name: str, suffix: str
) -> None:
    volume = label_map(affine=AFFINES[name])
    path = tmp_path / f"a{suffix}"
    write_volume(path, volume)
    assert_allclose(itk_affine(path), volume.affine, rtol=0, atol=3e-5 if "nii" in suffix else 1e-9)
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert_array_equal(array.transpose(), volume.array)


@every_affine
def test_the_text_of_a_nrrd_header_gives_the_affine(tmp_path: Path, name: str) -> None:
    volume = image(affine=AFFINES[name])
    write_volume(tmp_path / "a.nrrd", volume)
    lines = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n")[0].decode().splitlines()
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    vectors = [
        [float(n) for n in vector.strip("()").split(",")]
        for vector in [*fields["space directions"].split(), fields["space origin"]]
    ]
    assert fields["space"] == "left-posterior-superior"
    assert fields["sizes"] == "5 6 7"
    expected = np.diag([-1, -1, 1]) @ volume.affine[:3]
    assert_allclose(np.array(vectors).T, expected, rtol=1e-12, atol=1e-12)


@every_affine
@image_suffix
def test_an_image_survives_writing_and_reading_twice(
    tmp_path: Path, name: str, suffix: str
) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    volume = image(affine=AFFINES[name])
    write_volume(first, volume)
    write_volume(second, read_image(first))
    again = read_image(second)
    assert again.array.dtype == np.float32
    assert_array_equal(again.array, volume.array)
    scale = np.abs(volume.affine).max()
    assert_allclose(again.affine, volume.affine, rtol=0, atol=1e-6 * scale)


@every_suffix
def test_the_same_volume_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}{suffix}", label_map())
    first, second = (tmp_path / f"{name}{suffix}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@every_affine
@every_suffix
def test_a_label_map_survives_writing_and_reading(tmp_path: Path, name: str, suffix: str) -> None:
    volume = label_map(affine=AFFINES[name], values=(0, 1, 300))
    write_volume(tmp_path / f"a{suffix}", volume)
    again = read_label_map(tmp_path / f"a{suffix}")
    assert_array_equal(again.array, volume.array)
    assert again.grid.equals(volume.grid, tolerance=1e-5)


@every_suffix
@pytest.mark.parametrize(
    ("highest", "pixel"),
    [(1, sitk.sitkUInt8), (255, sitk.sitkUInt8), (256, sitk.sitkUInt16), (65536, sitk.sitkUInt32)],
)
def test_labels_are_stored_in_the_smallest_type_that_holds_them(
    tmp_path: Path, suffix: str, highest: int, pixel: int
) -> None:
    write_volume(tmp_path / f"a{suffix}", label_map(values=(0, highest)))
    stored = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert stored.GetPixelID() == pixel
    assert sitk.GetArrayFromImage(stored).max() == highest


@image_suffix
@pytest.mark.parametrize("dtype", ["int16", "float64", "uint8"])
def test_intensities_are_stored_as_float32(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = Volume(image().array.astype(dtype), np.eye(4), Kind.INTENSITY)
    write_volume(tmp_path / f"a{suffix}", volume)
    stored = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert stored.GetPixelID() == sitk.sitkFloat32


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_voxels_are_compressed(tmp_path: Path, suffix: str) -> None:
    blank = Volume(np.zeros((50, 50, 50), np.float32), np.eye(4), Kind.INTENSITY)
    write_volume(tmp_path / f"a{suffix}", blank)
    assert (tmp_path / f"a{suffix}").stat().st_size < blank.array.nbytes / 100


def test_negative_labels_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="-1 is no label"):
        write_volume(tmp_path / "a.nrrd", label_map(values=(-1, 1)))


@every_suffix
def test_names_with_spaces_and_any_letters_work(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"Ergebnis 1.5 ä 脳{suffix}"
    write_volume(path, label_map())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert_array_equal(read_label_map(path).array, label_map().array)


@pytest.mark.parametrize("name", ["a.png", "a", "a.nii.zip", "a.mgz", "a.mhd"])
def test_another_suffix_is_refused_with_those_that_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        write_volume(tmp_path / name, image())
    assert all(suffix in str(caught.value) for suffix in WRITABLE_SUFFIXES)
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_not_written_as_segmentation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="named like a segmentation"):
        write_volume(tmp_path / "a.seg.nrrd", image())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        for attempt in (lambda p: write_volume(p, image()), check_writable):
            with pytest.raises(UserError, match=r"folder .* does not exist"):
                attempt(folder / "a.nii.gz")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").mkdir()
    for attempt in (lambda p: write_volume(p, image()), check_writable):
        with pytest.raises(UserError, match=r"a\.nrrd"):
            attempt(tmp_path / "a.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    tmp_path.chmod(0o555)
    try:
        with ordinary_user():
            for attempt in (lambda p: write_volume(p, image()), check_writable):
                with pytest.raises(UserError, match="cannot be written"):
                    attempt(path)
    finally:
        tmp_path.chmod(0o755)


def test_a_place_where_a_file_can_be_made_is_writable_and_left_alone(tmp_path: Path) -> None:
    check_writable(tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.nii.gz").write_text("old")
    check_writable(tmp_path / "a.nii.gz")
    assert (tmp_path / "a.nii.gz").read_text() == "old"


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let files grow no longer than this many bytes, as a full disk would."""
    if sys.platform == "win32":
        pytest.skip("file sizes cannot be limited here")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@image_suffix
@pytest.mark.parametrize("lacking", [100, 20_000])
def test_a_full_disk_is_told_and_leaves_the_old_file(
    tmp_path: Path, suffix: str, lacking: int, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = image((20, 20, 20))
    path = tmp_path / f"a{suffix}"
    write_volume(path, volume)
    size = path.stat().st_size
    path.write_text("old")
    with room_for(size - lacking), pytest.raises(UserError, match="cannot be written"):
        write_volume(path, volume)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"
    # ITK's MetaImage writer prints a line of its own.
    assert suffix == ".mha" or capfd.readouterr() == ("", "")
