"""The field of view lies centred on the labelled region, on the label map's lattice if it can."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from data_factory import AFFINES, affine, box_map, image, rotation
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.grids import GridSpec, fov_grid, labelled_box
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Grid, Kind, Volume

every_affine = pytest.mark.parametrize("name", AFFINES)
every_spec = pytest.mark.parametrize(
    "spec",
    [
        GridSpec("RAS", (1.0, 1.0, 1.0), (24, 30, 26)),
        GridSpec("LPS", (1.0, 1.0, 1.0), (25, 31, 27)),
        GridSpec("ASL", (0.8, 1.1, 2.0), (24, 31, 26)),
    ],
    ids=["RAS", "LPS odd", "ASL anisotropic"],
)
LOW, HIGH = (3, 5, 4), (8, 12, 9)
MAP_SHAPE = (16, 18, 14)
RAS = GridSpec("RAS", (1.0, 1.0, 1.0), (24, 30, 26))


def corners(labels: Volume) -> NDArray[np.float64]:
    """RAS positions of the eight outer corners of the box of ``LOW`` to ``HIGH``."""
    ends = [(low - 0.5, high + 0.5) for low, high in zip(LOW, HIGH, strict=True)]
    return labels.grid.positions(np.array(np.meshgrid(*ends)).reshape(3, -1).T)


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [
        ("RAS", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("LPS", [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]),
        ("ASR", [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
        ("IRP", [[0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
    ],
)
def test_an_orientation_code_names_where_each_axis_points(
    orientation: str, axes: list[list[int]]
) -> None:
    assert_array_equal(GridSpec(orientation, (1, 1, 1), (2, 2, 2)).axes, axes)


@every_affine
@every_spec
def test_the_labelled_box_is_that_of_the_outer_corners(name: str, spec: GridSpec) -> None:
    labels = box_map(MAP_SHAPE, LOW, HIGH, AFFINES[name])
    along = corners(labels) @ spec.axes
    low, high = labelled_box(labels, spec)
    assert_allclose(low, along.min(0), atol=1e-9)
    assert_allclose(high, along.max(0), atol=1e-9)


def test_one_voxel_is_a_box_of_its_own_extent() -> None:
    labels = box_map((4, 4, 4), (1, 2, 3), (1, 2, 3), affine(spacing=(1, 2, 3), origin=(10, 0, 0)))
    low, high = labelled_box(labels, RAS)
    assert_allclose(low, [10.5, 3, 7.5])
    assert_allclose(high, [11.5, 5, 10.5])


def test_an_empty_label_map_is_refused() -> None:
    empty = Volume(np.zeros((4, 4, 4), np.int32), np.eye(4), Kind.LABEL)
    with pytest.raises(UserError, match="empty"):
        labelled_box(empty, RAS)
    with pytest.raises(UserError, match="empty"):
        fov_grid(empty, RAS)


@every_affine
@every_spec
@pytest.mark.parametrize("size", [None, (40, 41, 42)])
def test_the_field_of_view_is_centred_within_a_voxel(
    name: str, spec: GridSpec, size: tuple[int, int, int] | None
) -> None:
    labels = box_map(MAP_SHAPE, LOW, HIGH, AFFINES[name])
    grid = fov_grid(labels, spec, size)
    assert grid.size == (size or spec.size)
    assert_allclose(grid.affine[:3, :3], spec.axes * spec.spacing)
    centre = grid.positions((np.array([grid.size]) - 1) / 2)[0]
    along = corners(labels) @ spec.axes
    off = centre @ spec.axes - (along.min(0) + along.max(0)) / 2
    assert (np.abs(off) <= np.array(spec.spacing) / 2 + 1e-5).all()


@every_affine
@every_spec
def test_the_field_of_view_holds_a_labelled_region_smaller_than_it(
    name: str, spec: GridSpec
) -> None:
    labels = box_map(MAP_SHAPE, (5, 6, 6), (9, 10, 7), AFFINES[name])
    indices = np.argwhere(labels.array)
    inverse = np.linalg.inv(fov_grid(labels, spec).affine)
    at = labels.grid.positions(indices) @ inverse[:3, :3].T + inverse[:3, 3]
    assert (at >= -0.5).all()
    assert (at <= np.array(spec.size) - 0.5).all()


@pytest.mark.parametrize("axes", [np.eye(3), np.diag([-1.0, -1, 1]), np.eye(3)[[2, 0, 1]] * -1])
@pytest.mark.parametrize("size", [(24, 30, 26), (25, 31, 27)])
def test_on_a_lattice_of_the_models_spacing_nothing_is_interpolated(
    axes: NDArray, size: tuple[int, int, int]
) -> None:
    placed = affine(axes, origin=(-31.25, 17.5, 101.123))
    labels = box_map(MAP_SHAPE, LOW, HIGH, placed)
    scan = image(MAP_SHAPE, placed)
    grid = fov_grid(labels, GridSpec("RAS", (1.0, 1.0, 1.0), size))
    there = resample(scan, grid, background=-1)
    assert_array_equal(np.unique(there.array[there.array != -1]), np.unique(scan.array))
    assert_array_equal(resample(there, labels.grid).array, scan.array)


def test_a_lattice_of_the_models_anisotropic_spacing_is_met_too() -> None:
    spec = GridSpec("LPS", (0.7, 1.25, 3.0), (30, 30, 30))
    labels = box_map(MAP_SHAPE, LOW, HIGH, AFFINES["anisotropic"])
    there = resample(labels, fov_grid(labels, spec))
    assert_array_equal(resample(there, labels.grid).array, labels.array)


def test_an_odd_box_on_an_even_field_of_view_does_not_hang_on_rounding() -> None:
    firsts = []
    for noise in (-1e-9, 0.0, 1e-9):
        labels = box_map((9, 9, 9), (2, 2, 2), (6, 6, 6), affine(origin=(noise, noise, noise)))
        firsts.append(fov_grid(labels, GridSpec("RAS", (1.0, 1.0, 1.0), (8, 8, 8))).origin)
    assert_allclose(firsts[0], firsts[1], atol=1e-6)
    assert_allclose(firsts[2], firsts[1], atol=1e-6)


def test_grids_are_equal_when_their_corners_meet_within_the_tolerance() -> None:
    grid = Grid((10, 20, 30), AFFINES["oblique"])
    assert grid.equals(Grid((10, 20, 30), AFFINES["oblique"] + 1e-9))
    assert not grid.equals(Grid((10, 20, 31), AFFINES["oblique"]))
    shifted = AFFINES["oblique"].copy()
    shifted[0, 3] += 0.08
    assert not grid.equals(Grid((10, 20, 30), shifted))
    # The tolerance is in voxels, whose shortest edge here is 0.7 mm.
    assert not grid.equals(Grid((10, 20, 30), shifted), tolerance=0.1)
    assert grid.equals(Grid((10, 20, 30), shifted), tolerance=0.12)


@every_affine
def test_a_grid_tells_its_spacing_direction_and_origin(name: str) -> None:
    grid = Grid((5, 6, 7), AFFINES[name])
    assert_allclose(grid.direction * grid.spacing, AFFINES[name][:3, :3])
    assert_allclose(np.linalg.norm(grid.direction, axis=0), 1)
    assert_allclose(grid.positions(np.zeros((1, 3)))[0], grid.origin)
    step = grid.positions(np.array([[0.0, 0, 0], [0, 1, 0]]))
    assert_allclose(step[1] - step[0], AFFINES[name][:3, 1])


def test_the_spacing_of_a_turned_grid_is_that_of_its_voxels() -> None:
    grid = Grid((2, 2, 2), affine(rotation(10, 20, 30), (0.5, 1.0, 2.0)))
    assert_allclose(grid.spacing, [0.5, 1.0, 2.0])
