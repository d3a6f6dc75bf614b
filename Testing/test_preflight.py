"""The check before training: each kind of bad data one sentence, and statistics as computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from data_factory import AFFINES, shared_file, write_nifti
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.training.data.cases import DataSet, find_cases, find_data
from MedDiffusionLib.training.data.findings import DataReport, Severity
from MedDiffusionLib.training.data.preflight import check
from MedDiffusionLib.training.data.store import CaseStore

SHAPE = (12, 10, 8)


def labels_of(case: int) -> NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    array[2:6, 3:7, 2:5] = 1
    array[6:8, 3 : 4 + case % 4, 2:5] = 2
    return array


def image_of(case: int) -> NDArray[np.float32]:
    return np.random.default_rng(case).normal(100, 10, SHAPE).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good cases, c0 to c3."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for case in range(4):
        write_nifti(tmp_path / "images" / f"c{case}.nii.gz", image_of(case))
        write_nifti(tmp_path / "labels" / f"c{case}.nii.gz", labels_of(case))
    return tmp_path


def data_in(folder: Path) -> DataSet:
    return find_cases(folder / "images", folder / "labels")


def checked(folder: Path) -> DataReport:
    return check(data_in(folder), CaseStore(folder / "model"))


def test_good_cases_have_no_errors(folder: Path) -> None:
    report = checked(folder)
    assert report.errors == ()
    assert report.bad_cases == ()
    assert [f.sentence for f in report.findings] == ["The labels have no names"]
    assert report.usable(data_in(folder)) == data_in(folder)


def change_image(change: Callable[[NDArray], NDArray]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        write_nifti(folder / "images" / "c1.nii.gz", change(image_of(1)))

    return apply


def change_labels(change: Callable[[NDArray], NDArray]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        write_nifti(folder / "labels" / "c1.nii.gz", change(labels_of(1)))

    return apply


def move_labels(affine: NDArray) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        write_nifti(folder / "labels" / "c1.nii.gz", labels_of(1), affine)

    return apply


def damage(folder: Path) -> None:
    path = folder / "images" / "c1.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def _with_nan(image: NDArray) -> NDArray:
    image[3, 3, 3] = np.nan
    return image


def _moved(row: int, column: int, by: float) -> NDArray:
    affine = AFFINES["anisotropic"].copy()
    affine[row, column] += by
    return affine


@pytest.mark.parametrize(
    ("spoil", "sentence", "remedy"),
    [
        (damage, "c1.nii.gz cannot be read", "copy or save it again"),
        (change_image(_with_nan), "c1.nii.gz has NaN, infinite or huge values", "replace them"),
        (change_image(np.zeros_like), "c1.nii.gz has the value 0 everywhere", "replace it"),
        (change_image(lambda a: np.stack([a, a], 3)), "c1.nii.gz is 4D", "one 3D volume per file"),
        (change_image(lambda a: a[..., 0]), "c1.nii.gz is 2D", "give a 3D volume"),
        (change_image(lambda a: a[:-1]), "differ in size", "resample the label map"),
        (move_labels(_moved(0, 0, 0.2)), "differ in spacing", "resample the label map"),
        (move_labels(_moved(1, 3, 2.0)), "differ in position", "resample the label map"),
        (move_labels(AFFINES["LPS"]), "differ in the direction", "resample the label map"),
        (change_labels(lambda a: a + np.float32(0.5)), "c1.nii.gz has fractional", "whole numbers"),
        (change_labels(np.zeros_like), "c1.nii.gz is empty", "label at least one voxel"),
    ],
)
def test_a_bad_case_is_one_error_and_the_others_stay(
    folder: Path, spoil: Callable[[Path], None], sentence: str, remedy: str
) -> None:
    spoil(folder)
    report = checked(folder)
    assert len(report.errors) == 1
    error = report.errors[0]
    assert sentence in error.sentence
    assert remedy in error.remedy
    assert error.case == "c1"
    assert Path(error.file).name == "c1.nii.gz"
    assert report.bad_cases == ("c1",)
    assert [case.name for case in report.usable(data_in(folder)).cases] == ["c0", "c2", "c3"]
    assert [facts.name for facts in report.facts] == ["c0", "c2", "c3"]
    assert error.sentence in report.describe()
    assert f"-> {error.remedy}" in report.describe()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, folder: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,label\nimages/c0.nii.gz,labels/c0.nii.gz\nno.nii,labels/c1.nii.gz\n")
    report = check(find_data(table, None, None), CaseStore(tmp_path))
    assert [(f.case, f.sentence) for f in report.errors] == [("c1", "no.nii does not exist")]


def test_mixed_channel_counts_are_errors_of_the_cases_that_lack_one(folder: Path) -> None:
    for case in range(4):
        path = folder / "images" / f"c{case}.nii.gz"
        path.rename(folder / "images" / f"c{case}_T1.nii.gz")
        if case != 2:
            write_nifti(folder / "images" / f"c{case}_T2.nii.gz", image_of(10 + case))
    report = checked(folder)
    assert [(f.case, f.sentence) for f in report.errors] == [
        ("c2", "c2 has 1 of the 2 contrasts T1, T2 (c2_T1.nii.gz)")
    ]
    assert [channel.channel for channel in report.intensities] == ["T1", "T2"]


def test_the_same_voxels_twice_are_a_warning(folder: Path) -> None:
    write_nifti(folder / "images" / "c3.nii.gz", image_of(0))
    write_nifti(folder / "labels" / "c3.nii.gz", labels_of(1).astype(np.int16))
    report = checked(folder)
    assert report.errors == ()
    assert [f.sentence for f in report.findings if f.case == "c3"] == [
        "c3.nii.gz has the same voxels as the image c0.nii.gz",
        "c3.nii.gz has the same voxels as the label map c1.nii.gz",
    ]


def test_files_without_a_partner_are_warnings(folder: Path) -> None:
    write_nifti(folder / "images" / "lone.nii.gz", image_of(9))
    found = [f for f in checked(folder).findings if "no partner" in f.sentence]
    assert [(f.severity, Path(f.file).name) for f in found] == [(Severity.WARNING, "lone.nii.gz")]


def test_one_case_only_is_a_warning(folder: Path) -> None:
    data = find_data(folder, None, None, wanted=["c0"])
    report = check(data, CaseStore(folder))
    assert report.errors == ()
    assert "Only one case" in report.findings[0].sentence


def test_no_usable_case_is_refused_with_the_first_problem(folder: Path) -> None:
    for case in range(4):
        write_nifti(folder / "labels" / f"c{case}.nii.gz", np.zeros(SHAPE, np.uint8))
    report = checked(folder)
    assert len(report.bad_cases) == 4
    json.dumps(report.to_json())
    report.describe()
    with pytest.raises(UserError, match=r"None of the 4 cases .*c0.nii.gz is empty: label"):
        report.usable(data_in(folder))


def test_labels_without_a_name_and_rare_ones_are_warnings(folder: Path) -> None:
    for case in range(4, 30):
        write_nifti(folder / "images" / f"c{case}.nii.gz", image_of(case))
        array = labels_of(case)
        if case == 7:
            array[0, 0, 0] = 9
        write_nifti(folder / "labels" / f"c{case}.nii.gz", array)
    found = data_in(folder)
    data = DataSet(found.cases, found.channels, {1: "one", 2: "two"}, ())
    report = check(data, CaseStore(folder))
    sentences = [f.sentence for f in report.findings if not f.case]
    assert sentences == [
        "The label values 9 occur and have no name",
        "The label values 9 occur in fewer than 3 of 30 cases",
    ]


def write_segmentation(path: Path, names: dict[int, str]) -> None:
    image = sitk.GetImageFromArray(labels_of(0).transpose())
    for number, (value, name) in enumerate(names.items()):
        for key, text in (("ID", f"s{value}"), ("Name", name), ("LabelValue", value), ("Layer", 0)):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    sitk.WriteImage(image, str(path))


def test_names_in_segmentations_are_kept_and_must_agree(folder: Path) -> None:
    (folder / "segmentations").mkdir()
    affine = np.eye(4)
    for case, names in enumerate([{1: "Liver", 2: "spleen"}, {1: "liver"}, {1: "kidney"}]):
        write_nifti(folder / "images" / f"c{case}.nii.gz", image_of(case), affine * [-1, -1, 1, 1])
        write_segmentation(folder / "segmentations" / f"c{case}.seg.nrrd", names)
    data = find_cases(folder / "images", folder / "segmentations")
    report = check(data, CaseStore(folder))
    assert report.label_names == {1: "Liver", 2: "spleen"}
    assert [(f.case, f.sentence) for f in report.errors] == [
        ("c2", "c2.seg.nrrd calls the label 1 kidney, others call it Liver")
    ]


def _extend(image: nibabel.Nifti1Image, extension: nibabel.nifti1.Nifti1Extension) -> None:
    image.header.extensions.append(extension)


def test_names_in_a_nifti_label_table_are_kept(folder: Path) -> None:
    table = b'<X><LabelTable><Label Key="0">no</Label><Label Key="2"><![CDATA[a & b]]></Label>'
    extension = nibabel.nifti1.Nifti1Extension(0, table + b"</LabelTable></X>")
    broken = nibabel.nifti1.Nifti1Extension(0, b"<LabelTable><Label></LabelTable>")
    for case, content in ((0, extension), (1, broken)):
        edit = partial(_extend, extension=content)
        write_nifti(folder / "labels" / f"c{case}.nii.gz", labels_of(case), edit=edit)
    report = checked(folder)
    assert report.label_names == {2: "a & b"}
    assert report.errors == ()


def test_statistics_are_those_of_the_files(folder: Path) -> None:
    report = checked(folder)
    facts = report.facts[1]
    assert facts.size == SHAPE
    assert facts.spacing == pytest.approx((0.7, 1.25, 3.0))
    assert facts.extent == pytest.approx((12 * 0.7, 12.5, 24))
    assert facts.box == pytest.approx((6 * 0.7, 4 * 1.25, 3 * 3.0))
    assert facts.voxels == {1: 48, 2: 12}
    content = json.loads(json.dumps(report.to_json()))
    assert content["labels"][1] == {"value": 2, "name": "", "cases": 4, "voxels": 6 + 12 + 18 + 24}
    assert content["scans"]["size (voxels)"] == [[12, 10, 8]] * 3
    assert content["cases"] == 4
    assert content["bad_cases"] == []
    # All cases have as many voxels, fewer than the sample: the percentiles are exact.
    images = np.stack([image_of(n) for n in range(4)])
    maps = np.stack([labels_of(n) for n in range(4)])
    channel = report.intensities[0]
    assert channel.whole == pytest.approx(np.percentile(images, [0.5, 50, 99.5]), rel=1e-6)
    assert channel.labelled == pytest.approx(
        np.percentile(images[maps != 0], [0.5, 50, 99.5]), rel=1e-6
    )
    assert not channel.whole_numbers


@pytest.mark.parametrize("name", ["permuted", "left-handed", "oblique LPS"])
def test_triples_are_along_the_patients_axes(folder: Path, name: str) -> None:
    for kind, array in (("images", image_of(0)), ("labels", labels_of(0))):
        write_nifti(folder / kind / "c0.nii.gz", array, AFFINES[name])
    facts = checked(folder).facts[0]
    axes = nibabel.io_orientation(AFFINES[name])[:, 0].astype(int)
    size, spacing = np.zeros(3), np.zeros(3)
    size[axes], spacing[axes] = SHAPE, voxel_sizes(AFFINES[name])
    assert list(facts.size) == size.tolist()
    assert facts.spacing == pytest.approx(spacing)
    assert facts.extent == pytest.approx(size * spacing)


def test_the_check_tells_its_progress_and_can_be_stopped(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = CaseStore(folder)
    check(data_in(folder), store, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    seen.clear()
    with pytest.raises(Cancelled):
        check(
            data_in(folder), store, lambda done, total: seen.append((done, total)),
            lambda: len(seen) == 2,
        )  # fmt: skip
    assert seen == [(1, 4), (2, 4)]


def test_one_corrupt_file_among_many_is_one_line_of_the_text(folder: Path) -> None:
    for case in range(4, 40):
        write_nifti(folder / "images" / f"c{case}.nii.gz", image_of(case))
        write_nifti(folder / "labels" / f"c{case}.nii.gz", labels_of(case))
    damage(folder)
    text = checked(folder).describe()
    assert text.startswith("40 cases, 39 of them usable\n\nerror: c1.nii.gz cannot be read")
    # Forty label maps of four kinds: the many like findings are counted.
    assert "more like these" in text


def test_label_names_of_a_totalsegmentator_file_are_kept(tmp_path: Path) -> None:
    folder = shared_file("formats/ct-multi-organ")
    table = tmp_path / "t.csv"
    table.write_text(f"CT,label\n{folder}/example_ct_sm.nii.gz,{folder}/example_seg.nii.gz\n")
    report = check(find_data(table, None, None), CaseStore(tmp_path))
    assert len(report.label_values) == 41
    assert report.label_names[5] == "liver"
    assert report.errors == ()
