"""Files of every format read as nibabel, SimpleITK or the bytes themselves say."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from data_factory import (
    AFFINES,
    SHAPE,
    affine,
    by_nibabel,
    rotation,
    shared_file,
    write_dicom,
    write_mha,
    write_nifti,
    write_nrrd,
)
from MedDiffusionLib.training.data.label_tables import read_label_table
from MedDiffusionLib.volumes.reading import (
    has_image_suffix,
    image_files,
    read_image,
    read_label_map,
    stem,
)
from MedDiffusionLib.volumes.resampling import to_sitk
from MedDiffusionLib.volumes.volume import Kind, Volume

COUNT = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
LABELS = (COUNT % 4).astype(np.uint8)
every_affine = pytest.mark.parametrize("name", AFFINES)


def write_by_itk(path: Path, array: np.ndarray, name: str, compress: bool = False) -> Path:
    volume = Volume(array, AFFINES[name], Kind.INTENSITY)
    sitk.WriteImage(to_sitk(volume), str(path), useCompression=compress)
    return path


@every_affine
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_is_read_as_nibabel_reads_it(
    tmp_path: Path, name: str, suffix: str, image_class: type
) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", COUNT, AFFINES[name], image_class=image_class)
    volume = read_image(path)
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, by_nibabel(path).affine, rtol=0, atol=1e-12)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.writeable


@every_affine
def test_a_nifti_with_only_a_qform_lies_where_nibabel_says(tmp_path: Path, name: str) -> None:
    def only_qform(image: nibabel.Nifti1Image) -> None:
        image.set_sform(None, 0)
        image.set_qform(AFFINES[name], 1)

    path = write_nifti(tmp_path / "a.nii", COUNT, AFFINES[name], only_qform)
    assert_allclose(read_image(path).affine, by_nibabel(path).affine, rtol=0, atol=2e-5)


@every_affine
def test_a_nifti_with_only_an_sform_lies_where_nibabel_says(tmp_path: Path, name: str) -> None:
    def only_sform(image: nibabel.Nifti1Image) -> None:
        image.set_qform(None, 0)
        image.set_sform(AFFINES[name], 2)
        image.header["pixdim"][1:4] = 0

    path = write_nifti(tmp_path / "a.nii", COUNT, AFFINES[name], only_sform)
    assert_allclose(read_image(path).affine, by_nibabel(path).affine, rtol=0, atol=1e-12)


@pytest.mark.parametrize("code", [1, 2, 4])
def test_where_sform_and_qform_differ_the_sform_counts(tmp_path: Path, code: int) -> None:
    def both(image: nibabel.Nifti1Image) -> None:
        image.set_qform(AFFINES["identity"], 1)
        image.set_sform(AFFINES["oblique"], code)

    path = write_nifti(tmp_path / "a.nii", COUNT, edit=both)
    assert_allclose(read_image(path).affine, by_nibabel(path).affine, rtol=0, atol=1e-12)


def test_a_big_endian_nifti_is_read(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(COUNT, AFFINES["oblique"], header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == struct.pack(">i", 348)
    volume = read_image(tmp_path / "a.nii")
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, AFFINES["oblique"], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_number_type_of_nifti_is_read(tmp_path: Path, dtype: str) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", LABELS.astype(dtype))
    assert_array_equal(read_image(path).array, LABELS)
    assert_array_equal(read_label_map(path).array, LABELS)
    assert read_label_map(path).array.dtype == np.uint8


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(1, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4"), (2**31 - 1, "u4")],
)
@pytest.mark.parametrize("stored", ["<i8", ">i8", "<u8", ">f8"])
def test_labels_are_of_the_smallest_type_that_holds_them(
    tmp_path: Path, highest: int, dtype: str, stored: str
) -> None:
    array = np.where(LABELS == 3, highest, 0)
    header = nibabel.Nifti1Header(endianness=stored[0])
    header.set_data_dtype(stored)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii")
    labels = read_label_map(tmp_path / "a.nii")
    assert labels.array.dtype == np.dtype(dtype)
    assert_array_equal(labels.array, array)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_label_map_of_bytes_is_held_once(tmp_path: Path, name: str) -> None:
    array = np.zeros((300, 300, 100), np.uint8)
    array[100:103, 50:53, 20:23] = 1
    write_by_itk(tmp_path / name, array, "identity", compress=True)
    read_label_map(write_by_itk(tmp_path / f"small-{name}", LABELS, "identity"))
    tracemalloc.start()
    try:
        labels = read_label_map(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert labels.label_statistics.counts == {0: array.size - 27, 1: 27}
    assert peak < 1.5 * array.nbytes + 2**22


def test_the_images_of_a_folder_are_its_files_that_are_not_hidden(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "._b.nii.gz", ".meddiffusion-0123.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.mha").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.nrrd", "b.nii.gz"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("CHAR", "i1"), ("UCHAR", "u1"), ("SHORT", "i2"), ("USHORT", "u2"), ("INT", "i4"),
        ("UINT", "u4"), ("LONG", "i4"), ("ULONG", "u4"), ("LONG_LONG", "i8"),
        ("ULONG_LONG", "u8"), ("FLOAT", "f4"), ("DOUBLE", "f8"),
    ],
)  # fmt: skip
def test_every_number_type_of_metaimage_is_read(tmp_path: Path, name: str, dtype: str) -> None:
    path = write_mha(tmp_path / "a.mha", LABELS.astype(dtype), f"ElementType = MET_{name}")
    assert_array_equal(read_label_map(path).array, LABELS)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("signed char", "i1"), ("uint8_t", "u1"), ("short int", "i2"), ("unsigned short", "u2"),
        ("signed int", "i4"), ("uint32", "u4"), ("long long int", "i8"), ("uint64_t", "u8"),
        ("float", "f4"), ("double", "f8"),
    ],
)  # fmt: skip
def test_every_number_type_of_nrrd_is_read(tmp_path: Path, name: str, dtype: str) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", LABELS.astype(dtype), f"type: {name}")
    assert_array_equal(read_label_map(path).array, LABELS)


@pytest.mark.parametrize("encoding", ["raw", "ascii", "text", "hex", "gzip", "gz"])
@pytest.mark.parametrize("detached", [False, True])
def test_every_encoding_of_nrrd_is_read(tmp_path: Path, encoding: str, detached: bool) -> None:
    raw = LABELS.tobytes("F")
    text = "\n".join(str(n) for n in LABELS.ravel("F")).encode()
    packed = {"raw": raw, "hex": raw.hex().encode(), "gzip": gzip.compress(raw)}
    data = {**packed, "gz": packed["gzip"]}.get(encoding, text)
    fields = f"encoding: {encoding}"
    if detached:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "b.raw").write_bytes(data)
        fields, data = f"{fields}\ndata file: inner/b.raw", b""
    path = write_nrrd(tmp_path / ("a.nhdr" if detached else "a.nrrd"), LABELS, fields, data)
    assert_array_equal(read_label_map(path).array, LABELS)


@pytest.mark.parametrize(
    ("fields", "before"),
    [("byte skip: 9", b"123456789"), ("byte skip: -1", b"12345"), ("line skip: 2", b"a\nb\n")],
)
def test_what_comes_before_the_voxels_of_a_nrrd_is_skipped(
    tmp_path: Path, fields: str, before: bytes
) -> None:
    (tmp_path / "b.raw").write_bytes(before + LABELS.tobytes("F"))
    path = write_nrrd(tmp_path / "a.nhdr", LABELS, f"{fields}\ndata file: b.raw", b"")
    assert_array_equal(read_label_map(path).array, LABELS)


@pytest.mark.parametrize(("header", "before"), [(7, b"1234567"), (-1, b"1234")])
def test_what_comes_before_the_voxels_of_a_metaimage_is_skipped(
    tmp_path: Path, header: int, before: bytes
) -> None:
    (tmp_path / "b.raw").write_bytes(before + COUNT.tobytes("F"))
    fields = f"HeaderSize = {header}\nElementDataFile = b.raw"
    path = write_mha(tmp_path / "a.mha", COUNT, fields, b"").rename(tmp_path / "a.mhd")
    assert_array_equal(read_image(path).array, COUNT)


@pytest.mark.parametrize("size", [0, -16, 7, 2**31 - 16])
def test_an_extension_of_any_size_is_neither_read_nor_in_the_way(tmp_path: Path, size: int) -> None:
    path = write_nifti(tmp_path / "a.nii", LABELS)
    header, voxels = path.read_bytes()[:352], path.read_bytes()[352:]
    content = bytearray(header[:348] + b"\1\0\0\0" + struct.pack("<2i", size, 0) + b"<x" * 12)
    struct.pack_into("<f", content, 108, len(content))
    with gzip.open(tmp_path / "b.nii.gz", "wb") as packed:
        packed.write(bytes(content) + voxels)
    assert_array_equal(read_label_map(tmp_path / "b.nii.gz").array, LABELS)
    assert read_label_table(tmp_path / "b.nii.gz") == {}


def test_nifti_values_are_scaled_by_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(COUNT, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert_allclose(
        read_image(tmp_path / "a.nii.gz").array,
        by_nibabel(tmp_path / "a.nii.gz").get_fdata(),
        atol=1e-4,
    )


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_a_nifti_slope_of_zero_or_nan_means_unscaled(tmp_path: Path, slope: float) -> None:
    path = write_nifti(tmp_path / "a.nii", COUNT)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, slope, 5.0)
    path.write_bytes(content)
    assert_array_equal(read_image(path).array, COUNT)


def test_labels_scaled_to_whole_numbers_are_labels(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", LABELS)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, 2.0, 1.0)
    path.write_bytes(content)
    assert_array_equal(read_label_map(path).array, LABELS * 2 + 1)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1)])
def test_nifti_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    path = write_nifti(
        tmp_path / "a.nii", COUNT, AFFINES["oblique"], lambda i: i.header.set_xyzt_units(unit)
    )
    expected = AFFINES["oblique"] * np.array([[factor]] * 3 + [[1]])
    assert_allclose(read_image(path).affine, expected, rtol=1e-6)


def test_a_trailing_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    assert_array_equal(read_image(write_nifti(tmp_path / "a.nii", COUNT[..., None])).array, COUNT)
    matrix = " ".join(str(n) for n in np.eye(4).ravel())
    fields = f"TransformMatrix = {matrix}\nOffset = 0 0 0 0\nElementSpacing = 1 1 1 1"
    path = write_mha(tmp_path / "a.mha", COUNT[..., None], fields)
    assert_array_equal(read_image(path).array, COUNT)


@every_affine
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compress", [False, True])
def test_nrrd_and_metaimage_lie_where_simpleitk_wrote_them(
    tmp_path: Path, name: str, suffix: str, compress: bool
) -> None:
    volume = read_image(write_by_itk(tmp_path / f"a{suffix}", COUNT, name, compress))
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, AFFINES[name], rtol=0, atol=1e-9)


def test_a_nrrd_in_ras_and_one_in_lps_of_opposite_axes_lie_alike(tmp_path: Path) -> None:
    ras = "space: right-anterior-superior\nspace directions: (-2,0,0) (0,3,0) (0,0,4)\n"
    lps = "space directions: (2,0,0) (0,-3,0) (0,0,4)\n"
    ras_path = write_nrrd(tmp_path / "a.nrrd", COUNT, ras + "space origin: (5,6,7)")
    lps_path = write_nrrd(tmp_path / "b.nrrd", COUNT, lps + "space origin: (-5,-6,7)")
    expected = affine(np.diag([-1.0, 1, 1]), (2, 3, 4), (5, 6, 7))
    assert_allclose(read_image(ras_path).affine, expected)
    assert_allclose(read_image(lps_path).affine, expected)


def test_a_hand_written_metaimage_has_one_axis_a_line_of_its_matrix(tmp_path: Path) -> None:
    fields = (
        "TransformMatrix = 0 1 0 0 0 1 1 0 0\nElementSpacing = 2 3 4\nOffset = 5 6 7\nComment = ä=b"
    )
    expected = np.array([[0, 0, -4, -5], [-2, 0, 0, -6], [0, 3, 0, 7], [0, 0, 0, 1]])
    path = write_mha(tmp_path / "a.mha", COUNT, fields)
    assert_allclose(read_image(path).affine, expected)
    image = sitk.ReadImage(str(path))
    assert image.TransformIndexToPhysicalPoint((1, 0, 0)) == (5, 8, 7)


def test_a_big_endian_metaimage_is_read(tmp_path: Path) -> None:
    path = write_mha(
        tmp_path / "a.mha", COUNT, "BinaryDataByteOrderMSB = True", COUNT.astype(">i2").tobytes("F")
    )
    assert_array_equal(read_image(path).array, COUNT)


@every_affine
@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_mgh_is_read_as_nibabel_reads_it(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    nibabel.save(nibabel.MGHImage(COUNT.astype(np.int32), AFFINES[name]), path)
    volume = read_label_map(path)
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, by_nibabel(path).affine, rtol=0, atol=2e-5)


@pytest.mark.parametrize("suffix", [".gipl", ".gipl.gz"])
def test_gipl_is_read_as_simpleitk_reads_it(tmp_path: Path, suffix: str) -> None:
    # The format keeps no axes, so those of ITK's world (left, posterior, superior) are used.
    volume = read_image(write_by_itk(tmp_path / f"a{suffix}", COUNT, "LPS"))
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, AFFINES["LPS"], rtol=1e-6)


def test_a_dicom_folder_is_read_in_the_order_of_its_positions(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "series", COUNT, (0.5, 0.75, 2.0))
    names = sorted(folder.iterdir())
    names[0].rename(folder / "z.dcm")
    (folder / "notes.txt").write_text("no image")
    volume = read_image(folder)
    assert_array_equal(volume.array, COUNT)
    assert_allclose(volume.affine, affine(np.diag([-1.0, -1, 1]), (0.5, 0.75, 2.0)))


@pytest.mark.parametrize("name", ["fall 1 ä.nii.gz", "Ü b.nrrd", "脳 1.mha", "é à.mhd", "ß.mgz"])
def test_names_with_spaces_and_any_letters_work(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "Ordner ñ"
    folder.mkdir()
    path = folder / name
    if path.suffix == ".gz":
        write_nifti(path, LABELS)
    elif path.suffix == ".mgz":
        nibabel.save(nibabel.MGHImage(LABELS, np.eye(4)), path)
    else:
        write_by_itk(path, LABELS, "identity")
    assert_array_equal(read_label_map(path).array, LABELS)


def test_a_dicom_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "Serie 1 脳", COUNT)
    assert_array_equal(read_image(folder).array, COUNT)


def test_the_stem_is_the_name_without_its_image_suffix() -> None:
    names = {
        "case 1.seg.nrrd": "case 1",
        "a.b.NII.GZ": "a.b",
        "x.mgz": "x",
        "y.gipl.gz": "y",
        "notes.txt": "notes",
    }
    assert {name: stem(Path(name)) for name in names} == names
    assert [has_image_suffix(Path(name)) for name in names] == [True, True, True, True, False]


def test_a_real_oblique_ct_lies_where_nibabel_says() -> None:
    path = shared_file("formats/oblique-ct.nii.gz")
    expected = by_nibabel(path)
    volume = read_image(path)
    assert_allclose(volume.affine, expected.affine, atol=1e-9)
    assert_array_equal(volume.array, expected.get_fdata())


def test_a_real_ct_has_42_label_values() -> None:
    path = shared_file("formats/ct-multi-organ/example_seg.nii.gz")
    assert np.unique(read_label_map(path).array).size == 42


def test_a_real_nrrd_with_flipped_axes_is_read_whole() -> None:
    image = read_image(shared_file("formats/brain2_image.nrrd"))
    labels = read_label_map(shared_file("formats/brain2_label.nrrd"))
    assert image.grid.equals(labels.grid)
    expected = affine(np.diag([-1.0, 1, 1]), (0.78125, 0.78125, 6.5), (110, -103.41874695, -62.7))
    assert_allclose(image.affine, expected, rtol=1e-7)


def test_a_real_dicom_series_is_read_whole() -> None:
    volume = read_image(shared_file("formats/dicom-ct-head"))
    assert volume.array.shape == (64, 64, 93)
    assert_allclose(volume.affine, affine(np.diag([-1.0, -1, 1]), (3.2, 3.2, 1.5)))
    first = sitk.ReadImage(str(shared_file("formats/dicom-ct-head/CTHead1.dcm")))
    assert_array_equal(volume.array[..., 0], sitk.GetArrayFromImage(first)[0].T)


def test_a_rotation_is_what_the_tests_take_it_for() -> None:
    assert_allclose(rotation(0, 0, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert_allclose(rotation(90, 0, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
