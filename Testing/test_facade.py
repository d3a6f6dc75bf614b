"""The library as a script uses it: load a model, synthesize, save; and edits of a real scan."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from conftest import make_bundle
from data_factory import two_boxes
from MedDiffusionLib import load
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.diffusion.constraints import keep
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesis import Editing
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.normalization import from_model_range
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.nii.gz"
    write_volume(path, two_boxes((20, 22, 24), AFFINE))
    return path


@pytest.fixture
def made(tiny_bundle: Path) -> Synthesizer:
    return load(tiny_bundle, "cpu")


def test_a_file_becomes_volumes_with_array_affine_and_provenance(
    made: Synthesizer, labels: Path
) -> None:
    volumes = made.synthesize(labels, samples=2, seed=7, overrides={2: "background"})
    assert [v.provenance.recipe.sample for v in volumes] == [1, 2]
    for volume in volumes:
        assert volume.array.shape == (20, 22, 24)
        assert (volume.affine == AFFINE).all()
        assert volume.channel.name == "T1w"
        assert volume.provenance.recipe.label_map == "labels.nii.gz"
        assert volume.provenance.recipe.seed == 7
    assert not (volumes[0].array == volumes[1].array).all()


def test_a_volume_in_memory_gives_what_its_file_gives(made: Synthesizer, labels: Path) -> None:
    (from_file,) = made.synthesize(labels, seed=3)
    (from_memory,) = made.synthesize(two_boxes((20, 22, 24), AFFINE), seed=3)
    assert (from_file.array == from_memory.array).all()


def test_a_saved_volume_lies_beside_its_provenance(
    made: Synthesizer, labels: Path, tmp_path: Path
) -> None:
    (volume,) = made.synthesize(labels, steps=1)
    volume.save(tmp_path / "out.nii.gz")
    image = nibabel.load(tmp_path / "out.nii.gz")
    assert (np.asanyarray(image.dataobj) == volume.array).all()
    said = json.loads((tmp_path / "out.json").read_text())
    assert said.pop("volume_sha256") == sha256((tmp_path / "out.nii.gz").read_bytes()).hexdigest()
    assert said == volume.provenance.to_json()
    assert said["synthetic"] is True
    assert (said["steps"], said["sampler"]) == (1, "ddim")


def test_nothing_is_overwritten_unasked(made: Synthesizer, labels: Path, tmp_path: Path) -> None:
    (volume,) = made.synthesize(labels, steps=1)
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(UserError, match=r"out\.json exists"):
        volume.save(tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()
    volume.save(tmp_path / "out.nii.gz", overwrite=True)
    assert (tmp_path / "out.nii.gz").exists()


def test_progress_is_told_and_a_cancelled_synthesis_ends(made: Synthesizer, labels: Path) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        made.synthesize(
            labels, samples=3, steps=2, on_step=lambda step: told.append((step.sample, step.step)),
            is_cancelled=lambda: len(told) == 3,
        )  # fmt: skip
    assert told == [(0, 1), (0, 2), (1, 1)]


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model nobody"):
        load("nobody")
    with pytest.raises(UserError, match="no model bundle"):
        load(tmp_path)


def scan(made: Synthesizer, labels: Volume) -> Volume:
    """A scan on the label map's grid that fills the model's range."""
    random = np.random.default_rng(0)
    return Volume(random.random(labels.array.shape).astype(np.float32), AFFINE, Kind.INTENSITY)


def test_what_a_constraint_keeps_of_a_scan_is_exact_in_the_result(tmp_path: Path) -> None:
    changes = {"intensity": {"window": [[0, 1]]}}
    made = load(make_bundle(tmp_path / "model", **changes), "cpu")
    labels = two_boxes((20, 22, 24), AFFINE)
    grid = made.grid(labels)
    latent = made.latent([scan(made, labels)], grid)
    where = torch.zeros(1, 1, *latent.shape[2:], dtype=torch.bool)
    where[..., :4] = True  # The lower half of the region, in whole latent voxels.
    editing = Editing(constraints=[keep(latent, where)])
    (sample,) = made.samples(labels, Settings(native=True), editing=editing)
    (free,) = made.samples(labels, Settings(native=True))
    real = made.model.representation.decode(latent)[0, 0].numpy()
    expected = from_model_range(real, (0, 1000))
    found = sample.volumes[0].array
    np.testing.assert_allclose(found[..., :8], expected[..., :8], atol=1e-2)
    assert np.abs(found[..., 8:] - expected[..., 8:]).mean() > 10
    assert np.abs(free.volumes[0].array[..., :8] - expected[..., :8]).mean() > 10


def test_a_late_start_stays_closer_to_the_scan_than_an_early_one(
    made: Synthesizer,
) -> None:
    labels = two_boxes((20, 22, 24), AFFINE)
    latent = made.latent([scan(made, labels)], made.grid(labels))
    # One step's estimate by this untrained model is alpha x_t - sigma v.
    real = from_model_range(made.model.representation.decode(latent)[0, 0].numpy(), (0, 1000))
    distances = []
    for start in (0.05, 0.5, 1.0):
        editing = Editing(latent, start)
        settings = Settings(steps=1, native=True)
        (sample,) = made.samples(labels, settings, editing=editing)
        distances.append(float(np.abs(sample.volumes[0].array - real).mean()))
    assert distances == sorted(distances)
    assert distances[0] < 0.5 * distances[2]
