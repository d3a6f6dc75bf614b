"""Resampling copies where it can and interpolates by kind where it must."""

from __future__ import annotations

import os
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from data_factory import AFFINES, affine, image, label_map, rotation, shared_file, surrounding
from MedDiffusionLib.volumes import resampling
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.resampling import resample, to_sitk
from MedDiffusionLib.volumes.volume import Grid, Kind, Segment, Volume

every_affine = pytest.mark.parametrize("name", AFFINES)
TILTED = rotation(30, 30, 0)


def moved(grid: Grid, step: NDArray, start: NDArray, size: tuple[int, int, int]) -> Grid:
    """The grid whose index (0, 0, 0) is ``start`` in another and whose axes are ``step`` there."""
    change = np.eye(4)
    change[:3, :3] = step
    change[:3, 3] = start
    return Grid(size, grid.affine @ change)


def looked_up(array: NDArray, step: NDArray, start: NDArray, size: tuple[int, int, int]) -> NDArray:
    """What a copy must be, voxel by voxel: -7 where there is no source voxel."""
    result = np.full(size, -7, array.dtype)
    for index in np.ndindex(size):
        source = step @ np.array(index) + start
        if (source >= 0).all() and (source < array.shape).all():
            result[index] = array[tuple(source.astype(int))]
    return result


def test_a_volume_on_its_own_grid_is_returned_as_it_is() -> None:
    labels = Volume(np.ones((4, 5, 6), np.int32), AFFINES["oblique"], Kind.LABEL)
    assert resample(labels, Grid((4, 5, 6), AFFINES["oblique"].copy())) is labels


SIGNED_PERMUTATIONS = [
    np.eye(3, dtype=int)[list(order)] * np.array(signs)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]


@pytest.mark.parametrize("step", SIGNED_PERMUTATIONS)
@pytest.mark.parametrize("name", ["identity", "oblique left-handed"])
def test_any_flip_permutation_crop_and_padding_is_an_exact_copy(step: NDArray, name: str) -> None:
    random = np.random.default_rng(5)
    for kind in Kind:
        volume = Volume(random.normal(size=(4, 5, 6)).astype(np.float32), AFFINES[name], kind)
        start = random.integers(-3, 8, 3)
        i, j, k = (int(n) for n in random.integers(1, 9, 3))
        result = resample(volume, moved(volume.grid, step, start, (i, j, k)), background=-7)
        assert_array_equal(result.array, looked_up(volume.array, step, start, (i, j, k)))


@every_affine
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_a_copy_keeps_every_bit_on_any_lattice(name: str, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 7)).astype(dtype)
    volume = Volume(array, AFFINES[name], Kind.INTENSITY)
    result = resample(volume, volume.grid)
    assert result.array.dtype == array.dtype
    assert_array_equal(result.array, array)


@every_affine
def test_turning_to_canonical_axes_is_what_nibabel_does(name: str) -> None:
    volume = image(affine=AFFINES[name])
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.array, volume.affine))
    i, j, k = expected.shape
    result = resample(volume, Grid((i, j, k), expected.affine))
    assert_array_equal(result.array, np.asarray(expected.dataobj))


@every_affine
def test_cropping_is_what_nibabel_does(name: str) -> None:
    volume = image(affine=AFFINES[name])
    expected = nibabel.Nifti1Image(volume.array, volume.affine).slicer[1:4, 2:, :5]
    i, j, k = expected.shape
    result = resample(volume, Grid((i, j, k), expected.affine))
    assert_array_equal(result.array, np.asarray(expected.dataobj))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("axes", [np.eye(3), TILTED])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("side", [-100.0, 100.0])
def test_a_grid_beside_the_volume_is_all_background(
    kind: Kind, axes: NDArray, axis: int, side: float
) -> None:
    volume = Volume(np.ones((5, 6, 7), np.float32), np.eye(4), kind)
    origin = np.eye(3)[axis] * side
    if kind is Kind.LABEL:
        volume = Volume(volume.array.astype(np.int32), volume.affine, kind)
    grid = Grid((4, 4, 4), affine(axes, origin=(origin[0], origin[1], origin[2])))
    assert (resample(volume, grid, background=3).array == 3).all()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory on Linux alone")
def test_zeros_around_a_small_part_of_a_large_grid_take_no_memory() -> None:
    """512^3 float32 are 512 MiB; half a voxel aside nothing but the part is interpolated."""
    volume = image((6, 7, 5))
    before = _resident_pages()
    for origin in (np.eye(4), affine(origin=(-200.5, -200, -200))):
        result = resample(volume, Grid((512, 512, 512), origin))
        assert result.array.nbytes == 2**29
        assert (_resident_pages() - before) * os.sysconf("SC_PAGE_SIZE") < 2**27


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_the_result_carries_grid_kind_and_segments() -> None:
    volume = label_map(segments=(Segment(1, "one"),))
    for axes in (np.eye(3), TILTED):
        grid = Grid((3, 4, 5), affine(axes))
        result = resample(volume, grid)
        assert result.grid.equals(grid)
        assert (result.kind, result.segments) == (Kind.LABEL, volume.segments)


@pytest.mark.parametrize(("shift", "copied"), [(1e-4, True), (0.02, False)])
def test_a_shift_below_rounding_is_a_copy_and_one_above_is_not(shift: float, copied: bool) -> None:
    volume = image()
    result = resample(volume, Grid(volume.grid.size, affine(origin=(shift, 0, 0))))
    assert np.array_equal(result.array, volume.array) == copied


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 3.0), (1.0, 1.0, 1.0), (0.4, 0.4, 0.4)])
def test_no_label_appears_that_was_not_there(
    dtype: str, spacing: tuple[float, float, float]
) -> None:
    values = (0, 3, 100, 200) if dtype == "uint8" else (0, 3, 70_000, 2**31 - 1)
    labels = label_map((12, 12, 12), values=values)
    labels = Volume(labels.array.astype(dtype), AFFINES["oblique"], Kind.LABEL)
    result = resample(labels, surrounding(labels.grid, TILTED, spacing))
    assert result.array.dtype == labels.array.dtype
    assert set(np.unique(result.array)) == set(values)


@pytest.mark.skipif(not hasattr(sitk, "sitkLabelLinear"), reason="no label interpolator here")
def test_a_voxel_takes_the_label_with_the_largest_share() -> None:
    square = np.array([[1, 2], [2, 3]], np.int32)
    labels = Volume(np.stack([square] * 2, -1), np.eye(4), Kind.LABEL)
    # At (0.4, 0.4) the shares are 0.36 for 1, 0.48 for 2 and 0.16 for 3; the nearest is 1.
    shares = {(0.4, 0.4): 2, (0.2, 0.2): 1, (0.9, 0.9): 3, (0.1, 0.8): 2}
    for (x, y), label in shares.items():
        grid = Grid((1, 1, 1), affine(origin=(x, y, 0.5)))
        assert resample(labels, grid).array.item() == label


def test_without_a_label_interpolator_the_nearest_label_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "_LABEL_INTERPOLATOR", sitk.sitkNearestNeighbor)
    labels = label_map()
    result = resample(labels, Grid((4, 5, 6), affine(origin=(0.3, 0.4, 0.8))))
    assert_array_equal(result.array, labels.array[:4, :5, 1:])


def test_splines_reproduce_the_voxels_that_a_finer_lattice_shares() -> None:
    volume = image((20, 21, 22), AFFINES["oblique"])
    result = resample(volume, moved(volume.grid, np.eye(3) / 2, np.array([1, 0, 1]), (37, 41, 41)))
    assert_allclose(result.array[::2, ::2, ::2], volume.array[1:, :, 1:], rtol=1e-4, atol=1e-2)


def test_thick_slices_are_the_mean_of_the_slices_within_them() -> None:
    volume = image((20, 21, 24), AFFINES["oblique"])
    thick = moved(volume.grid, np.diag([1.0, 1.0, 3.0]), np.array([0, 0, 1]), (20, 21, 8))
    expected = volume.array.reshape(20, 21, 8, 3).mean(3)
    assert_allclose(resample(volume, thick).array, expected, rtol=1e-4, atol=1e-2)


def test_thick_slices_at_the_border_are_the_mean_of_what_is_known() -> None:
    volume = image((5, 5, 4), np.eye(4))
    thick = moved(volume.grid, np.diag([1.0, 1.0, 3.0]), np.array([0, 0, 4]), (5, 5, 2))
    result = resample(volume, thick, background=-7.0).array
    assert_allclose(result[..., 0], volume.array[..., 3], rtol=1e-4, atol=1e-2)
    assert (result[..., 1] == -7).all()


@every_affine
def test_splines_reproduce_a_linear_ramp_within_the_volume(name: str) -> None:
    slope = np.array([0.3, -0.2, 0.5])
    shape = (24, 26, 28)
    indices = np.argwhere(np.ones(shape))
    grid = Grid(shape, AFFINES[name])
    ramp = (grid.positions(indices) @ slope).reshape(shape).astype(np.float32)
    inner = moved(
        grid, np.eye(3) @ rotation(5, 4, 3) * 0.6, np.array([8.3, 8.1, 8.2]), (12, 13, 14)
    )
    result = resample(Volume(ramp, grid.affine, Kind.INTENSITY), inner)
    positions = inner.positions(np.argwhere(np.ones(inner.size)))
    # Mirrored borders bend the ramp; 8 voxels further in, less than 1e-4 of that is left.
    assert_allclose(result.array, (positions @ slope).reshape(inner.size), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("turn", [np.eye(3), rotation(0, 0, 90)])
def test_a_volume_reaches_to_the_outer_faces_of_its_voxels(kind: Kind, turn: NDArray) -> None:
    dtype = np.int32 if kind is Kind.LABEL else np.float32
    volume = Volume(np.full((6, 6, 6), 5, dtype), np.eye(4), kind)
    for place, inside in [(-0.51, 0), (-0.49, 1), (5.49, 1), (5.51, 0)]:
        for axis in range(3):
            origin = np.full(3, 2.3)
            origin[axis] = place
            grid = Grid((1, 1, 1), affine(turn, (0.5, 0.5, 0.5), tuple(origin)))
            assert resample(volume, grid).array.item() == pytest.approx(5 * inside, abs=1e-4)


@every_affine
def test_every_voxel_inside_the_volume_and_none_outside_is_filled(name: str) -> None:
    volume = Volume(np.ones((10, 11, 12), np.uint8), AFFINES[name], Kind.LABEL)
    grid = surrounding(volume.grid, TILTED, (0.8, 0.9, 1.1))
    indices = np.argwhere(np.ones(grid.size))
    inverse = np.linalg.inv(volume.affine)
    at = grid.positions(indices) @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((at > -0.5) & (at < np.array([9.5, 10.5, 11.5]))).all(1).reshape(grid.size)
    # Within 1e-6 of a face, either is right; no voxel of this grid is.
    assert_array_equal(resample(volume, grid).array.astype(bool), inside)


def test_splines_stay_within_the_range_of_the_volume_whatever_the_background() -> None:
    step = Volume(np.zeros((12, 12, 12), np.float32), np.eye(4), Kind.INTENSITY)
    step.array[6:] = 1
    grid = surrounding(step.grid, TILTED, (0.7, 0.7, 0.7))
    for background in (-1000.0, 0.25, 7.0):
        array = resample(step, grid, background).array
        inside = array[array != np.float32(background)]
        assert (inside.min(), inside.max()) == (0, 1)
        assert (array == np.float32(background)).any()
        assert array.dtype == np.float32


def test_whole_intensities_are_not_rounded_between_voxels() -> None:
    ramp = np.broadcast_to(np.arange(30)[:, None, None], (30, 5, 5)).astype(np.int16)
    volume = Volume(ramp, np.eye(4), Kind.INTENSITY)
    result = resample(volume, Grid((1, 1, 1), affine(origin=(15.25, 2, 2))))
    assert result.array.item() == pytest.approx(15.25, abs=1e-3)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("thin", [1, 2, 3])
def test_volumes_thinner_than_a_splines_support_are_interpolated_too(kind: Kind, thin: int) -> None:
    array = np.full((thin, 8, 8), 4, np.int32 if kind is Kind.LABEL else np.float32)
    result = resample(Volume(array, np.eye(4), kind), Grid((1, 4, 4), affine(origin=(0, 1.4, 1.6))))
    assert_allclose(result.array, 4)


@every_affine
def test_simpleitk_puts_every_voxel_where_the_grid_does(name: str) -> None:
    volume = image(affine=AFFINES[name])
    itk = to_sitk(volume)
    for index in [(0, 0, 0), (4, 0, 0), (1, 2, 3)]:
        x, y, z = itk.TransformIndexToPhysicalPoint(index)
        assert_allclose([(-x, -y, z)], volume.grid.positions(np.array([index], float)), atol=1e-9)
        assert itk[index] == volume.array[index]


@pytest.mark.skipif(not hasattr(sitk, "sitkLabelLinear"), reason="no label interpolator here")
@pytest.mark.parametrize(
    ("axes", "spacing"), [(np.eye(3), (0.7, 0.7, 3.0)), (TILTED, (1.0, 1.0, 1.0))]
)
def test_real_labels_come_back_better_by_vote_than_by_the_nearest(
    axes: NDArray, spacing: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_file("hippocampus/labels")
    dice: dict[int, list[float]] = {}
    for path in sorted(folder.glob("*.nii.gz"))[:3]:
        labels = read_label_map(path)
        for interpolator in (sitk.sitkLabelLinear, sitk.sitkNearestNeighbor):
            monkeypatch.setattr(resampling, "_LABEL_INTERPOLATOR", interpolator)
            there = resample(labels, surrounding(labels.grid, axes, spacing))
            back = resample(there, labels.grid).array
            for label in (1, 2):
                before, after = labels.array == label, back == label
                overlap = 2 * np.count_nonzero(before & after) / (before.sum() + after.sum())
                dice.setdefault(interpolator, []).append(overlap)
    voted, nearest = (np.mean(d) for d in dice.values())
    assert voted > nearest > 0.8


def test_thick_slices_of_a_slanted_bar_become_a_bar_without_steps() -> None:
    # A bar that moves 4 mm from one 4 mm slice to the next: 1 mm slices in between move 1 mm.
    thick = np.zeros((40, 8, 6), np.uint8)
    for k in range(6):
        thick[8 + 4 * k : 14 + 4 * k, 2:6, k] = 7
    volume = Volume(thick, np.diag([1.0, 1.0, 4.0, 1.0]), Kind.LABEL)
    thin = resample(volume, Grid((40, 8, 21), np.eye(4)))
    starts = [int(np.flatnonzero(thin.array[:, 4, k])[0]) for k in range(21)]
    assert set(np.unique(thin.array)) == {0, 7}
    assert np.abs(np.array(starts) - (8 + np.arange(21))).max() <= 1
    assert starts[::4] == [8, 12, 16, 20, 24, 28]
