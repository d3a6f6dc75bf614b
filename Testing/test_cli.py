"""The command: what it makes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import SIZE, labels, model, nifti, out, synthesize
from conftest import make_bundle
from data_factory import write_dicom
from MedDiffusionLib.commands.cli import main

__all__ = ["model", "out"]


def test_a_file_gives_a_file_with_the_same_header_and_provenance_beside_it(
    tmp_path: Path, out: Path, model: Path
) -> None:
    a, b = np.deg2rad([20, 30])
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    affine[:3, :3] @= [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    affine[:3, :3] *= (0.9, 1.0, 1.2)
    affine[:3, 3] = (5, -7, 11)
    source = nifti(tmp_path / "labels.nii.gz", affine=affine)
    assert synthesize(source, out / "volume.nii.gz", model, "--seed", "5") == 0
    made, given = nibabel.load(out / "volume.nii.gz"), nibabel.load(source)
    assert made.shape == given.shape
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)
    facts = json.loads((out / "volume.json").read_text())
    weights = json.loads((model / "model.json").read_text())["weights"]
    assert facts["weights_sha256"] == weights["sha256"]
    assert (facts["model"], facts["seed"], facts["steps"]) == ("tiny", 5, 2)
    assert facts["synthetic"] is True
    assert sorted(p.name for p in out.iterdir()) == ["volume.json", "volume.nii.gz"]


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_every_format_can_be_written(tmp_path: Path, out: Path, model: Path, suffix: str) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    assert synthesize(source, out / f"volume{suffix}", model) == 0
    assert sitk.ReadImage(out / f"volume{suffix}").GetSize() == SIZE


def test_samples_and_channels_have_clear_names(tmp_path: Path, out: Path) -> None:
    channels = [{"name": n, "units": "arbitrary", "range": [0, 1]} for n in ("T1", "FLAIR")]
    model = make_bundle(tmp_path / "two", channels=channels)
    source = nifti(tmp_path / "labels.nii.gz")
    assert synthesize(source, out / "v.nii.gz", model, "--samples", "2") == 0
    volumes = sorted(p.name for p in out.glob("*.nii.gz"))
    assert volumes == [
        "v_FLAIR_sample-1.nii.gz", "v_FLAIR_sample-2.nii.gz",
        "v_T1_sample-1.nii.gz", "v_T1_sample-2.nii.gz",
    ]  # fmt: skip
    assert len(list(out.glob("*.json"))) == 4


def test_a_preview_is_drawn(tmp_path: Path, out: Path, model: Path) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    picture = out / "preview.png"
    assert synthesize(source, out / "v.nii.gz", model, "--preview", str(picture)) == 0
    assert sitk.ReadImage(picture).GetNumberOfComponentsPerPixel() == 3


def test_names_with_spaces_and_foreign_letters_work(tmp_path: Path, out: Path) -> None:
    model = make_bundle(tmp_path / "мой модель é")
    source = nifti(tmp_path / "étiquettes 标签 1.nii.gz")
    output, picture = out / "объём 体积.nii.gz", out / "aperçu ü.png"
    assert synthesize(source, output, model, "--preview", str(picture)) == 0
    assert nibabel.load(output).shape == SIZE
    assert picture.is_file()


def test_native_output_is_on_the_models_grid(tmp_path: Path, out: Path, model: Path) -> None:
    assert synthesize(nifti(tmp_path / "l.nii"), out / "v.nii", model, "--native") == 0
    assert nibabel.load(out / "v.nii").shape == (16, 16, 16)


def test_told_labels_reach_the_model(tmp_path: Path, out: Path, model: Path) -> None:
    renamed = np.choose(labels(), [0, 7, 3]).astype(np.uint8)
    plain, told = nifti(tmp_path / "a.nii"), nifti(tmp_path / "b.nii", renamed)
    assert synthesize(plain, out / "a.nii", model) == 0
    more = ["--label", "7=anterior", "--label", "3=posterior"]
    assert synthesize(told, out / "b.nii", model, *more) == 0
    a, b = (np.asarray(nibabel.load(out / n).dataobj) for n in ("a.nii", "b.nii"))
    assert (a == b).all()


def test_a_dicom_series_is_one_label_map_with_the_geometry_that_its_slices_have(
    tmp_path: Path, out: Path, model: Path
) -> None:
    array = np.zeros((12, 14, 13), np.int16)
    array[3:9, 4:9, 3:10], array[3:9, 9:12, 3:10] = 1, 2
    series = write_dicom(tmp_path / "series", array, (1.0, 1.0, 1.25))
    assert synthesize(series, out / "volume.nii.gz", model) == 0
    made = nibabel.load(out / "volume.nii.gz")
    assert made.shape == array.shape
    # Positions of DICOM are LPS: x and y are the other way round in NIfTI.
    np.testing.assert_allclose(np.abs(np.diag(made.affine)), (1, 1, 1.25, 1), atol=1e-5)
    assert nibabel.aff2axcodes(made.affine) == ("L", "P", "S")


def test_a_folder_with_other_images_beside_dicom_files_is_several_label_maps(
    tmp_path: Path, out: Path, model: Path
) -> None:
    series = write_dicom(tmp_path / "series", np.ones((4, 4, 3), np.int16))
    nifti(series / "one.nii.gz")
    assert synthesize(series, out, model) == 0
    assert sorted(p.name for p in out.iterdir()) == ["one.json", "one.nii.gz"]


def test_a_folder_gives_a_folder_and_reports_the_bad_file_at_the_end(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "c"):
        nifti(tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_text("no image")
    (tmp_path / "in" / "notes.txt").write_text("ignored")
    assert synthesize(tmp_path / "in", tmp_path / "made", model) == 1
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        "a.json", "a.nii.gz", "c.json", "c.nii.gz",
    ]  # fmt: skip
    errors = capfd.readouterr().err.strip().splitlines()
    assert "b.nii.gz" in errors[0]
    assert errors[1] == "meddiffusion: 1 of 3 label maps failed; the others are done."


def test_a_folder_goes_on_where_it_was_interrupted(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    for name in ("a", "b"):
        nifti(tmp_path / "in" / f"{name}.nii.gz")
    assert synthesize(tmp_path / "in", made, model, "--samples", "2") == 0
    before = {p.name: p.stat().st_mtime_ns for p in made.iterdir()}
    (made / "b_sample-2.nii.gz").unlink()
    (made / "b_sample-2.json").unlink()
    capfd.readouterr()
    assert synthesize(tmp_path / "in", made, model, "--samples", "2") == 0
    after = {p.name: p.stat().st_mtime_ns for p in made.iterdir()}
    assert after.keys() == before.keys()
    assert {n for n in after if after[n] != before[n]} == {"b_sample-2.nii.gz", "b_sample-2.json"}
    assert "a.nii.gz (was there already)" in capfd.readouterr().out


def test_a_folder_does_not_take_results_of_other_settings_for_its_own(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    assert synthesize(tmp_path / "in", tmp_path / "made", model) == 0
    before = (tmp_path / "made" / "a.nii.gz").read_bytes()
    capfd.readouterr()
    assert synthesize(tmp_path / "in", tmp_path / "made", model, "--seed", "1") == 1
    assert "not made with these settings" in capfd.readouterr().err
    assert (tmp_path / "made" / "a.nii.gz").read_bytes() == before
    assert synthesize(tmp_path / "in", tmp_path / "made", model, "--seed", "1", "--overwrite") == 0


def test_progress_is_shown_only_on_a_terminal(
    tmp_path: Path, out: Path, model: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = nifti(tmp_path / "labels.nii.gz")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        assert synthesize(source, out / "v.nii.gz", model, "--overwrite") == 0
        captured = capsys.readouterr()
        assert ("step 2/2" in captured.err) == terminal
        assert captured.out == f"{out / 'v.nii.gz'}\n"
        # Nothing is left on the line.
        assert captured.err.rpartition("\r")[2] == ("\033[K" if terminal else "")


def test_models_are_listed_and_described(
    own_user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(own_user_folder / "models" / "mine")
    broken = make_bundle(own_user_folder / "models" / "broken")
    (broken / "model.json").write_text("{}")
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "hippocampus-mr" in listed
    assert "mine" in listed
    assert "unusable" in next(line for line in listed.splitlines() if line.startswith("broken"))
    assert main(["info", "mine"]) == 0
    card = capsys.readouterr().out
    for words in ("anterior", "T1w", "16 x 16 x 16", "CC0-1.0", "Nobody's data."):
        assert words in card
