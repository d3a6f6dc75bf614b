"""Labels keep their meaning: by an override, by name or code, by value, and never by order."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from conftest import TINY, tiny_manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.labels import match_labels
from MedDiffusionLib.volumes.label_statistics import find_label_statistics
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume


def label_map(*values: int, segments: tuple[Segment, ...] = ()) -> Volume:
    array = np.zeros((4, 4, 4), np.int32)
    for index, value in enumerate(values):
        array[index] = value
    return Volume(array, np.eye(4), Kind.LABEL, segments)


def match(volume: Volume, overrides: dict[int, str] | None = None, **changes: Any) -> list[int]:
    """The model's label values in the first voxels of the volume's slices."""
    matched = match_labels(volume, tiny_manifest(**changes), overrides or {})
    return [int(v) for v in matched.array[:, 0, 0]]


def test_values_match_by_value() -> None:
    assert match(label_map(2, 1)) == [2, 1, 0, 0]


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_of_any_whole_type_match_into_the_smallest(dtype: str, order: Any) -> None:
    array = np.asfortranarray if order == "F" else np.ascontiguousarray
    values = array(np.arange(60).reshape(3, 4, 5) % 3).astype(dtype, order="K")
    matched = match_labels(Volume(values, np.eye(4), Kind.LABEL), tiny_manifest(), {1: "posterior"})
    assert_array_equal(matched.array, np.where(values == 0, 0, 2))
    assert matched.array.dtype == np.uint8


def test_matching_holds_no_more_than_the_matched_map() -> None:
    array = np.zeros((300, 300, 100), np.uint8)
    array[1:3] = 3
    labels = Volume(array, np.eye(4), Kind.LABEL)
    assert labels.label_statistics.values == (3,)
    tracemalloc.start()
    try:
        match_labels(labels, tiny_manifest(), {3: "anterior"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * array.nbytes


def test_a_segment_that_was_left_out_while_reading_may_be_named_in_an_override() -> None:
    segments = (Segment(1, "anterior"), Segment(4, "brain"))
    volume = label_map(1, segments=segments)
    assert match(volume, {4: "background"}) == [1, 0, 0, 0]
    with pytest.raises(UserError, match="No voxel has the value 4"):
        match(volume, {4: "posterior"})
    with pytest.raises(UserError, match="No voxel has the value 5"):
        match(volume, {5: "background"})


def test_overrides_win_over_values_and_names() -> None:
    segments = (Segment(1, "anterior"),)
    overrides = {3: "anterior", 7: "posterior", 1: "posterior"}
    assert match(label_map(7, 3, 1, segments=segments), overrides) == [2, 1, 2, 0]


def test_segment_names_win_over_values() -> None:
    segments = (Segment(1, "Posterior"), Segment(2, "ANTERIOR"))
    assert match(label_map(1, 2, segments=segments)) == [2, 1, 0, 0]


def test_terminology_codes_win_over_segment_names() -> None:
    segments = (Segment(5, "anterior", "SCT:2"),)
    assert match(label_map(5, segments=segments)) == [2, 0, 0, 0]


def test_a_named_segment_is_never_matched_by_its_value() -> None:
    with pytest.raises(UserError, match=r"1 \(tumor\)"):
        match(label_map(1, segments=(Segment(1, "tumor"),)))


def test_an_unknown_value_lists_what_the_file_has_and_what_the_model_knows() -> None:
    with pytest.raises(UserError, match=r"matches 9.*has 1, 9.*1 \(anterior\), 2 \(posterior\)"):
        match(label_map(1, 9))


def test_a_value_overridden_as_background_is_left_out() -> None:
    assert match(label_map(1, 9), {9: "background"}) == [1, 0, 0, 0]


def test_two_values_may_be_overridden_as_one_label() -> None:
    assert match(label_map(4, 5), {4: "anterior", 5: "Anterior"}) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [({5: "anterior"}, "No voxel has the value 5"), ({1: "tail"}, "no label tail")],
)
def test_values_and_names_of_overrides_must_exist(overrides: dict[int, str], problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        match(label_map(1), overrides)
    assert caught.value.code == "label-override"


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(UserError, match="Nothing labelled is left"):
        match(label_map(1), {1: "background"})


def test_missing_labels_need_a_model_trained_with_label_dropout() -> None:
    assert match(label_map(1)) == [1, 0, 0, 0]
    with pytest.raises(UserError, match="needs all its labels and lacks posterior"):
        match(label_map(1), label_dropout=0)


def test_a_label_that_may_be_missing_may_in_a_model_without_label_dropout() -> None:
    labels = [TINY["labels"][0], {**TINY["labels"][1], "optional": True}]
    assert match(label_map(1), label_dropout=0, labels=labels) == [1, 0, 0, 0]
    with pytest.raises(UserError, match="needs all its labels and lacks anterior"):
        match(label_map(2), label_dropout=0, labels=labels)


@pytest.mark.parametrize("overrides", [{}, {4: "anterior", 9: "Anterior"}, {9: "background"}])
def test_what_is_known_of_the_matched_labels_is_true_of_them(overrides: dict[int, str]) -> None:
    values = (4, 9) if 4 in overrides else (1, 9) if overrides else (1, 2)
    matched = match_labels(label_map(*values), tiny_manifest(), overrides)
    known = matched.label_statistics
    anew = find_label_statistics(matched.array)
    assert known.counts == anew.counts
    assert_array_equal(known.ends, anew.ends)
    assert_array_equal(known.centroid, anew.centroid)


def test_labels_that_keep_their_values_are_not_copied() -> None:
    labels = label_map(2, 1)
    assert np.shares_memory(match_labels(labels, tiny_manifest(), {}).array, labels.array)
