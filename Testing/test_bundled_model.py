"""The bundled model and its example, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MedDiffusionLib.bundles.bundle import Bundle, load_bundle
from MedDiffusionLib.bundles.catalog import find_model, resources_folder
from MedDiffusionLib.bundles.shape_model import load_shape_model
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.execution import choose_device, choose_execution
from MedDiffusionLib.diffusion.blocks import block_starts
from MedDiffusionLib.synthesis.synthesizer import Settings, Synthesizer
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.volume import Kind, Volume

EXAMPLE = resources_folder() / "Examples" / "hippocampus.nii.gz"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(find_model("hippocampus-mr"))


@pytest.fixture(scope="module")
def synthesizer(bundle: Bundle) -> Synthesizer:
    return Synthesizer(bundle, choose_execution(choose_device("cpu"), bundle.manifest))


def test_the_card_says_how_it_was_made_and_what_it_reached(bundle: Bundle) -> None:
    content = bundle.manifest.content
    assert content["license"] == "CC-BY-SA-4.0"
    assert "Medical Segmentation Decathlon" in content["attribution"]
    assert content["training"]["command"].startswith("meddiffusion train")
    assert content["figures"]
    for figure in content["figures"]:
        script = figure["command"].split()[1]
        assert (Path(__file__).parents[1] / script).is_file()


def test_the_example_label_map_fits_the_model(bundle: Bundle) -> None:
    example = read_label_map(EXAMPLE)
    assert set(np.unique(example.array)) == {0, *(label.value for label in bundle.manifest.labels)}
    assert example.grid.size == bundle.manifest.grid.size


def test_the_example_is_the_shape_models_own_draw(bundle: Bundle, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.nii.gz"
    assert main(["labelmap", "--random", "--seed", "0", "-o", str(drawn)]) == 0
    assert (read_label_map(drawn).array == read_label_map(EXAMPLE).array).all()


def test_the_hippocampus_is_gray_matter_between_fluid_and_white_matter(
    synthesizer: Synthesizer,
) -> None:
    example = read_label_map(EXAMPLE)
    (sample,) = synthesizer.synthesize(example, Settings())
    image = sample.volumes[0].array
    labelled = image[example.array > 0]
    low, high = np.percentile(image, (2, 90))
    assert low < np.percentile(labelled, 10)
    assert np.median(labelled) < high
    # Noise and texture, but no noise image: neighbors resemble each other.
    step = np.abs(np.diff(image, axis=1)).mean()
    assert 0.02 * image.std() < step < 0.8 * image.std()


def test_moving_the_label_map_in_space_moves_the_volume_with_it(synthesizer: Synthesizer) -> None:
    example = read_label_map(EXAMPLE)
    moved = example.affine.copy()
    moved[:3, 3] += (31.0, -7.0, 113.0)
    (here,) = synthesizer.synthesize(example, Settings(seed=3))
    (there,) = synthesizer.synthesize(Volume(example.array, moved, Kind.LABEL), Settings(seed=3))
    assert (here.volumes[0].array == there.volumes[0].array).all()
    assert (there.volumes[0].affine == moved).all()


def test_samples_differ_from_seed_to_seed(synthesizer: Synthesizer) -> None:
    example = read_label_map(EXAMPLE)
    first, second = synthesizer.synthesize(example, Settings(samples=2))
    difference = np.abs(first.volumes[0].array - second.volumes[0].array)
    assert difference.mean() > 0.1 * first.volumes[0].array.std()


def test_blocks_leave_no_seam(bundle: Bundle, synthesizer: Synthesizer) -> None:
    shapes = load_shape_model(find_model("hippocampus-mr"), bundle.manifest)
    ones = [shapes.sample(seed) for seed in range(3)]
    labels = Volume(np.concatenate([v.array for v in ones], 0), ones[0].affine, Kind.LABEL)
    (sample,) = synthesizer.synthesize(labels, Settings(native=True))
    image = sample.volumes[0].array
    steps = np.abs(np.diff(image, axis=0)).mean((1, 2))
    fov = bundle.manifest.grid.size[0]
    starts = [2 * s for s in block_starts(len(image) // 2, fov // 2)]
    borders = sorted({b - 1 for s in starts for b in (s, s + fov) if 0 < b < len(image)})
    # Slices of one Haar pair and of two pairs differ by nature: compare pairs with pairs.
    elsewhere = [n for n in range(1, len(steps), 2) if n not in borders]
    assert len(borders) >= 4
    assert steps[borders].mean() < 1.25 * steps[elsewhere].mean()
