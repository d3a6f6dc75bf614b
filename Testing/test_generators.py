"""Label map generators: which kind suits which maps, quilting, templates and their deformations."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import tiny_manifest
from MedDiffusionLib.bundles.fitting import choose_kind, fit_generator
from MedDiffusionLib.bundles.generators import GENERATORS, load_generator
from MedDiffusionLib.bundles.manifest import Label, Manifest
from MedDiffusionLib.bundles.names import SHAPE_MODEL_NAME
from MedDiffusionLib.bundles.quilting import quilt
from MedDiffusionLib.bundles.shape_file import write_shape_file
from MedDiffusionLib.bundles.template_fit import Round, fit_template_model
from MedDiffusionLib.bundles.template_model import TemplateModel, save_template_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.grids import GridSpec
from MedDiffusionLib.volumes.volume import Kind, Volume

SPEC = GridSpec("RAS", (2.0, 2.0, 2.0), (20, 24, 20))
LABELS = (Label(3, "bark", (255, 0, 0), "SCT:1"), Label(7, "wood", (0, 255, 0), ""))
QUICK = (Round(500, 8, 0.04, 50.0),)


def stem_of(radius: float, shift: float = 0.0, bark: float = 1.5) -> Volume:
    """A ball of wood (7) under thin bark (3); ``shift`` voxels to the right of its middle."""
    x, y, z = np.indices((26, 26, 26)) - 12.5
    away = np.sqrt((x - shift) ** 2 + y**2 + z**2)
    array = np.where(away <= radius - bark, 7, np.where(away <= radius, 3, 0)).astype(np.uint8)
    return Volume(array, np.diag([2.0, 2.0, 2.0, 1.0]), Kind.LABEL)


RADII = np.linspace(5.5, 8.5, 6)


@pytest.fixture(scope="module")
def model() -> TemplateModel:
    maps = (stem_of(radius) for radius in RADII)
    return fit_template_model(maps, SPEC, (3, 7), templates=2, modes=4, rounds=QUICK)


def manifest(sha256: str | None, **changes: Any) -> Manifest:
    tree = replace(tiny_manifest(), name="tree", shape_model_sha256=sha256)
    kind = {"grid": SPEC, "labels": LABELS, "shape_model_kind": "deformation"}
    return replace(tree, **{**kind, **changes})


def volumes(labels: Volume) -> NDArray[np.int64]:
    return np.array([(labels.array == value).sum() for value in (3, 7)])


# ---- Quilting


def test_a_quilt_of_one_map_is_that_map() -> None:
    one = np.random.default_rng(0).integers(0, 4, (14, 12, 10)).astype(np.uint8)
    made = quilt(np.stack([one, one, one]), np.random.default_rng(1))
    np.testing.assert_array_equal(made, one)


def test_a_quilt_has_of_each_map_but_a_few_cells() -> None:
    # A map has two labels that no other has, voxel by voxel in turns.
    turns = np.indices((24, 24, 24)).sum(0) % 2
    sources = np.stack([2 * n + turns for n in range(60)]).astype(np.uint8)
    whose = quilt(sources, np.random.default_rng(0), cells=4) // 2
    np.testing.assert_array_equal(quilt(sources, np.random.default_rng(0), cells=4) // 2, whose)
    shares = np.bincount(whose.ravel(), minlength=60) / whose.size
    # Two cells of about 4^3 at most, the border's included.
    assert shares.max() < 3 / 4**3
    assert (shares > 0).sum() > 20


def test_a_cell_comes_from_the_map_that_goes_on_as_its_neighbours_do() -> None:
    # Half of the maps have a wall in the middle, the others have it four voxels aside: a quilt
    # has one of the two walls, or few voxels between them.
    sources = np.ones((40, 24, 24, 24), np.uint8)
    sources[::2, 10:] = 2
    sources[1::2, 14:] = 2
    made = quilt(sources, np.random.default_rng(3), cells=3)
    walls = (made == 1).sum(0)
    assert np.isin(walls, (10, 14)).mean() > 0.9
    assert max((walls == 10).mean(), (walls == 14).mean()) > 0.9


# ---- Fitting and drawing


def test_thin_labels_of_many_maps_are_for_templates_all_else_for_distances() -> None:
    thin = [lambda r=r: stem_of(r) for r in np.linspace(6, 8, 10)]
    thick = [lambda r=r: stem_of(r, bark=4) for r in np.linspace(8, 9, 10)]
    assert choose_kind(thin, manifest(None)) == "deformation"
    assert choose_kind(thick, manifest(None)) == "shape"
    assert choose_kind(thin[:5], manifest(None)) == "shape"


def test_the_kind_is_in_the_manifest_and_the_file_can_be_drawn_from(tmp_path: Path) -> None:
    maps = [lambda r=r: stem_of(r, bark=4) for r in (8.0, 9.0)]
    fitted = fit_generator(maps, manifest(None), tmp_path)
    assert fitted is not None and fitted.shape_model_kind == "shape"
    # As in the manifests of before, which name no kind.
    assert fitted.to_json()["shape_model"].keys() == {"sha256"}
    drawn = load_generator(tmp_path, fitted)
    assert set(np.unique(drawn.sample(1).array)) == {0, 3, 7}
    least, most = (volumes(one()) * 8 for one in maps)
    for (values, (low, high)), a, b in zip(drawn.limits.items(), least, most, strict=True):
        assert values in ((3,), (7,))
        assert min(a, b) <= low <= high <= max(a, b)


def test_draws_have_all_labels_on_the_models_grid_and_are_functions_of_the_seed(
    model: TemplateModel,
) -> None:
    made = [model.sample(seed) for seed in range(4)]
    for labels in made:
        assert labels.grid.equals(SPEC.centered())
        assert labels.kind is Kind.LABEL
        assert labels.array.dtype == np.int32
        assert set(np.unique(labels.array)) == {0, 3, 7}
    np.testing.assert_array_equal(model.sample(2).array, made[2].array)
    assert len({labels.array.tobytes() for labels in made}) == 4


def test_draws_vary_as_the_training_maps_do(model: TemplateModel) -> None:
    wood = np.array([volumes(model.sample(seed))[1] for seed in range(8)])
    smallest, largest = (volumes(stem_of(r))[1] for r in (RADII[0], RADII[-1]))
    assert smallest <= wood.min() and wood.max() <= largest
    assert wood.max() > 1.5 * wood.min()
    assert model.explained[0] > 0.6  # Only the size differs.


def test_thin_bark_stays_between_wood_and_air(model: TemplateModel) -> None:
    def touching(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
        sides = ((one.take(range(1, n), a), other.take(range(n - 1), a))
                 for a, n in enumerate(one.shape))  # fmt: skip
        return sum(int((a & b).sum()) for a, b in sides)

    for seed in range(4):
        labels = model.sample(seed).array
        wood = labels == 7
        assert touching(wood, labels == 0) < 0.2 * touching(wood, labels == 3)


def test_limits_are_the_percentiles_of_the_training_maps_volumes(model: TemplateModel) -> None:
    table = np.array([volumes(stem_of(radius)) for radius in RADII]) * 8.0
    low, high = np.percentile(table, (1, 99), axis=0)
    for number, value in enumerate((3, 7)):
        assert model.limits[value,] == pytest.approx((low[number], high[number]), rel=0.02)


def test_only_maps_whose_sides_are_alike_are_mirrored(model: TemplateModel) -> None:
    assert model.mirrored
    x = np.arange(26)[:, None, None]
    sided = [
        Volume(np.where((v.array > 0) & (x < 13), 3, np.where(v.array > 0, 7, 0)), v.affine, v.kind)
        for v in map(stem_of, RADII[:3])
    ]
    fitted = fit_template_model(sided, SPEC, (3, 7), templates=1, rounds=QUICK)
    assert not fitted.mirrored
    for seed in range(3):
        labels = fitted.sample(seed).array
        left, right = (np.argwhere(labels == value)[:, 0].mean() for value in (3, 7))
        assert left < right


def test_too_few_maps_and_too_many_labels_are_refused() -> None:
    with pytest.raises(UserError, match="at least two"):
        fit_template_model([stem_of(6)], SPEC, (3, 7), rounds=QUICK)
    with pytest.raises(UserError, match="at most 255 labels"):
        fit_template_model([stem_of(6)], SPEC, range(1, 300), rounds=QUICK)


# ---- The file


def test_a_loaded_generator_draws_the_same_maps_with_the_manifests_names(
    model: TemplateModel, tmp_path: Path
) -> None:
    vouched = manifest(save_template_model(model, tmp_path))
    loaded = load_generator(tmp_path, vouched)
    np.testing.assert_array_equal(loaded.sample(5).array, model.sample(5).array)
    assert [s.name for s in loaded.sample(5).segments] == ["bark", "wood"]
    assert vouched.to_json()["shape_model"]["kind"] == "deformation"
    assert set(GENERATORS) == {"shape", "deformation"}


def test_an_unknown_kind_is_refused(model: TemplateModel, tmp_path: Path) -> None:
    vouched = manifest(save_template_model(model, tmp_path), shape_model_kind="dream")
    with pytest.raises(UserError, match="unknown kind of shape model, dream"):
        load_generator(tmp_path, vouched)


def test_a_file_of_the_other_kind_is_refused(model: TemplateModel, tmp_path: Path) -> None:
    vouched = manifest(save_template_model(model, tmp_path), shape_model_kind="shape")
    with pytest.raises(UserError, match="is damaged"):
        load_generator(tmp_path, vouched)


def packed(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(array.tobytes()), np.uint8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"templates": packed(np.full((1, *SPEC.size), 3, np.uint8))}, "that the model has not"),
        ({"templates": packed(np.zeros(100, np.uint8))}, "do not fill the grid"),
        ({"templates": packed(np.zeros((257, *SPEC.size), np.uint8))}, "do not fill the grid"),
        ({"templates": np.ones(50, np.uint8)}, "is damaged"),
        ({"residual": np.full((3, 9, 9, 9), 60000, np.float16)}, "lead out of the grid"),
        ({"residual": np.full((3, 9, 9, 9), np.nan, np.float16)}, "NaN"),
        ({"residual": np.zeros((3, 99, 9, 9), np.float16)}, "does not fit the grid"),
        ({"modes": np.zeros((2, 3, 9, 9, 8), np.float16)}, "does not fit the grid"),
        ({"volumes": np.zeros((2, 3), np.float32)}, "does not fit the grid"),
        ({"explained": np.zeros((), np.float32)}, "does not fit the grid"),
    ],
)
def test_a_file_with_other_tensors_is_refused(
    tmp_path: Path, changes: dict[str, NDArray], said: str
) -> None:
    tensors: dict[str, NDArray] = {
        "templates": packed(np.zeros((1, *SPEC.size), np.uint8)),
        "modes": np.zeros((2, 3, 9, 9, 9), np.float16),
        "explained": np.zeros(2, np.float32),
        "residual": np.zeros((3, 9, 9, 9), np.float16),
        "volumes": np.zeros((2, 2), np.float32),
        "mirrored": np.zeros(1, np.uint8),
    }
    sha256 = write_shape_file(tmp_path, {**tensors, **changes}, SPEC, [3, 7])
    with pytest.raises(UserError, match=said):
        load_generator(tmp_path, manifest(sha256))


def test_a_generator_that_draws_no_map_with_every_label_says_so(tmp_path: Path) -> None:
    nothing = TemplateModel(
        SPEC, model_segments(), np.zeros((1, *SPEC.size), np.uint8),
        np.zeros((0, 3, 5, 5, 5), np.float16), np.zeros(0, np.float32),
        np.zeros((3, 5, 5, 5), np.float16), np.ones((2, 2), np.float32), False,
    )  # fmt: skip
    vouched = manifest(save_template_model(nothing, tmp_path))
    assert (tmp_path / SHAPE_MODEL_NAME).is_file()
    with pytest.raises(UserError, match="none has every label"):
        load_generator(tmp_path, vouched).sample(0)


def model_segments() -> Any:
    from MedDiffusionLib.volumes.volume import Segment

    return tuple(Segment(label.value, label.name) for label in LABELS)
