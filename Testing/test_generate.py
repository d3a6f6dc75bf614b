"""Volumes without a label map: models without labels, and what the command generate does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import nifti, out, refused, synthesize
from conftest import make_bundle, tiny_manifest
from MedDiffusionLib import load
from MedDiffusionLib.bundles.catalog import describe
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.grids import GridSpec, in_patient_order

__all__ = ["out"]

FREE: dict[str, Any] = {
    "name": "free",
    "labels": [],
    "label_dropout": 0,
    "grid": {"orientation": "SPL", "spacing": [3.0, 1.0, 2.0], "size": [8, 16, 24]},
}


@pytest.fixture
def free(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "models" / "free", **FREE)


def generate(output: Path, model: Path, *more: str) -> int:
    return main(["generate", "-o", str(output), "--model", str(model), *more])


def test_the_volume_lies_in_the_models_grid_about_the_origin(free: Path, out: Path) -> None:
    assert generate(out / "v.nii.gz", free) == 0
    image = nibabel.load(out / "v.nii.gz")
    # Voxel (i, j, k) of the file runs left, back and up; the grid's axes up, back, left.
    expected = np.diag([-2.0, -1.0, 3.0, 1.0])
    expected[:3, 3] = 23, 7.5, -10.5
    np.testing.assert_allclose(image.affine, expected)
    assert image.shape == (24, 16, 8)
    record = json.loads((out / "v.json").read_bytes())
    assert record["synthetic"] is True
    assert record["model"] == "free"
    assert record["label_map"] == record["label_map_sha256"] == record["label_assignment"] == ""


def test_the_voxels_are_those_of_the_grid_turned(free: Path) -> None:
    made = load(free, "cpu")
    prepared = made.prepare_without_labels(Settings())
    (sample,) = prepared.samples()
    (volume,) = sample.volumes
    grid = made.model.manifest.grid.centered()
    assert prepared.target.size == (24, 16, 8)
    back = volume.array.transpose(2, 1, 0)
    assert back.shape == grid.size
    corner = [[0, 15, 23]]
    turned = volume.grid.positions(np.array([[23, 15, 0]]))
    np.testing.assert_allclose(turned, grid.positions(np.array(corner)))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPL", "PIR"])
def test_axes_in_the_patients_order_keep_every_voxel(orientation: str) -> None:
    grid = GridSpec(orientation, (1.0, 2.0, 3.0), (8, 9, 10)).centered()
    ordered = in_patient_order(grid)
    letters = "".join(nibabel.aff2axcodes(ordered.affine))
    assert letters[0] in "RL"
    assert letters[1] in "AP"
    assert letters[2] in "SI"
    assert set(letters) == set(orientation)
    corners = [{tuple(g.positions(np.array([c]))[0]) for c in np.ndindex(*g.size)}
               for g in (grid, ordered)]  # fmt: skip
    assert corners[0] == corners[1]


def test_samples_are_those_of_the_seed_and_their_number(free: Path, out: Path) -> None:
    assert generate(out / "v.nii.gz", free, "--samples", "2", "--seed", "5") == 0
    assert generate(out / "w.nii.gz", free, "--seed", "6") == 0
    second, other = (
        nibabel.load(out / name).get_fdata() for name in ("v_sample-2.nii.gz", "w.nii.gz")
    )
    np.testing.assert_array_equal(second, other)
    assert (nibabel.load(out / "v_sample-1.nii.gz").get_fdata() != second).any()
    made = load(free, "cpu").generate(seed=6)
    np.testing.assert_array_equal(made[0].array, other.astype(np.float32))


def test_a_batch_goes_on_and_nothing_is_replaced_unasked(
    free: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--samples", "2", "--preview", str(out / "v.png")]
    assert generate(out / "v.nii.gz", free, *arguments) == 0
    made = {path: path.read_bytes() for path in out.iterdir()}
    assert len(made) == 6
    (out / "v_sample-2.nii.gz").unlink()
    (out / "v_sample-2.png").unlink()
    kept = (out / "v_sample-1.nii.gz").stat().st_mtime_ns
    assert generate(out / "v.nii.gz", free, *arguments) == 0
    assert {path: path.read_bytes() for path in out.iterdir()} == made
    assert (out / "v_sample-1.nii.gz").stat().st_mtime_ns == kept
    capfd.readouterr()
    sentence = refused(capfd, generate(out / "v.nii.gz", free, *arguments, "--steps", "3"))
    assert "was not made with these settings: use --overwrite" in sentence
    assert generate(out / "v.nii.gz", free, *arguments, "--steps", "3", "--overwrite") == 0


def test_a_preview_without_labels_is_one_row(free: Path, tiny_bundle: Path, out: Path) -> None:
    assert generate(out / "v.nii.gz", free, "--preview", str(out / "v.png")) == 0
    source = nifti(out / "labels.nii.gz")
    code = synthesize(source, out / "w.nii.gz", tiny_bundle, "--preview", str(out / "w.png"))
    assert code == 0
    one, two = (sitk.ReadImage(str(out / f"{name}.png")).GetHeight() for name in "vw")
    assert one < 0.75 * two


def test_a_model_with_label_dropout_generates_with_nothing_annotated(
    tiny_bundle: Path, out: Path
) -> None:
    assert generate(out / "v.nii.gz", tiny_bundle) == 0
    assert nibabel.load(out / "v.nii.gz").shape == (16, 16, 16)


def test_a_latent_may_be_finer_along_one_axis_than_another(tmp_path: Path, out: Path) -> None:
    network = {"width": 4, "channels": [4, 8], "heads": 2, "head_channels": 4, "groups": 2}
    vqgan = {"width": 4, "downsample": [1, 4, 2], "codes": 8, "embedding": 2, "groups": 4}
    architecture = {
        "network": {"name": "medical-diffusion", **network},
        "representation": {"name": "medical-vqgan", **vqgan},
        "schedule": {"name": "discrete", "steps": 5},
        "parameterization": "epsilon-clipped",
    }
    bundle = make_bundle(tmp_path / "finer", **{**FREE, "architecture": architecture})
    made = load(bundle, "cpu")
    assert made.model.latent_shape == (2, 8, 4, 12)
    assert generate(out / "v.nii.gz", bundle, "--steps", "5", "--sampler", "ddpm") == 0
    assert nibabel.load(out / "v.nii.gz").shape == (24, 16, 8)


def test_a_model_that_needs_its_labels_says_so(
    tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "needs", label_dropout=0)
    sentence = refused(capfd, generate(out / "v.nii.gz", bundle))
    assert "makes nothing without a label map: use meddiffusion synthesize" in sentence
    with pytest.raises(UserError, match="without a label map"):
        load(bundle, "cpu").generate()


def test_a_label_map_for_a_model_without_labels_leads_to_generate(
    free: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(out / "labels.nii.gz")
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", free))
    assert "free knows no labels" in sentence
    assert "use meddiffusion generate" in sentence
    with pytest.raises(UserError, match="knows no labels"):
        load(free, "cpu").synthesize(source)
    with pytest.raises(UserError, match="guidance has no meaning"):
        load(free, "cpu").synthesize(source, guidance=2.0)
    assert [path.name for path in out.iterdir()] == ["labels.nii.gz"]


def test_what_cannot_be_written_is_said_before_any_work(
    free: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("v.txt", "no/v.nii.gz", "."):
        refused(capfd, generate(out / name, free))
    weights = free / "weights.safetensors"
    before = weights.read_bytes()
    refused(capfd, generate(out / "v.nii.gz", free, "--preview", str(out / "v.jpg")))
    refused(capfd, generate(out / "v.nii.gz", free, "--samples", "0"))
    refused(capfd, generate(out / "v.nii.gz", free, "--sampler", "best"))
    assert list(out.iterdir()) == []
    assert weights.read_bytes() == before


def test_costs_come_first(
    free: Path, out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("MedDiffusionLib.synthesis.costs.available_memory", lambda device: 1)
    sentence = refused(capfd, generate(out / "v.nii.gz", free))
    assert "of memory" in sentence
    assert list(out.iterdir()) == []
    assert generate(out / "v.nii.gz", free, "--yes") == 0


def test_the_card_says_that_it_needs_no_label_map(free: Path) -> None:
    made = load(free, "cpu")
    card = describe(free, made.model.manifest)
    assert "Labels         none: it generates volumes by itself" in card
    assert "Labels may be missing" not in card


def test_a_plan_may_be_of_a_model_without_labels() -> None:
    content = tiny_manifest().to_json()
    assert check_manifest({**content, "labels": [], "label_dropout": 0}).labels == ()
