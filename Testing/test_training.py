"""Training: samples, resuming, and a bundle at the end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from conftest import TINY
from MedDiffusionLib.bundle import load_bundle
from MedDiffusionLib.dataset import (
    Augmentation,
    Case,
    TrainingSamples,
    load_case,
    make_case,
    random_drop,
    random_grid,
)
from MedDiffusionLib.errors import UserError
from MedDiffusionLib.execution import Execution
from MedDiffusionLib.grids import GridSpec
from MedDiffusionLib.shape_model import load_shape_model
from MedDiffusionLib.training import Limits, Report, load_preset, pair_files, read_split, train
from MedDiffusionLib.volume import Kind, Volume

SPEC = GridSpec("RAS", (1.0, 1.0, 1.0), (16, 16, 16))
STILL = Augmentation(shift=0, far_shift=0.0, affine=0.0)


def case(seed: int = 0, size: tuple[int, int, int] = (18, 20, 14)) -> Case:
    random = np.random.default_rng(seed)
    labels = np.zeros(size, np.int32)
    labels[6:10, 6:10, 5:9], labels[6:10, 10:14, 5:9] = 1, 2
    image = random.normal(100, 10, size) + 30 * labels
    return make_case(
        f"case{seed}",
        Volume(image, np.eye(4), Kind.INTENSITY),
        Volume(labels, np.eye(4), Kind.LABEL),
        SPEC, [1, 2], (0.0, 100.0),
    )  # fmt: skip


def samples(augmentation: Augmentation, dropout: float = 0.0, seed: int = 0) -> TrainingSamples:
    return TrainingSamples(
        [case(n) for n in range(3)], SPEC, [1, 2], augmentation, dropout, 2**40, seed
    )


def test_voxels_outside_the_scan_count_as_much_as_told() -> None:
    weight = TrainingSamples([case()], SPEC, [1, 2], STILL, 0.0, 2**40, 0, outside_weight=0.25)[0][
        3
    ]
    assert sorted(weight.unique().tolist()) == [0.25, 1.0]
    assert (weight == 1).float().mean() == 14 / 16


def test_a_still_sample_is_the_scan_around_its_labels() -> None:
    image, labels, present, valid = samples(STILL)[0]
    assert image.shape == valid.shape == (1, 16, 16, 16)
    assert labels.shape == (16, 16, 16)
    assert (labels == 1).sum() == (labels == 2).sum() == 64
    assert present.tolist() == [1, 1]
    # The scan is 14 voxels deep: two of the sixteen lie outside.
    assert valid.mean() == 14 / 16
    assert image.min() >= -1
    assert image.max() <= 1
    assert image[0][labels == 2].mean() > image[0][labels == 1].mean() > image[0].mean()


def test_outside_the_scan_the_image_mirrors() -> None:
    one = case()
    grid = one.fov
    low = int(np.rint(one.scan.origin[2] - grid.origin[2]))
    image = samples(STILL)
    image.cases = [one]
    pixels = image[0][0][0]
    assert low > 0
    assert (pixels[:, :, low - 1] == pixels[:, :, low]).all()


def test_sample_i_depends_on_seed_and_i_only() -> None:
    first, second = samples(Augmentation()), samples(Augmentation())
    first[3], first[9]
    for a, b in zip(first[5], second[5], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[5][0], samples(Augmentation(), seed=1)[5][0])


def test_every_case_comes_once_an_epoch() -> None:
    still = samples(STILL)
    for epoch in range(3):
        seen = [still[3 * epoch + n][0] for n in range(3)]
        assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_dropped_labels_leave_the_label_map_and_are_not_present() -> None:
    dropping = samples(STILL, dropout=0.4)
    kinds = set()
    for index in range(60):
        _, labels, present, _ = dropping[index]
        for label in (1, 2):
            assert bool((labels == label).any()) == bool(present[label - 1])
        kinds.add(tuple(present.tolist()))
    assert kinds == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_all_labels_are_dropped_together_as_often_as_told() -> None:
    random = np.random.default_rng(0)
    drops = np.array([random_drop(5, 0.2, random) for _ in range(4000)])
    everything = drops.all(1).mean()
    assert everything == pytest.approx(0.2 + 0.8 * 0.2**5, abs=0.02)
    assert drops[~drops.all(1)].mean() == pytest.approx(0.2, abs=0.02)


def test_random_grids_stray_no_further_than_told() -> None:
    fov = case().fov
    still = random_grid(fov, STILL, np.random.default_rng(0))
    assert (still.affine == fov.affine).all()
    shifted = Augmentation(shift=3, far_shift=0.0, affine=0.0)
    turned = Augmentation(shift=0, far_shift=0.0, affine=1.0, rotation=10, scale=0.08)
    flipped = Augmentation(flip_axes=(0,), shift=0, far_shift=0.0, affine=0.0)
    flips = set()
    for seed in range(50):
        random = np.random.default_rng(seed)
        offset = random_grid(fov, shifted, random).origin - fov.origin
        assert np.abs(offset).max() <= 3
        grid = random_grid(fov, turned, random)
        assert np.abs(grid.spacing - 1).max() <= 0.08 + 1e-9
        middle = np.array([[7.5, 7.5, 7.5]])
        np.testing.assert_allclose(grid.positions(middle), fov.positions(middle), atol=1e-9)
        flips.add(float(np.linalg.det(random_grid(fov, flipped, random).affine)))
    assert flips == {1.0, -1.0}


def test_rotation_of_anisotropic_voxels_is_a_rotation_in_millimetres() -> None:
    fov = GridSpec("RAS", (1.0, 1.0, 3.0), (16, 16, 16)).at(np.zeros(3), (16, 16, 16))
    turned = Augmentation(shift=0, far_shift=0.0, affine=1.0, rotation=30, scale=0.0)
    grid = random_grid(fov, turned, np.random.default_rng(1))
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(grid.spacing, (1, 1, 3), atol=1e-9)


def write(folder: Path, name: str, array: np.ndarray, spacing: float = 1.0) -> Path:
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * 3)
    path = folder / name
    sitk.WriteImage(image, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for n in range(3):
        labels = np.zeros((14, 20, 18), np.uint8)
        labels[5:9, 6:10, 6:10], labels[5:9, 10:14, 6:10] = 1, 2
        image = (random.normal(100, 10, labels.shape) + 30 * labels).astype(np.float32)
        write(tmp_path / "images", f"case {n}.nii.gz", image)
        write(tmp_path / "labels", f"case {n}.nrrd", labels)
    return tmp_path


def preset(**training: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(TINY)
    for key in ("bundle_version", "training", "figures"):
        del manifest[key]
    settings = copy.deepcopy(load_preset("hippocampus-mr")["training"])
    return {
        "manifest": manifest,
        "training": {**settings, "batch": 2, "data": "made up", **training},
    }


def run(
    data: Path, output: Path, iterations: int, checkpoint_minutes: float = 5, **options: Any
) -> list[Report]:
    reports: list[Report] = []
    train(
        pair_files(data / "images", data / "labels"), output,
        preset(checkpoint_minutes=checkpoint_minutes), Limits(iterations=iterations),
        Execution(torch.device("cpu")),
        on_iteration=options.pop("on_iteration", reports.append), **options,
    )  # fmt: skip
    return reports


def test_a_run_leaves_a_bundle_that_loads_and_says_how_it_was_made(data: Path) -> None:
    reports = run(data, data / "model", 3, command="meddiffusion train")
    assert [r.iteration for r in reports] == [1, 2, 3]
    assert reports[-1].progress == 1
    loaded = load_bundle(data / "model")
    facts = loaded.manifest.content["training"]
    assert (facts["cases"], facts["iterations"], facts["data"]) == (3, 3, "made up")
    assert facts["command"] == "meddiffusion train"


def test_a_run_fits_a_shape_model_where_its_label_maps_have_all_labels(data: Path) -> None:
    def widen(name: str, width: int) -> None:
        labels = np.zeros((14, 20, 18), np.uint8)
        labels[5:9, 6:10, 6 : 6 + width], labels[5:9, 10:14, 6 : 6 + width] = 1, 2
        write(data / "labels", name, labels)

    for n in range(3):
        widen(f"case {n}.nrrd", 3 + n)
    run(data, data / "model", 1)
    drawn = load_shape_model(data / "model", load_bundle(data / "model").manifest).sample(0)
    assert set(np.unique(drawn.array)) == {0, 1, 2}

    write(data / "labels", "case 0.nrrd", np.pad(np.ones((4, 4, 4), np.uint8), 7)[:14, :, :])
    (data / "images" / "case 0.nii.gz").unlink()
    write(data / "images", "case 0.nii.gz", np.zeros((14, 18, 18), np.float32))
    run(data, data / "other", 1)
    assert "shape_model" not in load_bundle(data / "other").manifest.content


def test_the_loss_falls(data: Path) -> None:
    losses = [r.loss for r in run(data, data / "model", 60)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data: Path) -> None:
    run(data, data / "whole", 4)

    def interrupt(report: Report) -> None:
        if report.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, data / "parts", 4, checkpoint_minutes=-1, on_iteration=interrupt)
    run(data, data / "parts", 4, resume=True)
    whole, parts = (load_file(data / n / "weights.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_run_does_not_overwrite_another(data: Path) -> None:
    run(data, data / "model", 1)
    with pytest.raises(UserError, match="holds another run"):
        run(data, data / "model", 1)


def test_resuming_needs_a_checkpoint(data: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        run(data, data / "model", 1, resume=True)


def test_files_pair_by_name_whatever_their_format(data: Path) -> None:
    pairs = pair_files(data / "images", data / "labels", ["case 1"])
    assert [(a.name, b.name) for a, b in pairs] == [("case 1.nii.gz", "case 1.nrrd")]
    with pytest.raises(UserError, match="1 cases lack an image or a label map, the first is x"):
        pair_files(data / "images", data / "labels", ["case 1", "x"])
    with pytest.raises(UserError, match="not a folder"):
        pair_files(data / "nowhere", data / "labels")


def test_an_image_on_another_grid_than_its_label_map_is_refused(data: Path) -> None:
    odd = write(data / "labels", "odd.nrrd", np.ones((14, 20, 18), np.uint8), spacing=2.0)
    with pytest.raises(UserError, match="another grid"):
        load_case(data / "images" / "case 0.nii.gz", odd, SPEC, [1, 2], (0, 100))


def test_a_label_that_the_preset_does_not_name_is_refused(data: Path) -> None:
    odd = write(data / "labels", "odd.nrrd", np.full((14, 20, 18), 7, np.uint8))
    with pytest.raises(UserError, match=r"\[7\]"):
        load_case(data / "images" / "case 0.nii.gz", odd, SPEC, [1, 2], (0, 100))


def test_presets_and_splits_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(UserError, match="no training preset"):
        load_preset(str(bad))
    with pytest.raises(UserError, match="There is no preset"):
        load_preset("nobody's")
    with pytest.raises(UserError, match="no split file"):
        read_split(bad)
    with pytest.raises(UserError, match="cannot be read"):
        read_split(tmp_path / "none.json")
