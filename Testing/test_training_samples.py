"""Training samples: what a sample shows, what it depends on, and cases that are refused."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from data_factory import affine, rotation
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.data.loaded_cases import Case, disk_needed, make_case
from MedDiffusionLib.training.data.samples import (
    Augmentation,
    Sample,
    TrainingSamples,
    random_drop,
    random_grid,
)
from MedDiffusionLib.training.data.store import CaseStore
from MedDiffusionLib.training.loop.loading import Batches
from MedDiffusionLib.training.objectives.batch import Batch
from MedDiffusionLib.training.objectives.denoising import Denoising, DenoisingSamples
from MedDiffusionLib.training.plan.settings import check_manifest, read_settings
from MedDiffusionLib.volumes.grids import GridSpec
from MedDiffusionLib.volumes.normalization import Intensity
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Kind, Volume
from training_factory import make_plan, write, write_data

SPEC = GridSpec("RAS", (1.0, 1.0, 1.0), (16, 16, 16))
STILL = Augmentation(shift=0, far_shift=0.0, affine=0.0)


SIZE = (18, 20, 14)


def label_map(size: tuple[int, int, int] = SIZE, thick: float = 1.0) -> Volume:
    labels = np.zeros(size, np.int32)
    labels[6:10, 6:10, 5:9], labels[6:10, 10:14, 5:9] = 1, 2
    return Volume(labels, np.diag([1.0, 1.0, thick, 1.0]), Kind.LABEL)


def same(first: Sample | Batch, second: Sample | Batch) -> bool:
    """Whether all tensors are the same, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(astuple(first), astuple(second), strict=True))


def case(seed: int = 0, size: tuple[int, int, int] = SIZE, thick: float = 1.0) -> Case:
    random = np.random.default_rng(seed)
    labels = label_map(size, thick)
    image = random.normal(100, 10, size) + 30 * labels.array
    return make_case(
        f"case{seed}",
        [Volume(image, labels.affine, Kind.INTENSITY)],
        labels,
        SPEC, [1, 2], Intensity(percentiles=(0.0, 100.0)),
    )  # fmt: skip


def samples(augmentation: Augmentation, dropout: float = 0.0, seed: int = 0) -> TrainingSamples:
    return TrainingSamples(
        [case(n) for n in range(3)], SPEC, [1, 2], augmentation, dropout, 2**40, seed
    )


def test_voxels_outside_the_scan_count_as_much_as_told() -> None:
    made = TrainingSamples([case()], SPEC, [1, 2], STILL, 0.0, 2**40, 0, outside_weight=0.25)
    weight = made[0].weight
    assert sorted(weight.unique().tolist()) == [0.25, 1.0]
    assert (weight == 1).float().mean() == 14 / 16


def test_a_still_sample_is_the_scan_around_its_labels() -> None:
    sample = samples(STILL)[0]
    image, labels, valid = sample.images, sample.labels, sample.weight
    assert image.shape == valid.shape == (1, 16, 16, 16)
    assert labels.shape == (16, 16, 16)
    assert (labels == 1).sum() == (labels == 2).sum() == 64
    assert sample.annotated.tolist() == [1, 1]
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
    pixels = image[0].images[0]
    assert low > 0
    assert (pixels[:, :, low - 1] == pixels[:, :, low]).all()


def test_sample_i_depends_on_seed_and_i_only() -> None:
    first, second = samples(Augmentation()), samples(Augmentation())
    first[3], first[9]
    assert same(first[5], second[5])
    assert not torch.equal(first[5].images, samples(Augmentation(), seed=1)[5].images)


def test_every_case_comes_once_an_epoch() -> None:
    still = samples(STILL)
    for epoch in range(3):
        seen = [still[3 * epoch + n].images for n in range(3)]
        assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_dropped_labels_leave_the_label_map_and_are_not_annotated() -> None:
    dropping = samples(STILL, dropout=0.4)
    kinds = set()
    for index in range(60):
        sample = dropping[index]
        for label in (1, 2):
            assert bool((sample.labels == label).any()) == bool(sample.annotated[label - 1])
        kinds.add(tuple(sample.annotated.tolist()))
    assert kinds == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_all_labels_are_dropped_together_as_often_as_told() -> None:
    random = np.random.default_rng(0)
    drops = np.array([random_drop(5, 0.2, random) for _ in range(4000)])
    everything = drops.all(1).mean()
    # By chance too; a probability that is random makes any number of 0 to 5 equally likely.
    assert everything == pytest.approx(0.2 + 0.8 * (0.8 * 0.2**5 + 0.2 / 6), abs=0.02)
    alone = (drops.sum(1) == 4).mean()
    assert alone == pytest.approx(0.8 * (0.8 * 5 * 0.2**4 * 0.8 + 0.2 / 6), abs=0.01)
    assert not np.array([random_drop(5, 0.0, random) for _ in range(99)]).any()


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


def test_contrasts_become_channels_each_normalized_on_its_own() -> None:
    first = np.random.default_rng(0).normal(100, 10, SIZE)
    volumes = [Volume(a, np.eye(4), Kind.INTENSITY) for a in (first, -1e4 * first)]
    two = make_case("two", volumes, label_map(), SPEC, [1, 2], Intensity(percentiles=(0, 100)))
    image = TrainingSamples([two], SPEC, [1, 2], STILL, 0.0, 1, 0)[0].images
    assert image.shape == (2, 16, 16, 16)
    torch.testing.assert_close(image[0], -image[1])

    window = Intensity(window=((80.0, 120.0), (-2e6, 0.0)))
    fixed = make_case("two", volumes, label_map(), SPEC, [1, 2], window)
    image = TrainingSamples([fixed], SPEC, [1, 2], STILL, 0.0, 1, 0)[0].images
    inside = (first > 80) & (first < 120)
    grid = fixed.fov
    low = np.rint(grid.origin).astype(int)
    crop = tuple(slice(max(0, a), a + 16) for a in low)
    shown = image[0].numpy()[:, :, -low[2] : 14 - low[2]] if low[2] < 0 else image[0].numpy()
    np.testing.assert_allclose(
        shown[inside[crop]], (first[crop][inside[crop]] - 80) / 20 - 1, atol=1e-4
    )


@pytest.mark.parametrize("thick", [1.0, 3.0])
def test_what_a_grid_shows_does_not_depend_on_how_much_of_the_scan_was_looked_at(
    thick: float,
) -> None:
    size, margin = (40, 44, 30), 40
    one, labels = case(size=size, thick=thick), label_map(size, thick)
    scan = one.images[0]
    origin = scan.affine @ [-margin, -margin, -margin, 1]
    affine = np.column_stack([scan.affine[:, :3], origin])
    whole = Volume(np.pad(scan.array, margin, "symmetric"), affine, Kind.INTENSITY)
    inside = Volume(np.ones(size, np.uint8), scan.affine, Kind.LABEL)
    for seed in range(6):
        wild = Augmentation(flip_axes=(0, 1), affine=1.0, far_shift=1.0)
        grid = random_grid(one.fov, wild, np.random.default_rng(seed))
        if seed > 3:
            # Partly, then wholly beyond the scan.
            grid.affine[2, 3] += 15 * thick * (seed - 3)
        expected = resample(whole, grid).array
        np.testing.assert_allclose(one.images_on(grid)[0], expected, atol=1e-3)
        assert (one.labels_on(grid) == resample(labels, grid).array).all()
        assert (one.validity(grid) == resample(inside, grid).array).all()


@pytest.mark.parametrize(
    ("affine", "size"),
    [
        (np.diag([0.5, -0.5, 0.5, 1]), (28, 28, 28)),
        (affine(np.eye(3)[[1, 2, 0]], (0.5, 0.4, 0.7), (3, 1, 2)), (28, 22, 39)),
        (np.diag([0.5, 0.5, 4, 1]), (28, 28, 14)),
        (affine(rotation(20, -10, 35), (0.5, 0.5, 0.5)), (28, 28, 28)),
    ],
)
def test_a_scan_finer_than_the_model_is_averaged_once_and_shows_the_same(
    affine: np.ndarray, size: tuple[int, int, int]
) -> None:
    shape = tuple(int(n) for n in 2 * np.array(size))
    smooth = sum(np.sin(np.arange(n) / 9).reshape(np.roll([n, 1, 1], axis))
                 for axis, n in enumerate(shape))  # fmt: skip
    labels = np.zeros(shape, np.int32)
    middle = tuple(slice(n // 2 - 4, n // 2 + 4) for n in shape)
    labels[middle] = 1
    scan = Volume(np.asarray(smooth, np.float32), affine, Kind.INTENSITY)
    fine = make_case("fine", [scan], Volume(labels, affine, Kind.LABEL), SPEC, [1, 2],
                     Intensity(window=((-3, 3),)))  # fmt: skip
    assert fine.images[0].array.size < 0.6 * scan.array.size
    assert fine.annotated.tolist() == [True, False]
    shown = fine.images_on(fine.fov)[0]
    wanted = resample(Volume(scan.array / 3, affine, Kind.INTENSITY), fine.fov).array
    inside = fine.validity(fine.fov) == 1
    assert inside.mean() > 0.3
    np.testing.assert_allclose(shown[inside], wanted[inside], atol=0.03)
    assert (fine.labels_on(fine.fov) == 1).any()


def test_noise_and_time_depend_on_seed_and_number_only_and_times_cover_a_batch_evenly() -> None:
    def made(batch: int, seed: int = 0) -> DenoisingSamples:
        return DenoisingSamples(samples(STILL, seed=seed), (8, 8, 8, 8), (2, 2, 2), batch)

    first, second = made(4), made(4)
    first[0], first[2]
    assert same(first[5], second[5])
    noise = [first[n].noise for n in range(8)]
    assert all(not torch.equal(a, b) for i, a in enumerate(noise) for b in noise[:i])
    assert not torch.equal(noise[0], made(4, seed=1)[0].noise)
    assert torch.stack(noise).std().item() == pytest.approx(1, abs=0.02)
    for batch in range(3):
        times = [float(first[4 * batch + n].time) for n in range(4)]
        assert [int(4 * t) for t in times] == [0, 1, 2, 3]


@pytest.mark.process
def test_batches_are_the_same_whoever_makes_them() -> None:
    """A CPU's batches are made by threads, other devices' by processes."""
    plan = make_plan()
    manifest, settings = check_manifest(plan["manifest"]), read_settings(plan["training"])
    made = Denoising(build_model(manifest)).samples(samples(settings.augmentation), settings.batch)

    def batches(device: str) -> list[Batch]:
        with closing(Batches(made, 5, Ranks(), torch.device(device))) as batches:
            return list(itertools.islice(batches, 3))

    for here, there in zip(batches("cpu"), batches("mps"), strict=True):
        assert same(here, there)
    assert not multiprocessing.active_children()


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="other systems end processes otherwise")
def test_an_ended_process_that_made_batches_is_noticed_and_another_error_is_not_taken_for_it() -> (
    None
):
    model = build_model(check_manifest(make_plan()["manifest"]))
    made = Denoising(model).samples(samples(STILL), 2)
    with closing(Batches(made, 0, Ranks(), torch.device("mps"))) as batches:
        next(iter(batches))
        assert not batches.has_lost_worker
        worker = multiprocessing.active_children()[0]
        with pytest.raises(RuntimeError):
            worker.kill()
            worker.join()
            list(batches)
        assert batches.has_lost_worker


@pytest.mark.parametrize(("spacing", "contrasts"), [(0.5, 1), (1.0, 2), (1.7, 1), (3.0, 1)])
def test_the_disk_told_for_the_cases_is_the_most_that_they_take(
    tmp_path: Path, spacing: float, contrasts: int
) -> None:
    plan = make_plan(contrasts)
    plan["manifest"]["grid"]["spacing"] = [1.0, spacing, spacing]
    manifest = check_manifest(plan["manifest"])
    files = [
        write(tmp_path, f"{n}.nrrd", np.random.default_rng(n).random((80, 70, 60), np.float32))
        for n in range(contrasts)
    ]
    labels = np.zeros((80, 70, 60), np.uint8)
    labels[20:60, 20:50, 20:30], labels[20:60, 20:50, 30:40] = 1, 2
    one = CaseFiles("a", tuple(files), write(tmp_path, "labels.nrrd", labels), "a")
    store = CaseStore(tmp_path)
    facts = store.record(one).facts
    assert facts

    def taken() -> int:
        return sum(p.stat().st_size for p in store.folder.glob("*/*") if p.stem[:3] != "sam")

    read = taken()
    store.prepare(one, manifest)
    assert disk_needed([facts], manifest) == pytest.approx(max(read, taken()), rel=0.1)


def refused(one: CaseFiles, output: Path, contrasts: int = 1) -> str:
    """Why a case cannot be prepared for the tiny plan."""
    with pytest.raises(UserError) as caught:
        CaseStore(output).prepare(one, check_manifest(make_plan(contrasts)["manifest"]))
    return str(caught.value)


def test_a_case_that_does_not_fit_the_plan_is_refused(tmp_path: Path) -> None:
    one, *_ = write_data(tmp_path)
    thick = write(tmp_path / "images", "thick.nrrd", np.ones((14, 20, 18), np.float32) * 7, 2.0)
    odd = write(tmp_path / "labels", "odd.nrrd", np.ones((14, 20, 18), np.uint8), spacing=2.0)
    foreign = write(tmp_path / "labels", "foreign.nrrd", np.full((14, 20, 18), 7, np.uint8))
    assert "another grid" in refused(CaseFiles("a", one.images, odd, "a"), tmp_path)
    sentence = refused(CaseFiles("b", (*one.images, thick), one.labels, "b"), tmp_path, 2)
    assert "thick.nrrd" in sentence
    assert "Case case 0 has 1 images and the model 2 channels" in refused(one, tmp_path, 2)
    assert "[7]" in refused(CaseFiles("c", one.images, foreign, "c"), tmp_path)
