"""Labels keep their meaning: by what was told, by name or code, by value, and never by order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import TINY
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.labels import match_labels
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume


def label_map(*values: int, segments: tuple[Segment, ...] = ()) -> Volume:
    array = np.zeros((4, 4, 4), np.int32)
    for index, value in enumerate(values):
        array[index] = value
    return Volume(array, np.eye(4), Kind.LABEL, segments)


def match(volume: Volume, told: dict[int, str] | None = None, **changes: Any) -> list[int]:
    """The model's label values in the first voxels of the volume's slices."""
    matched = match_labels(volume, Manifest({**TINY, **changes}), told or {})
    return [int(v) for v in matched.array[:, 0, 0]]


def test_values_match_by_value() -> None:
    assert match(label_map(2, 1)) == [2, 1, 0, 0]


def test_told_labels_win_over_values_and_names() -> None:
    segments = (Segment(1, "anterior"),)
    told = {3: "anterior", 7: "posterior", 1: "posterior"}
    assert match(label_map(7, 3, 1, segments=segments), told) == [2, 1, 2, 0]


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


def test_a_value_told_to_be_background_is_left_out() -> None:
    assert match(label_map(1, 9), {9: "background"}) == [1, 0, 0, 0]


def test_two_values_may_be_told_to_be_one_label() -> None:
    assert match(label_map(4, 5), {4: "anterior", 5: "Anterior"}) == [1, 1, 0, 0]


@pytest.mark.parametrize("told", [{5: "anterior"}, {1: "tail"}])
def test_told_values_and_names_must_exist(told: dict[int, str]) -> None:
    with pytest.raises(UserError, match="--label"):
        match(label_map(1), told)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(UserError, match="Nothing labelled is left"):
        match(label_map(1), {1: "background"})


def test_missing_labels_need_a_model_trained_with_label_dropout() -> None:
    assert match(label_map(1)) == [1, 0, 0, 0]
    with pytest.raises(UserError, match="needs all its labels and lacks posterior"):
        match(label_map(1), label_dropout=0)
