"""One pass over a label map's voxels finds what numpy finds by looking at each of them anew."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import DTypeLike, NDArray

from data_factory import AFFINES, write_nifti
from MedDiffusionLib import load
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.outputs import result_files
from MedDiffusionLib.synthesis.results import write_sample
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.volumes import reading, volume
from MedDiffusionLib.volumes.grids import GridSpec
from MedDiffusionLib.volumes.label_statistics import find_label_statistics, label_values
from MedDiffusionLib.volumes.volume import Grid

SHAPES = {
    "small": (5, 6, 7),
    "many slices": (70, 80, 90),
    "two large slices": (2, 600, 700),
    "long lines": (3, 3, 300_000),
}
AXES = {code: GridSpec(code, (1, 1, 1), (2, 2, 2)).axes for code in ("RAS", "LPI", "ASL", "IRP")}


def blobs(shape: tuple[int, int, int], values: tuple[int, ...] = (1, 2, 3)) -> NDArray[np.int64]:
    """Boxes of the values and some single voxels, at random places, each value at least once."""
    random = np.random.default_rng(sum(shape))
    array = np.zeros(shape, np.int64)
    for value in values:
        low = [int(random.integers(0, n - 1)) for n in shape]
        array[tuple(slice(a, a + n // 3 + 1) for a, n in zip(low, shape, strict=True))] = value
    for value in values:
        for _ in range(5):
            array[tuple(int(random.integers(0, n)) for n in shape)] = value
    return array


def box_by_argwhere(
    array: NDArray, grid: Grid, axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    along = grid.positions(np.argwhere(array)) @ axes
    half = np.abs(axes.T @ grid.affine[:3, :3]).sum(1) / 2
    return along.min(0) - half, along.max(0) + half


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_counts_box_and_centroid_are_those_of_every_voxel(
    shape: tuple[int, int, int], order: str
) -> None:
    array = np.asarray(blobs(shape), np.int16, order="C" if order == "C" else "F")
    found = find_label_statistics(array)
    values, counts = np.unique(array, return_counts=True)
    assert list(found.counts.items()) == list(zip(values.tolist(), counts.tolist(), strict=True))
    assert found.values == (1, 2, 3)
    indices = np.argwhere(array)
    assert [s.start for s in found.index_box] == indices.min(0).tolist()
    assert [s.stop - 1 for s in found.index_box] == indices.max(0).tolist()
    assert_allclose(found.centroid, indices.mean(0), rtol=1e-12)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_box_is_bit_for_bit_that_of_every_voxel(
    name: str, axes: NDArray[np.float64], order: str
) -> None:
    array = np.asarray(blobs((40, 50, 60)), order="C" if order == "C" else "F")
    grid = Grid((40, 50, 60), AFFINES[name])
    expected = box_by_argwhere(array, grid, axes)
    assert_array_equal(find_label_statistics(array).box(grid.affine, axes), expected)


def test_the_box_along_axes_that_are_no_bodys_is_that_of_every_voxel() -> None:
    array, grid = blobs((40, 50, 60)), Grid((40, 50, 60), AFFINES["oblique LPS"])
    axes = AFFINES["oblique left-handed"][:3, :3] / (0.7, 1.25, 3.0)
    expected = box_by_argwhere(array, grid, axes)
    assert_allclose(
        find_label_statistics(array).box(grid.affine, axes), expected, rtol=0, atol=1e-11
    )


VIEWS: dict[str, Callable[[NDArray], NDArray]] = {
    "permuted": lambda array: array.transpose(1, 2, 0),
    "backwards": lambda array: array[::-1, :, ::-1],
    "every other": lambda array: array[1::2, ::3, ::2],
    "a part": lambda array: array[3:50, 7:33, 11:],
    "repeated": lambda array: np.broadcast_to(array.max(1, keepdims=True), array.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_any_view_of_an_array_is_read_in_its_own_axes(view: Callable[[NDArray], NDArray]) -> None:
    array = view(blobs((70, 80, 90)))
    found, grid = find_label_statistics(array), Grid((1, 1, 1), AFFINES["oblique"])
    values, counts = np.unique(array, return_counts=True)
    assert found.counts == dict(zip(values.tolist(), counts.tolist(), strict=True))
    expected = box_by_argwhere(array, grid, AXES["LPI"])
    assert_array_equal(found.box(grid.affine, AXES["LPI"]), expected)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.uint8, (1, 255)),
        (np.int16, (-32768, 7, 32767)),
        (np.uint16, (65535,)),
        (np.int32, (65536, 2**31 - 1)),
        (np.int64, (-(2**63), 2**63 - 1)),
        (np.uint64, (2**53 + 1, 2**64 - 1)),
        (np.float32, (3, 2**24)),
        (">i2", (1, 300)),
    ],
)
def test_every_type_and_size_of_number_is_a_value(
    dtype: DTypeLike, values: tuple[int, ...]
) -> None:
    array = np.zeros((4, 5, 6), dtype)
    for index, value in enumerate(values):
        array[1:3, index, 2:4] = value
    found = find_label_statistics(array)
    assert found.values == values
    assert found.counts == {0: 120 - 4 * len(values), **dict.fromkeys(values, 4)}
    assert label_values(array) == list(values)


def test_values_are_found_in_arrays_of_any_shape() -> None:
    array = blobs((70, 80, 90), (4, 2, 70_000))
    assert label_values(array[::2].ravel()) == np.unique(array[::2])[1:].tolist()
    assert label_values(np.zeros((3, 4))) == []
    assert label_values(np.zeros(0, np.int16)) == []


def test_a_map_without_background_has_no_zero() -> None:
    assert find_label_statistics(np.full((2, 3, 4), 5)).counts == {5: 24}


def test_an_empty_map_has_neither_values_nor_a_box() -> None:
    found = find_label_statistics(np.zeros((4, 5, 6), np.uint8))
    assert found.counts == {0: 120}
    assert found.values == ()
    assert np.isnan(found.centroid).all()
    for find_box in (
        lambda: found.index_box,
        lambda: found.box(np.eye(4), np.eye(3)),
    ):
        with pytest.raises(UserError, match="empty"):
            find_box()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_volume_is_not_copied(order: str) -> None:
    array = np.zeros((160, 160, 160), np.int32, order="C" if order == "C" else "F")
    array[20:140, 30:130, 40:150] = 1
    array[50:100, 50:100, 50:100] = 2
    tracemalloc.start()
    try:
        find_label_statistics(array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 4


def test_samples_with_previews_look_at_the_labels_once(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[NDArray] = []

    def look(array: NDArray) -> object:
        looks.append(array)
        return find_label_statistics(array)

    monkeypatch.setattr(reading, "find_label_statistics", look)
    monkeypatch.setattr(volume, "find_label_statistics", look)
    path = write_nifti(tmp_path / "a.nii", blobs((20, 22, 24), (3, 7)).astype(np.uint8))
    model, overrides = load(tiny_bundle, "cpu"), {3: "anterior", 7: "posterior"}
    labels = reading.read_label_map(path)
    outputs = result_files(tmp_path / "v.nii", tmp_path / "p.png", 2, model.model.channels)
    for sample in model.samples(labels, Settings(samples=2), overrides=overrides):
        write_sample(sample.volumes, outputs[sample.index], sample.labels)
    assert all(path.exists() for sample in outputs for files in sample for path in files)
    assert len(looks) == 1
