"""Deformations, the topology of labels, and label maps varied by them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.deformation import (
    DeformableLabels,
    at,
    exponential,
    identity,
    jacobian,
    resized,
    smooth_noise,
)
from MedDiffusionLib.volumes.topology import Topology, remove_specks, topology
from MedDiffusionLib.volumes.variation import Variation
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume

NODES = (9, 11, 7)
INSIDE = (slice(None), *[slice(2, -2)] * 3)


def linear(matrix: NDArray[np.float64]) -> torch.Tensor:
    """The velocity field that is a linear function of the place."""
    return torch.einsum("ij,jxyz->ixyz", torch.from_numpy(matrix).float(), identity(NODES))


def ball(radius: float, size: int = 24) -> NDArray[np.bool_]:
    away = np.linalg.norm(np.indices((size,) * 3).T - (size - 1) / 2, axis=-1)
    inside: NDArray[np.bool_] = np.less_equal(away.T, radius)
    return inside


def two_halves(affine: NDArray[np.float64] | None = None) -> Volume:
    """A ball whose halves are the labels 3 and 7."""
    front = np.arange(24)[:, None, None] < 12
    array = np.where(ball(8), np.where(front, 3, 7), 0).astype(np.uint8)
    segments = (Segment(3, "front"), Segment(7, "back"))
    return Volume(array, np.eye(4) if affine is None else affine, Kind.LABEL, segments)


def dice(a: Volume, b: Volume) -> float:
    both, total = (a.array > 0) & (b.array > 0), (a.array > 0).sum() + (b.array > 0).sum()
    return float(2 * both.sum() / total)


def test_a_constant_velocity_moves_all_alike() -> None:
    velocity = torch.full((3, *NODES), 0.1)
    np.testing.assert_allclose(exponential(velocity), velocity, atol=1e-6)


def test_growth_and_turn_are_the_exponential_of_their_matrix() -> None:
    growth = np.diag([0.1, -0.2, 0.05])
    turn = np.array([[0, -0.15, 0], [0.15, 0, 0], [0, 0, 0]])
    turned = np.array([[math.cos(0.15), -math.sin(0.15)], [math.sin(0.15), math.cos(0.15)]])
    expected = {0: np.diag(np.exp([0.1, -0.2, 0.05])), 1: np.eye(3)}
    expected[1][:2, :2] = turned
    for number, matrix in enumerate((growth, turn)):
        found = exponential(linear(matrix)) + identity(NODES)
        wanted = linear(expected[number])
        # What leaves the box goes on as at its border, and reaches two nodes in.
        np.testing.assert_allclose(found[INSIDE], wanted[INSIDE], atol=2e-3)


def test_the_flow_back_undoes_the_flow() -> None:
    noise = smooth_noise(NODES, (2.0, 2.0, 2.0), np.random.default_rng(0))
    velocity = 0.08 * torch.from_numpy(noise).float()
    there, back = exponential(velocity), exponential(-velocity)
    again = there + at(back, identity(NODES) + there)
    assert there.abs().max() > 0.1
    # A tenth of a node at most.
    np.testing.assert_allclose(again[INSIDE], 0, atol=0.02)


def test_noise_has_deviation_1_and_the_correlation_of_its_gaussian() -> None:
    noise = smooth_noise((60, 60, 60), (3.0, 2.0, 2.0), np.random.default_rng(1))
    assert noise.std() == pytest.approx(1, abs=0.05)
    # Of white noise smoothed with s: exp(-d^2 / (4 s^2)).
    assert (noise[:, 6:] * noise[:, :-6]).mean() == pytest.approx(math.exp(-1), abs=0.06)
    assert (noise[:, :, 4:] * noise[:, :, :-4]).mean() == pytest.approx(math.exp(-1), abs=0.06)


def test_the_jacobian_is_the_growth_of_volume_and_negative_where_it_folds() -> None:
    grown = linear(np.diag([0.1, 0.2, -0.3]))
    np.testing.assert_allclose(jacobian(grown), 1.1 * 1.2 * 0.7, rtol=1e-4)
    assert jacobian(linear(np.diag([-1.5, 0, 0]))).max() < 0


def test_a_field_fits_any_number_of_voxels() -> None:
    field = linear(np.diag([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(
        resized(field, (5, 6, 8)),
        identity((5, 6, 8)) * torch.tensor([1.0, 2, 3])[:, None, None, None],
        atol=1e-6,
    )


def test_pieces_tunnels_and_cavities_are_counted() -> None:
    # The Euler numbers of solids: pieces less tunnels plus cavities.
    full, hollow, ring = ball(8), ball(8) & ~ball(3), np.zeros((9, 9, 3), bool)
    ring[1:8, 1:8, 1] = True
    ring[3:6, 3:6, 1] = False
    assert (topology(full).pieces, topology(full).euler) == (1, 1)
    assert topology(hollow).euler == 2
    assert topology(ring).euler == 0
    two = np.concatenate([full, full])
    assert (topology(two).pieces, topology(two).large, topology(two).euler) == (2, 2, 2)
    two[0, 0, 0] = True
    assert (topology(two).pieces, topology(two).large) == (3, 2)


def test_only_what_was_meant_is_to_be_kept() -> None:
    whole, ring = Topology(1, 1, 1), Topology(1, 1, 0)
    assert whole.is_kept_by(Topology(1, 1, 1))
    assert not whole.is_kept_by(ring)
    assert not whole.is_kept_by(Topology(2, 1, 2))
    assert ring.is_kept_by(Topology(1, 1, -1))
    assert not ring.is_kept_by(Topology(2, 2, 1))
    specks = Topology(40, 2, 31)
    assert specks.is_kept_by(Topology(37, 2, 20))
    assert not specks.is_kept_by(Topology(40, 1, 31))


def test_a_speck_becomes_what_lies_around_it() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:4, 1:4, 1:4], labels[5:8, 5:8, 5:8] = 1, 2
    cleaned = labels.copy()
    cleaned[6, 6, 6], cleaned[1, 7, 7] = 1, 1
    remove_specks(cleaned, 1, 1)
    np.testing.assert_array_equal(cleaned, labels)
    remove_specks(cleaned, 2, 1)
    np.testing.assert_array_equal(cleaned, labels)


def test_voxels_that_touch_at_an_edge_are_apart() -> None:
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = True
    assert (topology(mask).pieces, topology(mask).euler) == (2, 2)


def test_labels_stay_where_nothing_moves_and_move_by_whole_voxels() -> None:
    labels = two_halves()
    deformable = DeformableLabels(labels, 5.0)
    still = deformable.deformed(torch.zeros(3, 3, 3, 3))
    np.testing.assert_array_equal(still.array, labels.array)
    step = torch.zeros(3, 2, 2, 2)
    step[1] = 2 * 2 / (deformable.size[1] - 1)
    moved = deformable.deformed(step)
    # A voxel comes from two voxels farther on.
    np.testing.assert_array_equal(moved.array[:, :-2], labels.array[:, 2:])
    assert moved.segments == labels.segments


def test_a_thin_sheet_stays_whole() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[4:16, 4:16, 9:11] = 1
    variation = Variation(Volume(array, np.eye(4), Kind.LABEL))
    for seed in range(3):
        variant = variation.sample(0.7, seed)
        assert variant.broken == ()
        assert topology(variant.labels.array == 1) == topology(array == 1)


@pytest.fixture(scope="module")
def variation() -> Variation:
    return Variation(two_halves())


def test_each_variant_keeps_grid_names_and_topology_and_none_is_like_another(
    variation: Variation,
) -> None:
    given = two_halves()
    made = [variation.sample(1.0, seed).labels for seed in range(4)]
    for labels in made:
        assert labels.grid.equals(given.grid)
        assert (labels.kind, labels.segments) == (given.kind, given.segments)
        assert labels.array.dtype == given.array.dtype
        for value in (3, 7):
            assert topology(labels.array == value) == topology(given.array == value)
    assert max(dice(a, b) for a in made for b in made if a is not b) < 0.97
    assert max(dice(given, one) for one in made) < 0.98


def test_a_seed_is_a_variant_and_strength_is_how_far_it_goes(variation: Variation) -> None:
    given = two_halves()
    one, again = (variation.sample(0.6, 4).labels.array for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(variation.sample(0, 4).labels.array, given.array)
    likeness = [
        np.mean([dice(given, variation.sample(strength, seed).labels) for seed in range(3)])
        for strength in (0.1, 0.4, 1.0)
    ]
    assert likeness[0] > 0.95
    assert likeness[0] > likeness[1] > likeness[2]


def test_an_oblique_flipped_grid_of_other_voxels_is_kept() -> None:
    turned = np.array([[0.8, -0.6, 0, 9], [0.6, 0.8, 0, -4], [0, 0, -1, 3], [0, 0, 0, 1.0]])
    affine = turned @ np.diag([1.0, 0.7, 2.5, 1.0])
    given = two_halves(affine)
    varied = Variation(given).sample(0.5, 1).labels
    np.testing.assert_array_equal(varied.affine, affine)
    assert 0.6 < dice(given, varied) < 0.99


def test_a_single_slice_is_varied_within_itself() -> None:
    given = two_halves()
    slice_ = Volume(given.array[:, :, 12:13], given.affine, Kind.LABEL)
    varied = Variation(slice_).sample(0.7, 0).labels
    assert varied.array.shape == (24, 24, 1)
    assert 0.6 < dice(slice_, varied) < 1


def test_a_label_at_the_border_goes_on_beyond_it() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[5:15, 5:15, :] = 1
    varied = Variation(Volume(array, np.eye(4), Kind.LABEL)).sample(0.5, 2).labels.array
    assert varied[10, 10].all()


def test_volumes_stay_within_their_limits(variation: Variation) -> None:
    given = two_halves()
    own = int((given.array > 0).sum())
    free = [int((variation.sample(1.0, seed).labels.array > 0).sum()) for seed in range(4)]
    assert max(abs(n / own - 1) for n in free) > 0.05
    held = Variation(given, {(3, 7): (0.95 * own, 1.05 * own)})
    for seed in range(3):
        variant = held.sample(1.0, seed)
        assert variant.broken or abs((variant.labels.array > 0).sum() / own - 1) <= 0.05


def test_what_is_not_kept_is_said() -> None:
    given = two_halves()
    own = int((given.array == 7).sum())
    variant = Variation(given, {(7,): (own, own)}).sample(1.0, 0)
    assert variant.broken == (7,)
    assert 0 < variant.strength <= 1


@pytest.mark.parametrize("strength", [-0.1, 1.01, math.nan])
def test_a_strength_out_of_range_is_refused(variation: Variation, strength: float) -> None:
    with pytest.raises(UserError, match=r"strength is .*between 0 and 1"):
        variation.sample(strength, 0)


def test_an_empty_label_map_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        Variation(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4), Kind.LABEL))
