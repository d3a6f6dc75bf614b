"""The shape model: what its modes mean, what its samples are, and what it refuses to load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import tiny_manifest
from MedDiffusionLib.bundles.generators import load_generator
from MedDiffusionLib.bundles.manifest import Label, Manifest
from MedDiffusionLib.bundles.names import SHAPE_MODEL_NAME
from MedDiffusionLib.bundles.shape_model import (
    ShapeModel,
    _coefficients,
    fit_shape_model,
    save_shape_model,
)
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.grids import GridSpec
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume

SPEC = GridSpec("RAS", (1.0, 1.0, 1.0), (28, 32, 24))
RADII = np.linspace(6.0, 10.0, 12)


def ellipsoid(radius: float, cut: float = 0.0, values: tuple[int, int] = (3, 7)) -> Volume:
    """Half-axes ``radius``, 1.2 and 0.8 of it; ``values[0]`` in front of ``cut`` mm, else [1]."""
    x, y, z = np.indices((40, 40, 40)) - 19.5
    inside = (x / radius) ** 2 + (y / (1.2 * radius)) ** 2 + (z / (0.8 * radius)) ** 2 <= 1
    array = np.where(inside, np.where(y > cut, *values), 0).astype(np.int32)
    return Volume(array, np.eye(4), Kind.LABEL)


@pytest.fixture(scope="module")
def model() -> ShapeModel:
    cuts = np.random.default_rng(0).uniform(-2, 2, len(RADII))
    maps = (ellipsoid(r, c) for r, c in zip(RADII, cuts, strict=True))
    return fit_shape_model(maps, SPEC, (3, 7), modes=4)


def manifest(sha256: str | None, **changes: Any) -> Manifest:
    labels = (Label(3, "front", (255, 0, 0), "SCT:1"), Label(7, "back", (0, 255, 0), ""))
    egg = replace(tiny_manifest(), name="egg", shape_model_sha256=sha256)
    return replace(egg, **{"grid": SPEC, "labels": labels, **changes})


def labelled(volume: Volume) -> int:
    return int((volume.array != 0).sum())


def is_one_piece(mask: NDArray[np.bool_]) -> bool:
    """Whether a flood over voxel faces from one voxel of the mask reaches all of them."""
    reached = np.zeros(np.array(mask.shape) + 2, bool)
    reached[tuple(np.argwhere(mask)[0] + 1)] = True
    while True:
        grown = reached.copy()
        for axis in range(3):
            grown |= np.roll(reached, 1, axis) | np.roll(reached, -1, axis)
        grown[1:-1, 1:-1, 1:-1] &= mask
        grown = np.pad(grown[1:-1, 1:-1, 1:-1], 1)
        if (grown == reached).all():
            return bool(reached.sum() == mask.sum())
        reached = grown


def test_the_first_mode_is_the_size_where_only_the_size_varies() -> None:
    model = fit_shape_model((ellipsoid(r) for r in RADII), SPEC, (3, 7), modes=3)
    assert model.explained[0] > 0.9
    deviation = RADII.std(ddof=1)
    for steps in (-1, 0, 1):
        volumes = [labelled(model.label_map(np.array([sign * steps, 0, 0]))) for sign in (1, -1)]
        radii = np.cbrt(np.array(volumes) / (0.96 * 4 / 3 * np.pi))
        expected = RADII.mean() + np.array([-steps, steps]) * deviation
        np.testing.assert_allclose(sorted(radii), sorted(expected), atol=0.25)


def test_fields_are_distances_in_mm_positive_inside() -> None:
    spec = GridSpec("RAS", (1.0, 1.0, 2.0), (33, 33, 17))
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    away = np.linalg.norm((np.indices((33, 33, 17)).T - [16, 16, 8]) * [1, 1, 2], axis=-1).T
    balls = [Volume((away < radius).astype(np.int32), affine, Kind.LABEL) for radius in (9, 11)]
    model = fit_shape_model(balls, spec, [1])
    near = np.abs(10 - away[::2, ::2, ::2]) < 8
    expected = (10 - away[::2, ::2, ::2])[near]
    half_diagonal_of_a_voxel = np.sqrt(1.5)
    for field in model.mean:
        np.testing.assert_allclose(field[near], expected, atol=half_diagonal_of_a_voxel)


def test_two_maps_are_found_again_at_their_coefficients() -> None:
    maps = [ellipsoid(6.0, -1.0), ellipsoid(9.0, 2.0)]
    model = fit_shape_model(maps, SPEC, (3, 7))
    assert len(model.modes) == 1
    found = [model.label_map(np.array([z])) for z in (-np.sqrt(0.5), np.sqrt(0.5))]
    for original, again in zip(maps, sorted(found, key=labelled), strict=True):
        cropped = original.array[6:-6, 4:-4, 8:-8]
        for value in (3, 7):
            both = ((cropped == value) & (again.array == value)).sum()
            assert 2 * both / ((cropped == value).sum() + (again.array == value).sum()) > 0.96


def test_samples_keep_to_the_volumes_of_the_training_maps(model: ShapeModel) -> None:
    volumes = [labelled(model.sample(seed)) for seed in range(20)]
    assert labelled(ellipsoid(RADII[0])) <= min(volumes)
    assert max(volumes) <= labelled(ellipsoid(RADII[-1]))
    assert np.std(volumes) > 0.1 * np.mean(volumes)


def test_every_label_of_a_sample_is_one_piece(model: ShapeModel) -> None:
    for seed in range(10):
        sample = model.sample(seed).array
        assert all(is_one_piece(sample == value) for value in (3, 7))


def test_labels_that_touch_in_training_touch_in_samples(model: ShapeModel) -> None:
    for seed in range(10):
        front, back = (model.sample(seed).array == value for value in (3, 7))
        # Lines from back to front: those that meet both labels cross straight from one to the
        # other, but for a few that graze the surface.
        crossings = (back[:, :-1] & front[:, 1:]).any(1).sum()
        assert crossings > 0.95 * (front.any(1) & back.any(1)).sum()


def test_a_seed_is_a_label_map(model: ShapeModel) -> None:
    first, again, other = model.sample(1), model.sample(1), model.sample(2)
    np.testing.assert_array_equal(first.array, again.array)
    assert (first.array != other.array).any()


def test_coefficients_are_normal_within_two_standard_deviations() -> None:
    drawn = _coefficients(100_000, seed=0, draw=0)
    assert np.abs(drawn).max() <= 2
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    # sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)), the textbook value of the truncated distribution.
    assert drawn.std() == pytest.approx(0.8796, abs=0.01)


def test_a_sample_is_an_integer_label_map_on_the_grid_around_the_origin() -> None:
    spec = GridSpec("LPS", (1.0, 1.5, 2.0), (24, 20, 11))
    model = fit_shape_model([ellipsoid(r) for r in RADII[:4]], spec, (7, 3))
    sample = model.sample(0)
    assert sample.kind is Kind.LABEL
    assert sample.array.dtype == np.int32
    assert set(np.unique(sample.array)) == {0, 3, 7}
    assert sample.grid.equals(spec.at(np.array([11.5, 14.25, -10.0]), spec.size))
    front, back = (
        sample.grid.positions(np.argwhere(sample.array == value).astype(float)).mean(0)
        for value in (3, 7)
    )
    assert front[1] > 1.5 > -1.5 > back[1]


def test_the_place_and_the_axes_of_the_training_maps_do_not_matter() -> None:
    flipped = np.array([[0, 1, 0, -5], [-1, 0, 0, 44], [0, 0, 1, 8], [0, 0, 0, 1.0]])
    maps = [ellipsoid(r) for r in RADII]
    moved = [Volume(v.array[:, ::-1].transpose(1, 0, 2), flipped, v.kind) for v in maps]
    expected, found = (fit_shape_model(m, SPEC, (3, 7)) for m in (maps, moved))
    np.testing.assert_array_equal(expected.mean, found.mean)


def test_other_labels_are_background() -> None:
    maps = [ellipsoid(r) for r in RADII[:3]]
    more = [Volume(v.array.copy(), v.affine, v.kind) for v in maps]
    for volume in more:
        volume.array[:2] = 9
    expected, found = (fit_shape_model(m, SPEC, (3, 7)) for m in (maps, more))
    np.testing.assert_array_equal(expected.mean, found.mean)


def two_label_model(second: float, deviation: float) -> ShapeModel:
    """Label 1 in the left half; label 2 in the right, its field ``second`` +- ``deviation``."""
    spec = GridSpec("RAS", (1.0, 1.0, 1.0), (8, 8, 8))
    mean = np.ones((3, 5, 5, 5), np.float16)
    mean[1, 2:], mean[2] = -1, second
    modes = np.zeros((1, *mean.shape), np.float16)
    modes[0, 2, 2:] = deviation
    volumes = np.array([0, 1000], np.float32)
    segments = (Segment(1, "left"), Segment(2, "right"))
    return ShapeModel(spec, segments, mean, modes, np.ones(1, np.float32), volumes)


def test_a_draw_that_loses_a_label_is_drawn_again() -> None:
    model = two_label_model(second=0.0, deviation=1.0)
    assert 2 in model.label_map(np.array([1.0])).array
    assert 2 not in model.label_map(np.array([-1.0])).array
    assert all(2 in model.sample(seed).array for seed in range(20))


def test_of_a_label_in_two_pieces_the_larger_is_kept() -> None:
    spec = GridSpec("RAS", (1.0, 1.0, 1.0), (20, 8, 8))
    mean = np.full((2, 11, 5, 5), -1, np.float16)
    mean[:, 1:6, 1:4, 1:4] = mean[:, 8:10, 1:4, 1:4] = 1
    nothing = np.zeros(0, np.float32)
    model = ShapeModel(
        spec, (Segment(1, "egg"),), mean, np.zeros((0, *mean.shape), np.float16), nothing,
        np.array([0, 2000], np.float32),
    )  # fmt: skip
    along = np.asarray(model.sample(0).array.any((1, 2)))
    assert along[2:11].all()
    assert not along[13:].any()


def test_a_model_without_one_of_its_labels_is_refused() -> None:
    with pytest.raises(UserError, match="none has every label"):
        two_label_model(second=-3.0, deviation=1.0).sample(0)


def test_the_closest_volume_is_taken_where_none_is_in_range() -> None:
    model = fit_shape_model([ellipsoid(r) for r in RADII[::4]], SPEC, (3, 7))
    impossible = ShapeModel(
        model.spec, model.segments, model.mean, model.modes, model.explained, model.volumes * 10
    )
    volumes = [labelled(model.label_map(_coefficients(2, 0, draw))) for draw in range(30)]
    assert labelled(impossible.sample(0)) == max(volumes)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([ellipsoid(8.0)], "at least two"),
        ([ellipsoid(8.0)] * 3, "all the same"),
        ([ellipsoid(8.0), ellipsoid(8.0, cut=30.0)], "no label 3"),
        ([ellipsoid(8.0), ellipsoid(8.0, values=(1, 1))], "empty"),
    ],
)
def test_maps_that_make_no_model_are_refused(maps: list[Volume], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_shape_model(maps, SPEC, (3, 7))


def test_a_loaded_model_samples_the_same_maps_with_the_manifests_names(
    model: ShapeModel, tmp_path: Path
) -> None:
    loaded = load_generator(tmp_path, manifest(save_shape_model(model, tmp_path)))
    np.testing.assert_array_equal(loaded.sample(5).array, model.sample(5).array)
    assert loaded.sample(5).segments == (Segment(3, "front", "SCT:1"), Segment(7, "back"))
    assert [p.name for p in tmp_path.iterdir()] == [SHAPE_MODEL_NAME]


def test_a_model_is_written_as_the_same_bytes_each_time(model: ShapeModel, tmp_path: Path) -> None:
    assert len({save_shape_model(model, tmp_path) for _ in range(20)}) == 1


def test_a_damaged_file_is_refused(model: ShapeModel, tmp_path: Path) -> None:
    vouched = manifest(save_shape_model(model, tmp_path))
    path = tmp_path / SHAPE_MODEL_NAME
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match the SHA-256"):
        load_generator(tmp_path, vouched)


def test_a_missing_file_and_a_bundle_without_shape_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"has no {SHAPE_MODEL_NAME}"):
        load_generator(tmp_path, manifest("0" * 64))
    with pytest.raises(UserError, match="egg has no shape model"):
        load_generator(tmp_path, manifest(None))


def test_a_file_that_is_no_shape_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / SHAPE_MODEL_NAME
    path.write_text(json.dumps({"not": "tensors"}))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="is damaged"):
        load_generator(tmp_path, manifest(sha256))


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": replace(SPEC, spacing=(1.0, 1.0, 1.5))},
        {"grid": replace(SPEC, orientation="LAS")},
        {"grid": replace(SPEC, size=(28, 33, 24))},
        {"labels": (Label(3, "front", (255, 0, 0), ""),)},
    ],
)
def test_a_model_of_another_grid_or_other_labels_is_refused(
    model: ShapeModel, tmp_path: Path, changes: dict[str, Any]
) -> None:
    sha256 = save_shape_model(model, tmp_path)
    with pytest.raises(UserError, match="does not fit the grid or the labels"):
        load_generator(tmp_path, manifest(sha256, **changes))
