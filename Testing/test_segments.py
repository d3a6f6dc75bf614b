"""Segments come out of .seg.nrrd files, and go into them, with value, name and code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from data_factory import SHAPE, box_map, label_map, write_nrrd
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.volume import Segment
from MedDiffusionLib.volumes.writing import write_volume

COUNT = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
LABELS = (COUNT % 4).astype(np.uint8)
NAMED = (Segment(1, "Linke Niere 左", "SCT:64033007"), Segment(5, "tumour ~^|"))


def segment_fields(*segments: tuple[str, int, int, str]) -> str:
    """The fields of segments (name, label value, layer, type in the terminology)."""
    lines = ["Segmentation_MasterRepresentation:=Binary labelmap"]
    for n, (name, value, layer, code) in enumerate(segments):
        entry = f"Category list~SCT^123037004^Anatomical Structure~{code}~^^~Region~^^~^^"
        lines += [
            f"Segment{n}_ID:=Segment_{n + 1}",
            f"Segment{n}_Name:={name}",
            f"Segment{n}_LabelValue:={value}",
            f"Segment{n}_Layer:={layer}",
            f"Segment{n}_Tags:=Segmentation.Status:inprogress|TerminologyEntry:{entry}|",
        ]
    return "\n".join(lines)


def test_segments_of_a_seg_nrrd_are_read_with_value_name_and_code(tmp_path: Path) -> None:
    fields = segment_fields(
        ("Linke Niere 左", 3, 0, "SCT^64033007^Kidney"),
        ("absent", 9, 0, "SCT^1^x"),
        ("tumour", 1, 0, "^^"),
    )
    fields = "space origin: (9,8,7)\nspace directions: (0,-2,0) (3,0,0) (0,0,4)\n" + fields
    labels = read_label_map(write_nrrd(tmp_path / "a.seg.nrrd", LABELS, fields))
    assert_array_equal(labels.array, LABELS)
    assert labels.segments == (Segment(3, "Linke Niere 左", "SCT:64033007"), Segment(1, "tumour"))
    assert_allclose(
        labels.affine, np.array([[0, -3, 0, -9], [2, 0, 0, -8], [0, 0, 4, 7], [0, 0, 0, 1]])
    )


def layered(tmp_path: Path, layers: list[np.ndarray], fields: str, direction: str = "none") -> Path:
    """A .seg.nrrd whose fastest axis is the layer, as Slicer writes overlapping segments."""
    return write_nrrd(
        tmp_path / "a.seg.nrrd",
        np.stack(layers),
        "kinds: list domain domain domain\n"
        f"space directions: {direction} (1,0,0) (0,1,0) (0,0,1)\n" + fields,
    )


def test_a_later_segment_covers_an_earlier_one_of_another_layer(tmp_path: Path) -> None:
    first, second = (COUNT < 120).astype(np.uint8), (COUNT > 90).astype(np.uint8) * 7
    fields = segment_fields(("body", 1, 0, "^^"), ("organ", 7, 1, "SCT^5^x"))
    labels = read_label_map(layered(tmp_path, [first, second], fields))
    assert_array_equal(labels.array, np.where(COUNT > 90, 7, 1))
    assert labels.segments == (Segment(1, "body"), Segment(7, "organ", "SCT:5"))


def test_the_axis_of_layers_may_have_an_undefined_direction(tmp_path: Path) -> None:
    first, second = (COUNT < 120).astype(np.uint8), (COUNT > 90).astype(np.uint8)
    fields = segment_fields(("a", 1, 0, "^^"), ("b", 1, 1, "^^"))
    path = layered(tmp_path, [first, second], fields, "(nan,nan,nan)")
    assert_array_equal(read_label_map(path).array, np.where(COUNT > 90, 2, 1))


def test_a_value_that_two_layers_share_is_renumbered_for_the_later(tmp_path: Path) -> None:
    first, second = (COUNT < 120).astype(np.uint8), (COUNT > 90).astype(np.uint8)
    first[COUNT == 0] = 2
    fields = segment_fields(("a", 1, 0, "^^"), ("b", 2, 0, "^^"), ("c", 1, 1, "^^"))
    labels = read_label_map(layered(tmp_path, [first, second], fields))
    assert_array_equal(labels.array, np.where(COUNT == 0, 2, np.where(COUNT > 90, 3, 1)))
    assert labels.segments == (Segment(1, "a"), Segment(2, "b"), Segment(3, "c"))


@pytest.mark.parametrize("brain_first", [True, False])
def test_what_is_left_out_covers_nothing(tmp_path: Path, brain_first: bool) -> None:
    brain, inner = (COUNT < 180).astype(np.uint8), (COUNT > 90).astype(np.uint8)
    names = ("brain", "inner") if brain_first else ("inner", "brain")
    layers = [brain if name == "brain" else inner for name in names]
    fields = segment_fields((names[0], 1, 0, "^^"), (names[1], 1, 1, "^^"))
    path = layered(tmp_path, layers, fields)
    value = {name: n for n, name in enumerate(names, start=1)}
    labels = read_label_map(path, {value["brain"]})
    assert_array_equal(labels.array, np.where(COUNT > 90, value["inner"], 0))
    assert [(s.value, s.name) for s in labels.segments] == list(enumerate(names, start=1))


def test_a_label_map_of_which_all_is_left_out_says_so(tmp_path: Path) -> None:
    layers = [(COUNT < 180).astype(np.uint8), np.zeros(SHAPE, np.uint8)]
    path = layered(tmp_path, layers, segment_fields(("a", 1, 0, "^^"), ("b", 1, 1, "^^")))
    with pytest.raises(UserError, match="nothing labelled but what is left out"):
        read_label_map(path, {1})


def test_leaving_out_changes_no_value_of_the_others(tmp_path: Path) -> None:
    layers = [np.equal(COUNT % 3, part).astype(np.uint8) for part in range(3)]
    fields = segment_fields(*((name, 1, n, "^^") for n, name in enumerate("abc")))
    path = layered(tmp_path, layers, fields)
    assert_array_equal(read_label_map(path).array, COUNT % 3 + 1)
    assert_array_equal(read_label_map(path, {2}).array, (COUNT % 3 + 1) * (COUNT % 3 != 1))


def test_layers_of_early_slicer_files_are_a_segment_each(tmp_path: Path) -> None:
    first, second = (COUNT < 120).astype(np.uint8), (COUNT > 90).astype(np.uint8)
    fields = "Segment0_ID:=one\nSegment0_Name:=a\nSegment1_ID:=two\nSegment1_Name:=b"
    labels = read_label_map(layered(tmp_path, [first, second], fields))
    assert_array_equal(labels.array, np.where(COUNT > 90, 2, 1))
    assert [segment.name for segment in labels.segments] == ["a", "b"]


def test_segments_survive_writing_and_reading(tmp_path: Path) -> None:
    labels = label_map(values=(0, 1, 5), segments=NAMED)
    write_volume(tmp_path / "a.seg.nrrd", labels)
    again = read_label_map(tmp_path / "a.seg.nrrd")
    assert again.segments == NAMED
    assert_array_equal(again.array, labels.array)


def test_a_code_survives_a_name_made_of_separators(tmp_path: Path) -> None:
    segment = Segment(1, "a^b~c|d", "SCT:5")
    write_volume(tmp_path / "a.seg.nrrd", label_map(values=(0, 1), segments=(segment,)))
    assert read_label_map(tmp_path / "a.seg.nrrd").segments == (segment,)
    # Context, category, type, its modifier, and the same of the region: Slicer splits at ~ and ^.
    entry = b"Tags:=TerminologyEntry:~^^~SCT^5^a b c d~^^~~^^~^^|\n"
    assert entry in (tmp_path / "a.seg.nrrd").read_bytes()


def test_a_seg_nrrd_has_the_fields_that_slicer_looks_for(tmp_path: Path) -> None:
    labels = box_map((8, 9, 10), (1, 2, 3), (4, 6, 8))
    labels.array[2, 3, 4] = 7
    write_volume(tmp_path / "a.seg.nrrd", labels)
    header = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n")[0].decode().splitlines()
    fields = dict(line.split(":=", 1) for line in header if ":=" in line)
    assert fields == {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "Label 1",
        "Segment0_NameAutoGenerated": "1",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment0_Extent": "1 4 2 6 3 8",
        "Segment1_ID": "Segment_7",
        "Segment1_Name": "Label 7",
        "Segment1_NameAutoGenerated": "1",
        "Segment1_LabelValue": "7",
        "Segment1_Layer": "0",
        "Segment1_Extent": "2 2 3 3 4 4",
    }
    stored = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert {key: stored.GetMetaData(key) for key in fields} == fields


def test_a_nrrd_that_is_no_segmentation_has_no_segment_fields(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nrrd", label_map(values=(0, 1, 5), segments=NAMED))
    assert b"Segment" not in (tmp_path / "a.nrrd").read_bytes().split(b"\n\n")[0]


def test_the_modifier_of_a_terminology_entry_is_part_of_the_code(tmp_path: Path) -> None:
    segments = (Segment(1, "front", "SCT:5366008/SCT:255549009"), Segment(2, "back", "SCT:5366008"))
    write_volume(tmp_path / "a.seg.nrrd", label_map(values=(0, 1, 2), segments=segments))
    assert read_label_map(tmp_path / "a.seg.nrrd").segments == segments
    assert b"~SCT^5366008^front~SCT^255549009^~" in (tmp_path / "a.seg.nrrd").read_bytes()
