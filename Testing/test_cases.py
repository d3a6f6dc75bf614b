"""Finding cases: folders, raw folders of other programs, tables; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_factory import shared_file
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data.cases import DataSet, find_cases, find_data, read_table


def touch(folder: Path, *names: str) -> Path:
    """Empty files: finding cases reads no voxel."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def shown(data: DataSet) -> dict[str, list[str]]:
    return {case.name: [path.name for path in case.images] for case in data.cases}


def raw_folder(folder: Path, content: dict[str, Any], *images: str) -> Path:
    touch(folder / "imagesTr", *images)
    touch(folder / "labelsTr", "a.nii.gz", "b.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_files_of_the_same_name_are_a_case_whatever_their_formats(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "b.nii.gz", "a 1.nrrd", "notes.txt", ".a 2.nii.gz")
    labels = touch(tmp_path / "l", "a 1.seg.nrrd", "b.mha")
    data = find_cases(images, labels)
    assert shown(data) == {"a 1": ["a 1.nrrd"], "b": ["b.nii.gz"]}
    assert [case.labels and case.labels.name for case in data.cases] == ["a 1.seg.nrrd", "b.mha"]
    assert data.channels == ("image",)
    assert data.unmatched == ()
    assert [case.group for case in data.cases] == ["a 1", "b"]


def test_files_without_a_partner_are_unmatched(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a.nii", "lone.nii")
    labels = touch(tmp_path / "l", "a.nii", "other.nii")
    data = find_cases(images, labels)
    assert shown(data) == {"a": ["a.nii"]}
    assert data.unmatched == (images / "lone.nii", labels / "other.nii")


def test_what_follows_the_case_name_is_the_contrast_in_order_of_name(tmp_path: Path) -> None:
    images = touch(
        tmp_path / "i", "p1_T1.nii", "p1_FLAIR.nii", "p1_2_T1.nii", "p1_2_FLAIR.nii", "p10_T1.nii"
    )
    labels = touch(tmp_path / "l", "p1.nii", "p1_2.nii")
    data = find_cases(images, labels)
    assert data.channels == ("FLAIR", "T1")
    assert shown(data) == {
        "p1": ["p1_FLAIR.nii", "p1_T1.nii"],
        "p1_2": ["p1_2_FLAIR.nii", "p1_2_T1.nii"],
    }
    assert [path.name for path in data.unmatched] == ["p10_T1.nii"]


def test_a_contrast_of_few_cases_is_none(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a_T1.nii", "b_T1.nii", "c_T1.nii", "a_old.nii")
    labels = touch(tmp_path / "l", "a.nii", "b.nii", "c.nii")
    data = find_cases(images, labels)
    assert data.channels == ("T1",)
    assert [path.name for path in data.unmatched] == ["a_old.nii"]


def test_a_case_may_be_a_folder_of_contrasts_or_a_dicom_series(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a/T2.nii", "a/T1.nii", "b/T1.nii", "b/T2.nii")
    labels = touch(tmp_path / "l", "a.nii", "b.nii")
    data = find_cases(images, labels)
    assert data.channels == ("T1", "T2")
    assert shown(data) == {"a": ["T1.nii", "T2.nii"], "b": ["T1.nii", "T2.nii"]}
    series = touch(tmp_path / "s", "a/1.dcm", "a/2.dcm", "b/IM001")
    assert shown(find_cases(series, labels)) == {"a": ["a"], "b": ["b"]}


def test_the_raw_folder_of_nnunet_2_names_channels_and_labels(tmp_path: Path) -> None:
    content = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "left kidney": 1, "2nd": "2"},
    }
    images = ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"]
    data = find_data(raw_folder(tmp_path, content, *images), None, None)
    assert data.channels == ("T2", "ADC")
    assert data.label_names == {1: "left kidney", 2: "2nd"}
    assert shown(data) == {"a": images[:2], "b": images[2:]}


def test_the_raw_folder_of_the_decathlon_names_them_the_other_way_round(tmp_path: Path) -> None:
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    }
    data = find_data(raw_folder(tmp_path, content, "a.nii.gz", "b.nii.gz"), None, None)
    assert data.channels == ("MRI",)
    assert data.label_names == {1: "Anterior", 2: "Posterior"}


def test_numbered_contrasts_without_names_are_numbered(tmp_path: Path) -> None:
    labels = touch(tmp_path / "l", "a.nii")
    one = touch(tmp_path / "one", "a_0000.nii")
    two = touch(tmp_path / "two", "a_0000.nii", "a_0001.nii")
    assert find_cases(one, labels).channels == ("image",)
    assert find_cases(two, labels).channels == ("image0", "image1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"labels": {"whole": [1, 2]}}, "regions are not supported"),
        ({"labels": [1]}, "does not name the channels and labels"),
        ({"channel_names": {"0": "T1"}}, "does not name the channels and labels"),
        ({"channel_names": {"0": "T1"}, "labels": {}}, "names 1 channels"),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_refused(
    tmp_path: Path, content: dict[str, Any], problem: str
) -> None:
    raw = raw_folder(tmp_path, content, "a_0000.nii.gz", "a_0001.nii.gz")
    with pytest.raises(UserError, match=problem):
        find_data(raw, None, None)


def test_a_table_lists_contrasts_by_column(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_bytes(
        b"\xef\xbb\xbfName,T2,T1,label,group\n"
        b"a,scans/a2.nii,scans/a1.nii,maps/a.nii,patient 1\n\n"
        b"b,scans/b2.nii,,/elsewhere/b.nii,\n"
    )
    data = read_table(table)
    assert data.channels == ("T1", "T2")
    assert data.cases[0].images == (tmp_path / "scans/a1.nii", tmp_path / "scans/a2.nii")
    assert data.cases[0].labels == tmp_path / "maps/a.nii"
    assert [case.group for case in data.cases] == ["patient 1", "b"]
    assert data.cases[1].labels == Path("/elsewhere/b.nii")
    assert [path.name for path in data.cases[1].images] == ["b2.nii"]


@pytest.mark.parametrize(("name", "separator"), [("t.tsv", "\t"), ("t.csv", ";")])
def test_a_table_may_have_other_separators(tmp_path: Path, name: str, separator: str) -> None:
    lines = [["image", "label"], ["a.nii", "map of a.nii"]]
    (tmp_path / name).write_text("\n".join(separator.join(line) for line in lines), "utf-8")
    assert shown(read_table(tmp_path / name)) == {"map of a": ["a.nii"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("T1,label\n", "lists no case"),
        ("T1,seg\na,b\n", "needs a header line with the column label"),
        ("name,label\na,b\n", "a column per contrast"),
        ("T1,T1,label\na,b,c\n", "two columns of one name"),
        ("T1,label\na.nii,\n", "line 2, names no label map"),
        ("T1,label\na.nii,seg.nii\nb.nii,seg.nii\n", "2 cases of the name seg"),
    ],
)
def test_a_table_that_says_too_little_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(text, "utf-8")
    with pytest.raises(UserError, match=problem):
        read_table(table)


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no folder and no table"):
        find_data(tmp_path / "none", None, None)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_table(tmp_path / "t.csv")


def test_no_pairs_are_refused_with_an_example(tmp_path: Path) -> None:
    images, labels = touch(tmp_path / "i", "a.nii"), touch(tmp_path / "l", "x.nii")
    with pytest.raises(UserError, match=r"No file in .* same name .*first are a and x.*: rename"):
        find_cases(images, labels)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no images are there"):
        find_cases(empty, labels)
    with pytest.raises(UserError, match="not a folder"):
        find_cases(tmp_path / "nowhere", labels)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    images, labels = touch(tmp_path / "i", "a.nii", "a.nrrd"), touch(tmp_path / "l", "a.nii")
    with pytest.raises(UserError, match="have the same name: keep one"):
        find_cases(images, labels)


def test_the_patient_is_what_the_group_pattern_finds(tmp_path: Path) -> None:
    names = ["sub-01_ses-1.nii", "sub-01_ses-2.nii", "sub-02_ses-1.nii"]
    images, labels = touch(tmp_path / "i", *names), touch(tmp_path / "l", *names)
    for pattern in (r"sub-(\d+)", r"(?<=sub-)\d+"):
        groups = [case.group for case in find_cases(images, labels, pattern).cases]
        assert groups == ["01", "01", "02"]
    with pytest.raises(UserError, match="does not match the case sub-01_ses-1"):
        find_cases(images, labels, "patient")
    with pytest.raises(UserError, match="no regular expression"):
        find_cases(images, labels, "(")


def test_a_subset_comes_in_its_own_order_and_must_be_whole(tmp_path: Path) -> None:
    names = ["a.nii", "b.nii", "c.nii"]
    images, labels = touch(tmp_path / "images", *names), touch(tmp_path / "labels", *names)
    data = find_data(tmp_path, None, None, wanted=["c", "a"])
    assert [case.name for case in data.cases] == ["c", "a"]
    with pytest.raises(UserError, match=r"1 of the 2 cases asked for .* first is x"):
        find_data(None, images, labels, wanted=["a", "x"])


def test_images_alone_are_cases_without_label_maps(tmp_path: Path) -> None:
    def found(*names: str) -> DataSet:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        return find_data(None, folder, None, r"^[^_]+")

    data = found("p_1.nii.gz", "p_2.mha", "notes.txt")
    assert shown(data) == {"p_1": ["p_1.nii.gz"], "p_2": ["p_2.mha"]}
    assert [(case.labels, case.group) for case in data.cases] == [(None, "p"), (None, "p")]
    assert (data.channels, data.unmatched) == (("image",), ())
    numbered = found("a_0000.nii", "a_0001.nii", "b_0000.nii", "b_0001.nii")
    assert shown(numbered) == {n: [f"{n}_0000.nii", f"{n}_0001.nii"] for n in "ab"}
    assert numbered.channels == ("image0", "image1")
    assert found("a/T1.nii", "a/FLAIR.nii", "b/T1.nii", "b/FLAIR.nii").channels == ("FLAIR", "T1")


def test_too_few_or_too_many_places_to_look_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Training needs images and label maps: give"):
        find_data(None, None, tmp_path)
    with pytest.raises(UserError, match="has no images"):
        find_data(None, tmp_path, None)
    with pytest.raises(UserError, match="give one of them"):
        find_data(tmp_path, tmp_path, tmp_path)
    with pytest.raises(UserError, match="no imagesTr and labelsTr: give"):
        find_data(tmp_path, None, None)


def test_the_hippocampus_folder_is_a_data_set() -> None:
    data = find_data(shared_file("hippocampus"), None, None)
    assert len(data.cases) == 220
    assert data.unmatched == ()
