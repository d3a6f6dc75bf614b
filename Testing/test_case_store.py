"""The cases in a run's output: read once, found again wherever they went, and gone at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.networks.resunet import ResUNet
from MedDiffusionLib.training.data.cases import CaseFiles, DataSet, find_cases
from MedDiffusionLib.training.data.findings import DataReport
from MedDiffusionLib.training.data.loaded_cases import make_case
from MedDiffusionLib.training.data.preflight import check
from MedDiffusionLib.training.data.samples import Augmentation, TrainingSamples, random_grid
from MedDiffusionLib.training.data.store import FINGERPRINT_NAME, CaseStore
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes import formats, reading
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from training_factory import boxes, make_plan, prepared, run, write, write_data

Decoded = list[Path]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoded]:
    """The files that were decoded, each time one was."""
    files: Decoded = []
    real = formats.read_file

    def read_file(path: Path) -> object:
        files.append(path)
        return real(path)

    monkeypatch.setattr(reading, "read_file", read_file)
    yield files


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path / "data", 6)
    return tmp_path / "data"


SMALL = {
    "manifest": {
        "grid": {"spacing": [1, 1, 1], "size": [16, 16, 16]},
        "architecture": {
            "network": {"channels": [8, 8], "blocks": 1, "groups": 4, "embedding": 8},
            "representation": {"name": "haar", "levels": 1},
        },
    },
    "training": {"batch": 2, "checkpoint_minutes": 0},
}
"""Part of a plan: the rest, its name among it, is automatic."""


def command(data: Path, output: Path, *more: object) -> int:
    preset = output.parent / "part.json"
    preset.write_text(json.dumps(SMALL))
    options = ["--images", data / "images", "--labels", data / "labels", "--output", output]
    options += ["--preset", preset, "--device", "cpu", *more]
    return main(["train", *map(str, options)])


def in_folder(data: Path) -> DataSet:
    return find_cases(data / "images", data / "labels")


def checked(data: Path, output: Path) -> DataReport:
    return check(in_folder(data), CaseStore(output))


def interrupted(cases: list[CaseFiles], output: Path) -> None:
    """A run that was cut short after its first iteration."""

    def crash(report: TrainingReport) -> None:
        if report.iteration == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(cases, output, 3, plan=make_plan(checkpoint_minutes=0), on_report=crash)


def resumed(cases: list[CaseFiles], output: Path) -> None:
    run(cases, output, 3, plan=make_plan(checkpoint_minutes=0), resume=True)


def copied(data: Path, to: Path) -> Path:
    """A copy whose files are younger than the originals."""
    shutil.copytree(data, to, copy_function=shutil.copyfile)
    for file in to.glob("*/*"):
        os.utime(file, (2e9, 2e9))
    return to


# ---- one read of each file


def test_a_whole_training_decodes_each_file_once(data: Path, decoded: Decoded) -> None:
    """Validation's picture and the shape model, both made from label maps, decode none again."""
    output = data.parent / "model"
    assert command(data, output, "--iterations", 1) == 0
    assert (output / "montage.png").exists()
    assert "shape_model" in read_bundle(output).manifest.to_json()
    assert len(decoded) == len(set(decoded)) == 12


def test_a_training_after_its_check_decodes_nothing(data: Path, decoded: Decoded) -> None:
    output = data.parent / "model"
    assert command(data, output, "--check") == 0
    assert len(decoded) == len(set(decoded)) == 12
    assert command(data, output, "--check") == 0
    assert command(data, output, "--iterations", 1) == 0
    assert len(decoded) == 12


def test_a_resumed_run_decodes_nothing(tmp_path: Path, decoded: Decoded) -> None:
    cases = write_data(tmp_path)
    interrupted(cases, tmp_path / "model")
    decoded.clear()
    resumed(cases, tmp_path / "model")
    assert decoded == []


def test_bad_cases_are_known_without_decoding_them_again_until_they_change(
    data: Path, decoded: Decoded
) -> None:
    output, bad = data.parent / "model", data / "images" / "case 1.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-200])
    (data / "labels" / "case 2.nrrd").write_text("no label map")
    first = checked(data, output)
    assert first.bad_cases == ("case 1", "case 2")
    decoded.clear()
    assert checked(data, output) == first
    assert decoded == []
    bad.write_bytes(whole)
    assert checked(data, output).bad_cases == ("case 2",)
    assert bad in decoded


def test_a_check_that_was_stopped_is_gone_on_with(data: Path, decoded: Decoded) -> None:
    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    output = data.parent / "model"
    with pytest.raises(KeyboardInterrupt):
        check(in_folder(data), CaseStore(output), stop)
    assert len(decoded) == 8
    found = checked(data, output)
    assert len(decoded) == 12
    assert found == checked(data, data.parent / "another")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": 0, "cases": []}']
)
def test_a_fingerprint_that_cannot_be_used_is_made_anew(
    data: Path, decoded: Decoded, content: str
) -> None:
    output = data.parent / "model"
    first = checked(data, output)
    CaseStore(output).folder.joinpath(FINGERPRINT_NAME).write_text(content)
    assert checked(data, output) == first
    assert len(decoded) == 24


def test_a_folder_that_cannot_be_written_is_a_sentence(data: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        checked(data, data / "images" / "case 0.nii.gz")


# ---- what moved, and what changed


def test_a_run_goes_on_in_a_renamed_folder_under_its_own_name(data: Path, decoded: Decoded) -> None:
    output, moved = data.parent / "First", data.parent / "Second"
    assert command(data, output, "--iterations", 1) == 0
    output.rename(moved)
    assert command(data, moved, "--iterations", 2, "--resume") == 0
    manifest = read_bundle(moved).manifest
    assert (manifest.name, manifest.title) == ("first", "first")
    assert manifest.to_json()["training"]["iterations"] == 2


def test_a_run_goes_on_in_a_renamed_folder_with_what_its_card_said(data: Path) -> None:
    output, moved = data.parent / "First", data.parent / "Second"
    card = ["--name", "mine", "--license", "CC0-1.0", "--attribution", "My data."]
    assert command(data, output, "--iterations", 1, *card) == 0
    output.rename(moved)
    assert command(data, moved, "--iterations", 2, "--resume") == 0
    manifest = read_bundle(moved).manifest
    assert (manifest.name, manifest.license, manifest.attribution) == (
        "mine", "CC0-1.0", "My data.",
    )  # fmt: skip


def test_data_that_were_copied_or_renamed_are_known_by_their_contents(
    tmp_path: Path, decoded: Decoded
) -> None:
    write_data(tmp_path / "data")
    interrupted(list(in_folder(tmp_path / "data").cases), tmp_path / "model")
    elsewhere = copied(tmp_path / "data", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "data")
    decoded.clear()
    resumed(list(in_folder(elsewhere).cases), tmp_path / "model")
    assert decoded == []


def test_a_case_of_another_name_is_known_by_its_contents(data: Path, decoded: Decoded) -> None:
    output = data.parent / "model"
    checked(data, output)
    for folder, suffix in (("images", "nii.gz"), ("labels", "nrrd")):
        (data / folder / f"case 1.{suffix}").rename(data / folder / f"renamed.{suffix}")
    decoded.clear()
    report = checked(data, output)
    assert decoded == []
    assert [facts.name for facts in report.facts][-1] == "renamed"


def test_a_changed_file_is_noticed_and_its_case_alone_is_decoded_again(
    data: Path, decoded: Decoded
) -> None:
    output, path = data.parent / "model", data / "labels" / "case 2.nrrd"
    before = {facts.name: facts for facts in checked(data, output).facts}
    write(data / "labels", path.name, boxes(2))
    decoded.clear()
    after = {facts.name: facts for facts in checked(data, output).facts}
    assert {file.name for file in decoded} == {"case 2.nii.gz", "case 2.nrrd"}
    assert after["case 2"].voxels == {1: 32, 2: 32}
    assert {name: after[name] for name in after if name != "case 2"} == {
        name: before[name] for name in before if name != "case 2"
    }
    # What the changed case was before is not kept.
    assert len(list(CaseStore(output).folder.iterdir())) == 6 + 1


def test_a_plan_for_another_grid_prepares_the_cases_anew(tmp_path: Path, decoded: Decoded) -> None:
    cases = write_data(tmp_path)
    plan = make_plan()
    first = prepared(cases, tmp_path, check_manifest(plan["manifest"]))
    plan["manifest"]["grid"]["size"] = [8, 8, 8]
    decoded.clear()
    second = prepared(cases, tmp_path, check_manifest(plan["manifest"]))
    assert (first[0].fov.size, second[0].fov.size) == ((16, 16, 16), (8, 8, 8))
    assert len(decoded) == 6
    prepared(cases, tmp_path, check_manifest(plan["manifest"]))
    assert len(decoded) == 6


# ---- voxels on disk


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_a_stored_case_shows_what_one_in_memory_does_bit_for_bit(
    tmp_path: Path, spacing: float
) -> None:
    plan = make_plan(2)
    plan["manifest"]["grid"]["spacing"] = [spacing] * 3
    manifest = check_manifest(plan["manifest"])
    (one,) = write_data(tmp_path, 1, contrasts=2)
    images = [read_image(path) for path in one.images]
    direct = make_case(
        one.name, images, read_label_map(one.files[-1]), manifest.grid, [1, 2], manifest.intensity
    )
    (stored,) = prepared([one], tmp_path, manifest)
    wild = Augmentation(flip_axes=(0,), affine=0.5, far_shift=0.5)
    for seed in range(8):
        grid = random_grid(direct.fov, wild, np.random.default_rng(seed))
        case = stored.open()
        assert (case.images_on(grid) == direct.images_on(grid)).all()
        assert (case.labels_on(grid) == direct.labels_on(grid)).all()
        assert (case.validity(grid) == direct.validity(grid)).all()
    assert (stored.annotated == direct.annotated).all()


def test_the_label_map_is_kept_as_the_file_has_it(tmp_path: Path) -> None:
    labels = boxes().astype(np.uint16)
    labels[labels == 2] = 300
    image = np.random.default_rng(0).random(labels.shape, np.float32)
    one = CaseFiles(
        "a", (write(tmp_path, "i.nrrd", image),), write(tmp_path, "l.nrrd", labels), "a"
    )
    store = CaseStore(tmp_path)
    store.record(one)
    kept, read = store.label_map(one), read_label_map(one.files[-1])
    assert (kept.array == read.array).all()
    assert (kept.affine == read.affine).all()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system tells no maps")
def test_a_sample_leaves_nothing_mapped_or_open(tmp_path: Path) -> None:
    manifest = check_manifest(make_plan()["manifest"])
    cases = prepared(write_data(tmp_path), tmp_path, manifest)
    held = cases[0].open()
    assert ".npy" in Path("/proc/self/maps").read_text()
    del held
    samples = TrainingSamples(cases, manifest.grid, [1, 2], Augmentation(), 0.1, 9, 0)
    made = [samples[n] for n in range(9)]
    assert len(made) == 9
    assert ".npy" not in Path("/proc/self/maps").read_text()
    opened = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert not [file for file in opened if file.suffix == ".npy"]


def test_no_voxel_is_left_beside_a_finished_model(data: Path) -> None:
    output = data.parent / "model"
    assert command(data, output, "--check") == 0
    own = output / "cases" / "a folder of the user's"
    own.mkdir()
    (own / "scan.npy").touch()
    assert command(data, output, "--iterations", 1) == 0
    assert {path.name for path in (output / "cases").iterdir()} == {FINGERPRINT_NAME, own.name}
    assert (own / "scan.npy").exists()
    known = json.loads((output / "cases" / FINGERPRINT_NAME).read_text())
    assert [case["name"] for case in known["cases"]] == [f"case {n}" for n in range(6)]
    assert command(data, output, "--check") == 0
    assert {path.name for path in (output / "cases").iterdir()} == {FINGERPRINT_NAME, own.name}


def test_a_run_cut_short_keeps_its_cases(tmp_path: Path) -> None:
    interrupted(write_data(tmp_path), tmp_path / "model")
    assert (tmp_path / "model" / CHECKPOINT_NAME).exists()
    assert len(list((tmp_path / "model" / "cases").glob("*/spline0.npy"))) == 3
    assert not list((tmp_path / "model" / "cases").glob("*/image0.npy"))


# ---- networks


def test_a_run_builds_one_network_with_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[torch.device] = []
    init = ResUNet.__init__

    def counted(*arguments: object, **options: object) -> None:
        built.append(torch.empty(0).device)
        init(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ResUNet, "__init__", counted)
    run(write_data(tmp_path), tmp_path / "model", 1)
    assert [device.type for device in built if device.type != "meta"] == ["cpu"]


def test_a_file_larger_than_any_volume_is_not_read_to_its_end(tmp_path: Path) -> None:
    (case,) = write_data(tmp_path, count=1)
    with case.images[0].open("ab") as file:
        file.truncate(2**43)  # Sparse: to read all of it takes hours.
    record = CaseStore(tmp_path / "out").record(case)
    assert record.images[0].problem == "cannot be read"
