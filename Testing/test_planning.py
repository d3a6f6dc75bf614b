"""The plan chosen from the data, what a user changes in it, and its estimates."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_factory import shared_file
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data.cases import CaseFiles, DataSet, find_data
from MedDiffusionLib.training.data.findings import CaseFacts, DataReport, Intensities
from MedDiffusionLib.training.data.preflight import check
from MedDiffusionLib.training.data.store import CaseStore
from MedDiffusionLib.training.plan.estimates import footprint
from MedDiffusionLib.training.plan.layouts import HAAR_VOXELS_CPU
from MedDiffusionLib.training.plan.planning import (
    describe_plan,
    estimate,
    make_plan,
    merge,
    split_groups,
    why_not_learned,
    why_representation,
)
from MedDiffusionLib.training.plan.presets import load_preset, read_preset
from MedDiffusionLib.training.plan.reuse import check_representation
from MedDiffusionLib.training.plan.settings import check_manifest, read_settings

GB = 10**9
Triple = tuple[float, float, float]


def facts(
    extent: Triple = (40, 40, 40),
    spacing: Triple = (1, 1, 1),
    box: Triple | None = None,
    values: tuple[int, ...] = (1, 2),
) -> CaseFacts:
    i, j, k = (round(n / s) for n, s in zip(extent, spacing, strict=True))
    return CaseFacts("case", (i, j, k), spacing, extent, box or extent, dict.fromkeys(values, 9))


def report(
    cases: list[CaseFacts],
    channels: tuple[str, ...] = ("T1",),
    names: dict[int, str] | None = None,
    intensities: tuple[Intensities, ...] = (),
) -> DataReport:
    known = intensities or tuple(
        Intensities(name, (0, 50, 900), (20, 60, 950), False) for name in channels
    )
    return DataReport(len(cases), (), tuple(cases), known, names or {})


def data_of(*groups: str, channels: tuple[str, ...] = ("T1",)) -> DataSet:
    cases = tuple(
        CaseFiles(f"c{n}", (Path("i"),) * len(channels), Path("l"), group)
        for n, group in enumerate(groups)
    )
    return DataSet(cases, channels, {}, ())


def plan(
    *cases: CaseFacts,
    device: str = "cpu",
    memory: int = 7 * GB,
    channels: tuple[str, ...] = ("T1",),
    name: str = "model",
    minutes: float | None = None,
    disk_bytes: int | None = None,
    **about: Any,
) -> dict[str, Any]:
    data = data_of(*(str(n) for n in range(len(cases))), channels=channels)
    found = report(list(cases), channels, **about)
    return make_plan(data, found, device, name, memory, minutes, disk_bytes)


def grid(*cases: CaseFacts, **options: Any) -> dict[str, Any]:
    return plan(*cases, **options)["manifest"]["grid"]


def architecture(*cases: CaseFacts, **options: Any) -> dict[str, Any]:
    return plan(*cases, **options)["manifest"]["architecture"]


def cube(n: float) -> CaseFacts:
    return facts((n, n, n))


def test_a_plan_has_the_keys_of_a_preset() -> None:
    preset, made = load_preset("hippocampus-mr"), plan(facts())

    def keys(part: Any) -> Any:
        return {k: keys(v) for k, v in part.items()} if isinstance(part, dict) else None

    assert keys(made) == keys(preset)


def test_the_spacing_is_the_median_of_the_cases() -> None:
    spacings: list[Triple] = [(1, 2, 1), (0.5, 1.5, 1), (3, 3, 2)]
    cases = [facts((60, 60, 60), spacing) for spacing in spacings]
    assert grid(*cases)["orientation"] == "RAS"
    assert grid(*cases)["spacing"] == [1, 2, 1]


def test_a_far_coarser_axis_gets_its_10th_percentile() -> None:
    spacings = [4.0, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6]
    cases = [facts((60, 60, 60), (1, 1, s)) for s in spacings]
    assert grid(*cases)["spacing"] == [1, 1, pytest.approx(np.percentile(spacings, 10))]
    finer = [facts((60, 60, 60), (1, 1.5, s)) for s in (1.0, 1.0, 5, 5, 5, 5)]
    assert grid(*finer)["spacing"] == [1, 1.5, 1.5]


def test_nearly_equal_spacings_become_isotropic() -> None:
    assert (
        grid(facts((60, 60, 60), (1, 1, 1.2)))["spacing"]
        == [pytest.approx(1.2 ** (1 / 3), 1e-4)] * 3
    )
    assert grid(facts((60, 60, 60), (1, 1, 1.3)))["spacing"] == [1, 1, 1.3]
    assert grid(facts((60, 60, 60), (0.8125, 0.8125, 0.8125)))["spacing"] == [0.8125] * 3


def test_the_field_of_view_is_a_little_more_than_the_labelled_box() -> None:
    made = grid(facts((200, 200, 200), box=(40, 56, 40)))
    assert (np.array(made["size"]) > (40, 56, 40)).all()
    assert (np.array(made["size"]) < 2 * np.array([40, 56, 40])).all()


def test_the_field_of_view_leaves_out_the_largest_boxes() -> None:
    cases = [facts((300, 300, 300), box=(40, 40, 40)) for _ in range(99)]
    assert grid(*cases, facts((300, 300, 300), box=(200, 200, 200))) == grid(*cases)


def test_the_field_of_view_is_at_most_the_median_scan() -> None:
    cases = [facts((n, 64, 64), box=(n, 60, 60)) for n in (40, 48, 90)]
    assert grid(*cases)["size"] == [48, 64, 64]


def test_a_large_field_of_view_gets_coarser_alike_along_all_axes() -> None:
    fine, coarse = grid(cube(90), memory=70 * GB), grid(cube(400), memory=70 * GB)
    assert (np.array(coarse["size"]) * coarse["spacing"] >= 400).all()
    assert len(set(coarse["spacing"])) == 1
    assert coarse["spacing"][0] > fine["spacing"][0] == 1


def head(count: int, extent: Triple = (192, 224, 192), spacing: Triple = (2, 2, 2)) -> Any:
    """Cases with more voxels than wavelets are good for on a CPU."""
    return [facts(extent, spacing)] * count


def test_a_large_grid_gets_a_learned_latent_and_the_plan_says_why() -> None:
    made = plan(*head(20))
    assert made["manifest"]["grid"]["size"] == [96, 112, 96]
    representation = made["manifest"]["architecture"]["representation"]
    assert (representation["name"], representation["factors"]) == ("autoencoder", [4, 4, 4])
    assert representation["labels"] is True
    own = made["training"]["representation"]
    assert own == {
        "share": 0.3, "batch": 4, "patch": [48, 48, 48], "learning_rate": 1e-3, "views": 32,
    }  # fmt: skip
    read_settings(made["training"])
    check_representation(
        check_manifest(made["manifest"]), read_settings(made["training"]).representation
    )
    reason = why_representation(made["manifest"], "cpu", "")
    text = describe_plan(made, estimate(made, "cpu"), 10**9, reason)
    assert "learned, 4 x 4 x 4 voxels to one, channels 4: 1,032,192 voxels, more than the" in text
    assert "Stages          the representation (30% of the run, patches of 48 x 48 x 48" in text


@pytest.mark.parametrize(
    ("count", "device", "minutes", "words"),
    [(9, "cpu", None, "9 cases are too few"), (20, "cpu", 19.0, "19 minutes are too few")],
)
def test_where_no_latent_can_be_learned_the_grid_gets_coarser_instead(
    count: int, device: str, minutes: float | None, words: str
) -> None:
    made = plan(*head(count), device=device, minutes=minutes)
    assert made["manifest"]["architecture"]["representation"] == {"name": "haar", "levels": 1}
    assert made["manifest"]["grid"]["spacing"][0] > 2
    assert math.prod(made["manifest"]["grid"]["size"]) <= HAAR_VOXELS_CPU
    assert "representation" not in made["training"]
    refusal = why_not_learned(count, device, minutes)
    assert words in why_representation(made["manifest"], device, refusal)


def test_a_gpu_takes_wavelets_further_and_learns_a_latent_sooner() -> None:
    assert architecture(*head(20), device="cuda")["representation"]["name"] == "haar"
    large = head(20, (300, 300, 300))
    made = plan(*large, device="cuda", minutes=5.0, memory=70 * GB)
    assert made["manifest"]["architecture"]["representation"]["name"] == "autoencoder"


def test_thick_slices_are_halved_once_less_and_no_plan_has_two_haar_levels() -> None:
    thick = architecture(*head(20, (200, 200, 200), (0.9, 0.9, 3)))["representation"]
    assert thick["factors"] == [4, 4, 2]
    for extent in (30, 60, 90, 120, 250):
        found = architecture(*[cube(extent)] * 20)["representation"]
        assert found.get("levels", 1) == 1


def test_views_are_as_many_as_cases_disk_and_time_allow() -> None:
    def views(count: int, **options: Any) -> int:
        made: int = plan(*head(count), **options)["training"]["representation"]["views"]
        return made

    assert [views(count) for count in (10, 100, 1000)] == [32, 20, 4]
    # A tenth of 2 GB: 4 of each case, of some 420 kB.
    assert views(100, disk_bytes=2_000_000_000) == 4
    assert views(10, disk_bytes=0) == 1
    # A tenth of an hour, of which each view takes 1.03 s on a CPU.
    assert views(100, minutes=60.0) == 3
    assert views(100, minutes=600.0) == 20


def test_a_plan_says_that_guidance_is_to_be_learned() -> None:
    made = plan(cube(40))
    assert "Guidance " not in describe_plan(made, estimate(made, "cpu"), 10**9)
    made["training"]["distillation"] = {"share": 0.15}
    read_settings(made["training"])
    text = describe_plan(made, estimate(made, "cpu"), 10**9)
    assert "Guidance        learned in the last 15% of the run" in text


def test_a_plan_without_labels_has_none() -> None:
    made = plan(*[facts((192, 224, 192), (2, 2, 2), values=())] * 20)
    manifest = check_manifest(made["manifest"])
    assert (manifest.labels, manifest.label_dropout, manifest.sampling.guidance) == ((), 0, 1)
    assert manifest.architecture.representation.options["labels"] is False
    assert made["training"]["augmentation"]["flip_axes"] == []
    text = describe_plan(made, estimate(made, "cpu"), 10**9)
    assert "Labels          none" in text
    assert "Random maps" not in text


def test_the_finest_axes_get_coarser_first() -> None:
    spacing = grid(facts((300, 300, 120), (0.5, 0.5, 3)))["spacing"]
    assert spacing[2] == 3
    assert 0.5 < spacing[0] == spacing[1] < 3


def test_every_grid_covers_its_field_of_view_and_fits_its_network() -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        extent = random.uniform((20, 20, 6), (300, 300, 60))
        made = plan(facts(tuple(extent), (1, 1, 1)))["manifest"]
        assert (np.array(made["grid"]["size"]) * made["grid"]["spacing"] >= extent - 1e-2).all()
        # It refuses sizes that the network or the representation cannot halve.
        check_manifest(made)


def test_more_contrasts_and_a_gpu_make_a_wider_network() -> None:
    def width(**options: Any) -> int:
        return architecture(cube(32), memory=70 * GB, **options)["network"]["channels"][0]

    assert width() < width(device="cuda")
    assert width() < width(channels=("A", "B", "C", "D"))


def test_little_memory_makes_the_network_narrower_then_the_grid_coarser() -> None:
    needs = footprint(check_manifest(plan(cube(96))["manifest"]))
    memories = (7 * GB, int(needs.fixed + 0.9 * needs.sample), 600_000_000)
    ample, narrow, coarse = (plan(cube(96), memory=memory) for memory in memories)
    widths = [m["manifest"]["architecture"]["network"]["channels"][0] for m in (ample, narrow)]
    assert widths[1] < widths[0]
    assert narrow["manifest"]["grid"] == ample["manifest"]["grid"]
    assert np.prod(coarse["manifest"]["grid"]["size"]) <= 96**3 / 2
    for made, memory in zip((ample, narrow, coarse), memories, strict=True):
        needed = footprint(check_manifest(made["manifest"]))
        assert needed.fixed + made["training"]["batch"] * needed.sample <= memory


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs at least 0.4 GB .* may take 0.1 GB: close"):
        plan(cube(96), memory=GB // 10)


def test_without_a_limit_a_128_cube_needs_less_than_8_gb_on_a_cpu() -> None:
    made = make_plan(data_of("a"), report([cube(128)]), "cpu", "m")
    assert estimate(made, "cpu").memory_bytes < 8 * GB


def test_the_batch_is_the_largest_power_of_two_that_fits() -> None:
    needs = footprint(check_manifest(plan(cube(96))["manifest"]))
    for batch, memory in [(1, 1.9), (2, 2.0), (2, 3.9), (4, 4.1), (8, 8.1), (8, 40.0)]:
        made = plan(cube(96), memory=int(needs.fixed + memory * needs.sample))["training"]
        assert made["batch"] == batch


@pytest.mark.parametrize(
    ("name", "whole_numbers", "air", "is_ct"),
    [("ct", False, -3.0, True), ("image", True, -1023.0, True), ("image", False, -1023.0, False)],
)
def test_ct_has_a_fixed_window(name: str, whole_numbers: bool, air: float, is_ct: bool) -> None:
    channel = Intensities(name, (air, 0, 285.1), (-994, 35, 402), whole_numbers)
    made = plan(facts(), channels=(name,), intensities=(channel,))["manifest"]
    window = [min(-1000, np.floor(air / 10) * 10), 410]
    assert made["intensity"] == ({"window": [window]} if is_ct else {"percentiles": [0.5, 99.5]})
    assert made["channels"][0]["units"] == ("HU" if is_ct else "arbitrary")
    assert made["channels"][0]["range"] == (window if is_ct else [0, 1000])


def test_channel_names_are_made_to_fit_and_stay_distinct() -> None:
    made = plan(facts(), channels=("T1 post", "MRI", "MRI", "MRI"))["manifest"]
    assert [channel["name"] for channel in made["channels"]] == ["T1-post", "MRI", "MRI-2", "MRI-3"]


def test_labels_are_the_values_that_occur_in_colors_of_their_own() -> None:
    values = tuple(range(3, 3 + 256))
    labels = plan(facts(values=values), names={3: "liver", 999: "unused"})["manifest"]["labels"]
    assert [label["value"] for label in labels] == list(values)
    assert [label["name"] for label in labels[:2]] == ["liver", "label 4"]
    assert len({tuple(label["color"]) for label in labels}) == 256
    with pytest.raises(UserError, match="257 different labels"):
        plan(facts(values=tuple(range(1, 258))))


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ({1: "anterior", 2: "posterior"}, [0]),
        ({1: "bright tissue", 2: "cleft"}, [0]),
        ({1: "left kidney", 2: "right kidney"}, []),
        ({1: "kidney_L", 2: "other"}, []),
        ({1: "LeftKidney", 2: "other"}, []),
        ({1: "ctx-lh-1", 2: "other"}, []),
        ({1: "anterior"}, []),
        ({}, []),
    ],
)
def test_only_labels_without_a_side_are_flipped(names: dict[int, str], axes: list[int]) -> None:
    assert plan(facts(), names=names)["training"]["augmentation"]["flip_axes"] == axes


def test_a_name_is_made_to_fit_the_manifest() -> None:
    made = plan(facts(), name="My model (2)")["manifest"]
    assert made["name"] == "my-model-2"
    assert made["title"] == "My model (2)"


def test_a_plan_builds_its_network_and_is_described() -> None:
    made = plan(facts((48, 48, 30)), names={1: "a", 2: "b"})
    check_manifest(made["manifest"])
    text = describe_plan(made, estimate(made, "cpu"), 1_234_000_000)
    assert "48 x 48 x 32 voxels of 1 x 1 x 1 mm, RAS" in text
    assert "2: a, b" in text
    assert "Random maps     drawn from distances or, where a label is thin, from templates" in text
    assert "batch 8, learning rate 0.001, left-right flips" in text
    assert "1.2 GB for the cases" in text
    assert "at least 2,000 iterations" in text


def test_label_names_are_made_to_fit_and_stay_distinct() -> None:
    made = plan(facts(values=(1, 2, 3)), names={1: "tumor", 2: "Tumor", 3: "a\n" + "x" * 999})
    first, second, third = (label["name"] for label in made["manifest"]["labels"])
    assert (first, second) == ("tumor", "Tumor (2)")
    assert third.isprintable()
    check_manifest(made["manifest"])


def test_without_a_usable_case_there_is_no_plan() -> None:
    with pytest.raises(UserError, match="No case is usable"):
        plan()


def test_a_users_settings_replace_those_of_the_plan_alone() -> None:
    made = plan(facts())
    before = copy.deepcopy(made)
    merged = merge(
        made,
        {
            "manifest": {
                "title": "Mine",
                "grid": {"size": [64, 64, 64]},
                "labels": [{"value": 2, "name": "ventricle"}],
                "intensity": {"window": [[0, 500]]},
                "architecture": {"representation": {"name": "identity"}},
            },
            "training": {"batch": 4, "augmentation": {"rotation": 0}},
        },
    )
    assert made == before
    manifest = merged["manifest"]
    assert manifest["title"] == "Mine"
    assert manifest["grid"] == {**before["manifest"]["grid"], "size": [64, 64, 64]}
    assert [label["name"] for label in manifest["labels"]] == ["label 1", "ventricle"]
    assert manifest["labels"][1]["color"] == before["manifest"]["labels"][1]["color"]
    assert manifest["intensity"] == {"window": [[0, 500]]}
    assert manifest["architecture"]["representation"] == {"name": "identity"}
    assert manifest["architecture"]["network"] == before["manifest"]["architecture"]["network"]
    assert merged["training"]["batch"] == 4
    assert merged["training"]["augmentation"]["rotation"] == 0
    assert merged["training"]["augmentation"]["scale"] == 0.08
    assert merge(made, {}) == made


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"train": {}}, "unknown setting train: known there are manifest, training"),
        ({"training": {"batchsize": 2}}, r"training.batchsize: known there are data, batch, "),
        ({"training": 3}, "3 for training: give an object of data, batch"),
        ({"training": {"batch": 0}}, "training: batch is 0, out of range"),
        ({"training": {"batch": "four"}}, "training: batch is not of type integer"),
        ({"training": {"augmentation": {"flip_axes": [3]}}}, r"flip_axes\[0\] is 3"),
        ({"manifest": {"grid": {"spacing": [1, 1, 0]}}}, r"spacing\[2\] is 0, out of range"),
        ({"manifest": {"grid": {"size": [50, 56, 40]}}}, "no multiple of 8"),
        (
            {"manifest": {"architecture": {"network": {"channels": [30]}}}},
            "divisible by num_groups",
        ),
        ({"manifest": {"labels": [{"value": 7}]}}, r"occurs in the label maps \(1, 2\)"),
        ({"manifest": {"labels": [{"value": 1, "colour": []}]}}, "known there are value, name"),
        ({"manifest": {"intensity": {"window": [[5, 1]]}}}, "does not end above its start"),
        ({"manifest": {"intensity": {}}}, "needs percentiles or a window"),
    ],
)
def test_settings_that_do_not_exist_or_do_not_fit_are_refused(
    overrides: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        merge(plan(facts()), overrides, "mine.json")


def test_no_patient_is_on_both_sides_of_the_split() -> None:
    data = data_of(*(f"p{n % 30}" for n in range(75)))
    training, validation = split_groups(data, seed=1)
    assert len({case.group for case in validation.cases}) == 3
    assert not {c.group for c in training.cases} & {c.group for c in validation.cases}
    assert sorted(training.cases + validation.cases, key=data.cases.index) == list(data.cases)
    assert split_groups(data, seed=1) == (training, validation)
    assert split_groups(data, seed=2) != (training, validation)


@pytest.mark.parametrize(("patients", "held_out"), [(1, 0), (4, 0), (5, 1), (14, 1), (26, 3)])
def test_few_patients_are_all_trained_on(patients: int, held_out: int) -> None:
    data = data_of(*(f"p{n}" for n in range(patients)))
    assert len(split_groups(data, seed=0)[1].cases) == held_out


PEAKS = """
import copy, json, resource, sys
import torch
from MedDiffusionLib.bundles.manifest import parse_plan_manifest
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.training.plan.estimates import _inputs
torch.set_num_threads(1)
for plan in json.loads(sys.argv[1]):
    model = build_model(parse_plan_manifest(plan["manifest"]))
    network = model.denoiser.network
    ema = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters())
    batch = plan["training"]["batch"]
    inputs = [part.repeat_interleave(batch, 0) for part in _inputs(model, "cpu")]
    for _ in range(2):
        loss = network(*inputs).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    del model, network, ema, optimizer, inputs, loss
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_the_estimated_memory_is_within_30_percent_of_the_measured() -> None:
    # In rising order, since a process's peak never falls.
    plans = [plan(cube(24)), plan(cube(48))]
    for made, batch in zip(plans, (3, 2), strict=True):
        made["training"]["batch"] = batch
    command = [sys.executable, "-c", PEAKS, json.dumps(plans)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    for made, measured in zip(plans, done.stdout.split(), strict=True):
        assert estimate(made, "cpu").memory_bytes == pytest.approx(int(measured), rel=0.3)


def test_a_smaller_micro_batch_needs_less_memory() -> None:
    made = plan(cube(48))
    whole = estimate(made, "cpu")
    made["training"]["micro_batch"] = 2
    needs = footprint(check_manifest(made["manifest"]))
    assert whole.memory_bytes == needs.fixed + 8 * needs.sample
    assert estimate(made, "cpu").memory_bytes == needs.fixed + 2 * needs.sample


def test_a_measured_estimate_knows_the_time_and_the_length_follows_the_cases() -> None:
    made = plan(cube(16))
    few, many = (estimate(made, "cpu", cases, measure=True) for cases in (3, 1000))
    assert few.iterations_recommended == 2000
    assert many.iterations_recommended == 100 * 1000 / 8
    assert few.seconds_per_iteration is not None
    assert few.minutes_recommended == pytest.approx(2000 * few.seconds_per_iteration / 60)
    assert estimate(made, "cpu").seconds_per_iteration is None


def test_the_plan_for_the_hippocampus_is_that_of_the_bundled_model(tmp_path: Path) -> None:
    data = find_data(shared_file("hippocampus"), None, None)
    made = make_plan(data, check(data, CaseStore(tmp_path)), "cpu", "hippocampus", 7 * GB)[
        "manifest"
    ]
    bundled = load_preset("hippocampus-mr")["manifest"]
    assert made["grid"] == bundled["grid"]
    assert made["architecture"] == bundled["architecture"]


def test_a_preset_may_say_its_schedule_as_version_1_did(tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    path.write_text('{"manifest": {"architecture": {"schedule": "linear"}}}')
    assert read_preset(str(path))["manifest"]["architecture"]["schedule"] == {"name": "linear"}
