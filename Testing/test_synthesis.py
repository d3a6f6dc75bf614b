"""The one path: geometry kept, samples reproducible, settings checked, regions of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import TINY, make_bundle, tiny_manifest
from data_factory import two_boxes
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.synthesis.region import region_grid
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesis import Step
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.volume import Kind, Volume

CPU = Execution(torch.device("cpu"))


def affine(kind: str) -> np.ndarray:
    """Label map geometries as scanners and converters leave them."""
    result = np.eye(4)
    if kind == "oblique":
        a, b = np.deg2rad([30, 20])
        turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        result[:3, :3] = turn_x @ turn_z
    elif kind == "flipped":
        result[:3, :3] = np.diag([-1.0, 1.0, -1.0])
    elif kind == "permuted":
        result[:3, :3] = np.eye(3)[[2, 0, 1]]
    elif kind == "anisotropic":
        result[:3, :3] = np.diag([0.7, 0.7, 3.0])
    result[:3, 3] = (-31.5, 12.25, 80.0)
    return result


def label_map(kind: str = "plain", size: tuple[int, int, int] = (20, 22, 24)) -> Volume:
    return two_boxes(size, affine(kind))


def synthesizer(folder: Path, **changes: Any) -> Synthesizer:
    return Synthesizer(read_bundle(make_bundle(folder / "model", **changes)), CPU)


def arrays(made: Synthesizer, labels: Volume, **settings: Any) -> list[np.ndarray]:
    return [s.volumes[0].array for s in made.samples(labels, Settings(**settings))]


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped", "permuted", "anisotropic"])
def test_the_result_has_exactly_the_label_maps_geometry(tmp_path: Path, kind: str) -> None:
    labels = label_map(kind)
    (sample,) = synthesizer(tmp_path).samples(labels, Settings())
    (volume,) = sample.volumes
    assert volume.array.shape == labels.array.shape
    assert (volume.affine == labels.affine).all()
    assert volume.kind is Kind.INTENSITY
    assert volume.array.min() >= 0
    assert volume.array.max() <= 1000


@pytest.mark.parametrize("kind", ["flipped", "permuted"])
def test_the_anatomy_stays_where_it_is_in_patient_space(tmp_path: Path, kind: str) -> None:
    plain, turned = label_map(), label_map(kind)
    # The same voxels of patient space, stored in another order.
    to_plain = np.rint(np.linalg.inv(plain.affine) @ turned.affine)[:3, :3].astype(int)
    array = plain.array.transpose([int(np.flatnonzero(column)[0]) for column in to_plain.T])
    flips = tuple(axis for axis, column in enumerate(to_plain.T) if column.sum() < 0)
    array = np.flip(array, flips)
    origin = np.array([plain.array.shape[n] - 1 if to_plain[n].sum() < 0 else 0 for n in range(3)])
    moved = turned.affine.copy()
    moved[:3, 3] = plain.grid.positions(origin[None].astype(float))[0]
    made = synthesizer(tmp_path)
    (expected,) = arrays(made, plain)
    (found,) = arrays(made, Volume(array, moved, Kind.LABEL))
    expected = expected.transpose([int(np.flatnonzero(column)[0]) for column in to_plain.T])
    assert (found == np.flip(expected, flips)).all()


def test_outside_the_field_of_view_the_result_is_background(tmp_path: Path) -> None:
    changes = {"channels": [{"name": "CT", "units": "HU", "range": [-1000, 500]}]}
    labels = label_map(size=(40, 40, 40))
    (array,) = arrays(synthesizer(tmp_path, **changes), labels)
    inside = np.zeros(array.shape, bool)
    inside[12:28, 11:27, 12:28] = True
    assert (array[~inside] == -1000).all()
    assert (array[inside] > -1000).mean() > 0.5


def test_native_results_lie_on_the_models_grid_around_the_labels(tmp_path: Path) -> None:
    labels = label_map("anisotropic")
    (sample,) = synthesizer(tmp_path).samples(labels, Settings(native=True))
    grid = sample.volumes[0].grid
    assert grid.size == (16, 16, 16)
    assert (grid.spacing == 1).all()
    assert (grid.direction == np.eye(3)).all()
    middle = grid.positions(np.array([[7.5, 7.5, 7.5]]))[0]
    labelled = labels.grid.positions(np.argwhere(labels.array > 0).astype(float))
    assert np.abs(middle - (labelled.min(0) + labelled.max(0)) / 2).max() <= 0.5


def test_sample_i_depends_on_seed_and_i_only(tmp_path: Path) -> None:
    made, labels = synthesizer(tmp_path), label_map()
    three, five = arrays(made, labels, samples=3, seed=7), arrays(made, labels, samples=5, seed=7)
    assert all((a == b).all() for a, b in zip(three, five, strict=False))
    again = Synthesizer(made.model, CPU)
    resumed = list(again.prepare(labels, Settings(samples=5, seed=7)).samples(only=[3, 4]))
    assert [s.index for s in resumed] == [3, 4]
    assert (resumed[0].volumes[0].array == five[3]).all()
    assert not (five[0] == five[1]).all()
    assert not (arrays(made, labels, seed=8)[0] == five[0]).all()


def test_several_channels_come_in_the_models_order(tmp_path: Path) -> None:
    channels = [
        {"name": "T1", "units": "arbitrary", "range": [0, 1]},
        {"name": "T2", "units": "arbitrary", "range": [10, 11]},
    ]
    (sample,) = synthesizer(tmp_path, channels=channels).samples(label_map(), Settings())
    assert [float(v.array.min()) // 10 for v in sample.volumes] == [0, 1]


def test_the_label_map_and_missing_labels_change_the_result(tmp_path: Path) -> None:
    made, labels = synthesizer(tmp_path), label_map()
    partial = Volume(np.where(labels.array == 2, 0, labels.array), labels.affine, Kind.LABEL)
    assert not (arrays(made, labels)[0] == arrays(made, partial)[0]).all()


def test_guidance_moves_away_from_the_unconditional_result(tmp_path: Path) -> None:
    made, labels = synthesizer(tmp_path), label_map()
    none, one, two = (arrays(made, labels, guidance=w, steps=1)[0] for w in (0.0, 1.0, 2.0))
    inner = (none > 0) & (none < 1000) & (one > 0) & (one < 1000) & (two > 0) & (two < 1000)
    assert inner.sum() > 100
    # One step: the result is linear in the guidance scale.
    np.testing.assert_allclose((2 * one - none)[inner], two[inner], atol=0.5)


def test_every_step_reports_an_estimate_on_the_models_own_grid(tmp_path: Path) -> None:
    labels, steps = label_map("oblique"), []
    last: list[np.ndarray] = []

    def on_step(step: Step) -> None:
        steps.append((step.sample, step.step, step.steps))
        last.append(step.estimate()[0].array)

    made = synthesizer(tmp_path)
    native = Settings(samples=2, steps=3, native=True)
    samples = list(made.samples(labels, native, on_step=on_step))
    list(made.samples(labels, Settings(steps=3), on_step=on_step))
    assert (last[-1] == last[2]).all()
    assert steps[:6] == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]
    assert (last[2] == samples[0].volumes[0].array).all()


def test_a_cancelled_synthesis_makes_nothing_more(tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.sample == 1:
            raise Cancelled

    made: list[int] = []
    with pytest.raises(Cancelled):
        for sample in synthesizer(tmp_path).samples(label_map(), Settings(samples=3), on_step=stop):
            made.append(sample.index)
    assert made == [0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(samples=0), "samples is 0"),
        (Settings(samples=10**6), "samples"),
        (Settings(seed=-1), "seed is -1"),
        (Settings(seed=2**40), "seed"),
        (Settings(steps=0), "steps is 0"),
        (Settings(steps=10**6), "steps"),
        (Settings(guidance=-0.5), "guidance"),
        (Settings(guidance=float("nan")), "guidance"),
        (Settings(guidance=2.0, guidance_range=(0.5, 0.5)), "guidance_range"),
        (Settings(guidance=2.0, guidance_range=(0.5, 2.0)), "guidance_range"),
        (Settings(guidance=2.0, guidance_range=(float("nan"), 1.0)), "guidance_range"),
        (Settings(sampler="euler"), "no sampler euler: use one of dpmpp-2m"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: Settings, words: str) -> None:
    with pytest.raises(UserError, match=words):
        next(synthesizer(tmp_path).samples(label_map(), settings))


def test_guidance_between_two_noise_levels_costs_evaluations_there_alone(tmp_path: Path) -> None:
    made, labels = synthesizer(tmp_path), label_map(size=(16, 16, 16))
    whole, none, part = (
        arrays(made, labels, steps=4, native=True, **guidance)[0]
        for guidance in (
            {"guidance": 2.0, "guidance_range": (0.0, 1.0)},
            {"guidance": 2.0, "guidance_range": (0.9999, 0.99995)},
            {"guidance": 2.0, "guidance_range": (0.2, 0.8)},
        )
    )
    assert (whole == arrays(made, labels, steps=4, native=True, guidance=2.0)[0]).all()
    assert (none == arrays(made, labels, steps=4, native=True, guidance=1.0)[0]).all()
    assert (part != whole).any()
    assert (part != none).any()
    asked: list[float] = []
    made._denoiser.network.register_forward_hook(lambda _, given, __: asked.append(float(given[1])))
    arrays(made, labels, steps=4, native=True, guidance=2.0, guidance_range=(0.2, 0.8))
    # The cosine schedule's noise has the deviation sin(t pi / 2): .2 at t = .13, .8 at t = .59.
    guided = {t for t in asked if asked.count(t) == 2}
    assert guided == {t for t in asked if 0.13 < t < 0.59}
    assert 0 < len(guided) < 4


def test_a_range_of_guidance_is_the_models_unless_it_is_asked_for(tmp_path: Path) -> None:
    sampling = {"sampler": "ddim", "steps": 2, "guidance": 2.0, "guidance_range": [0.2, 0.8]}
    made = synthesizer(tmp_path, sampling=sampling)
    assert made.model.manifest.to_json()["sampling"] == sampling
    for settings, said in ((Settings(), "0.2 to 0.8"),
                           (Settings(guidance_range=(0.0, 1.0)), "0 to 1"),
                           (Settings(guidance=1.0), "0 to 1")):  # fmt: skip
        prepared = made.prepare(label_map(), settings)
        assert prepared.recipe(0, "T1w").guidance_range == said


def test_guidance_needs_label_dropout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without label dropout"):
        Settings(guidance=2.0).resolve(tiny_manifest(label_dropout=0))


def test_a_schedule_of_whole_steps_has_no_more_of_them() -> None:
    architecture = {**TINY["architecture"], "schedule": {"name": "discrete", "steps": 10}}
    manifest = tiny_manifest(architecture=architecture)
    assert Settings(steps=10).resolve(manifest).steps == 10
    with pytest.raises(UserError, match="must lie between 1 and 10"):
        Settings(steps=11).resolve(manifest)


def wide_label_map() -> Volume:
    array = np.zeros((50, 20, 20), np.int32)
    array[4:46, 8:12, 8:12] = 1
    return Volume(array, affine("plain"), Kind.LABEL)


def test_a_region_larger_than_the_field_of_view_is_enlarged_with_a_margin() -> None:
    spec = tiny_manifest().grid
    grid = region_grid(wide_label_map(), spec, factors=(2, 2, 2))
    assert grid.size == (46, 16, 16)
    low = wide_label_map().grid.positions(np.array([[4.0, 8.0, 8.0]]))[0, 0]
    assert low - grid.origin[0] == 2


def test_a_region_larger_than_the_field_of_view_is_synthesized_whole(tmp_path: Path) -> None:
    made = synthesizer(tmp_path)
    seen: list[tuple[int, ...]] = []
    network = made._denoiser.network
    network.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    (array,) = arrays(made, wide_label_map())
    assert array.shape == (50, 20, 20)
    assert (array[4:46, 8:12, 8:12] > 0).mean() > 0.5
    # The network's memory is that of one block, however large the region; it is counted on less.
    assert max(seen) == (1, 8, 8, 8, 8)
