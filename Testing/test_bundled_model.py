"""The bundled model and its example, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MedDiffusionLib import load
from MedDiffusionLib.bundles.catalog import DEFAULT_MODEL, resources_folder
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.diffusion.blocks import block_starts
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.volume import Kind, Volume

EXAMPLE = resources_folder() / "Examples" / "hippocampus.nii.gz"


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return load(DEFAULT_MODEL, "cpu")


@pytest.fixture(scope="module")
def volumes(synthesizer: Synthesizer) -> list[Volume]:
    """Two samples of the example."""
    return list(synthesizer.synthesize(read_label_map(EXAMPLE), samples=2))


@pytest.fixture
def manifest(synthesizer: Synthesizer) -> Manifest:
    return synthesizer.model.manifest


def test_the_card_says_how_it_was_made_and_what_it_reached(manifest: Manifest) -> None:
    assert manifest.license == "CC-BY-SA-4.0"
    assert "Medical Segmentation Decathlon" in manifest.attribution
    assert manifest.training is not None
    assert manifest.training.command.startswith("meddiffusion train")
    assert manifest.figures
    for figure in manifest.figures:
        script = figure.command.split()[1]
        assert (Path(__file__).parents[1] / script).is_file()


def test_the_example_label_map_fits_the_model(manifest: Manifest) -> None:
    example = read_label_map(EXAMPLE)
    assert set(np.unique(example.array)) == {0, *(label.value for label in manifest.labels)}
    assert example.grid.size == manifest.grid.size


def test_the_example_is_the_shape_models_own_draw(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.nii.gz"
    assert main(["labelmap", "--random", "--seed", "0", "-o", str(drawn)]) == 0
    assert (read_label_map(drawn).array == read_label_map(EXAMPLE).array).all()


def test_the_hippocampus_is_gray_matter_between_fluid_and_white_matter(
    volumes: list[Volume],
) -> None:
    example = read_label_map(EXAMPLE)
    image = volumes[0].array
    labelled = image[example.array > 0]
    low, high = np.percentile(image, (2, 90))
    assert low < np.percentile(labelled, 10)
    assert np.median(labelled) < high
    # Noise and texture, but no noise image: neighbors resemble each other.
    step = np.abs(np.diff(image, axis=1)).mean()
    assert 0.02 * image.std() < step < 0.8 * image.std()


def test_moving_the_label_map_in_space_moves_the_volume_with_it(
    synthesizer: Synthesizer, volumes: list[Volume]
) -> None:
    example = read_label_map(EXAMPLE)
    moved = example.affine.copy()
    moved[:3, 3] += (31.0, -7.0, 113.0)
    (there,) = synthesizer.synthesize(Volume(example.array, moved, Kind.LABEL))
    assert (volumes[0].array == there.array).all()
    assert (there.affine == moved).all()


def test_samples_differ_from_seed_to_seed(volumes: list[Volume]) -> None:
    first, second = volumes
    assert np.abs(first.array - second.array).mean() > 0.1 * first.array.std()


def test_blocks_leave_no_seam(synthesizer: Synthesizer) -> None:
    ones = [synthesizer.model.shape_model.sample(seed) for seed in range(3)]
    labels = Volume(np.concatenate([v.array for v in ones], 0), ones[0].affine, Kind.LABEL)
    (volume,) = synthesizer.synthesize(labels, native=True)
    image = volume.array
    steps = np.abs(np.diff(image, axis=0)).mean((1, 2))
    fov = synthesizer.model.manifest.grid.size[0]
    starts = [2 * s for s in block_starts(len(image) // 2, fov // 2)]
    borders = sorted({b - 1 for s in starts for b in (s, s + fov) if 0 < b < len(image)})
    # Slices of one Haar pair and of two pairs differ by nature: compare pairs with pairs.
    elsewhere = [n for n in range(1, len(steps), 2) if n not in borders]
    assert len(borders) >= 4
    assert steps[borders].mean() < 1.25 * steps[elsewhere].mean()
