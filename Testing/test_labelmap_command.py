"""``meddiffusion labelmap``: drawn, varied and fitted, and what it refuses in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import make_bundle
from MedDiffusionLib.bundles.generators import load_generator
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.volumes.reading import read_label_map
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.volumes.writing import write_volume


def boxes(width: int = 6, value: int = 1) -> Volume:
    array = np.zeros((16, 16, 16), np.uint8)
    array[4:12, 3:8, 4 : 4 + width], array[4:12, 8:13, 4 : 4 + width] = value, 2
    return Volume(array, np.diag([-1.0, 1.0, 1.5, 1.0]), Kind.LABEL)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    write_volume(tmp_path / "labels.nrrd", boxes())
    return tmp_path / "labels.nrrd"


def sentence(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a refused command says: one line, exit code 1."""
    assert main(["labelmap", *map(str, arguments)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_variants_lie_on_the_given_grid_and_depend_on_their_own_seed_alone(
    labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.nrrd"
    assert main(["labelmap", "--vary", str(labels), "--samples", "3", "-o", str(out)]) == 0
    made = [read_label_map(tmp_path / f"new_sample-{n}.nrrd") for n in (1, 2, 3)]
    given = read_label_map(labels)
    for one in made:
        assert one.grid.equals(given.grid)
        assert set(np.unique(one.array)) == {0, 1, 2}
        assert (one.array != given.array).any()
    alone = tmp_path / "alone.nrrd"
    assert main(["labelmap", "--vary", str(labels), "--seed", "2", "-o", str(alone)]) == 0
    np.testing.assert_array_equal(read_label_map(alone).array, made[2].array)
    again = ["labelmap", "--vary", str(labels), "--strength", "0", "-o", str(alone)]
    assert main([*again, "--overwrite"]) == 0
    np.testing.assert_array_equal(read_label_map(alone).array, given.array)


def test_random_label_maps_are_drawn_by_number(tmp_path: Path) -> None:
    out = tmp_path / "drawn.nii.gz"
    assert main(["labelmap", "--random", "--samples", "2", "--seed", "6", "-o", str(out)]) == 0
    alone = tmp_path / "alone.nii.gz"
    assert main(["labelmap", "--random", "--seed", "7", "-o", str(alone)]) == 0
    second = read_label_map(tmp_path / "drawn_sample-2.nii.gz")
    np.testing.assert_array_equal(second.array, read_label_map(alone).array)


def test_a_generator_is_fitted_into_a_model_that_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, folder = make_bundle(tmp_path / "own"), tmp_path / "cases"
    folder.mkdir()
    for width in (5, 6, 7):
        write_volume(folder / f"case-{width}.nrrd", boxes(width))
    write_volume(folder / "bad.nrrd", boxes(value=2))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["case-5", "case-6", "case-7"]}))
    fit = ["--fit", folder, "--model", bundle, "--split", tmp_path / "split.json"]
    assert main(["labelmap", *map(str, fit)]) == 0
    drawn = load_generator(bundle, read_manifest(bundle)).sample(0)
    assert set(np.unique(drawn.array)) == {0, 1, 2}
    capsys.readouterr()
    before = (bundle / "model.json").read_bytes()
    assert "exists" in sentence(capsys, *fit)
    # Without the split there is a label map that lacks a label: all stays as it is.
    said = sentence(capsys, "--fit", folder, "--model", bundle, "--overwrite")
    assert "has no label 1" in said
    assert (bundle / "model.json").read_bytes() == before
    assert {path.name for path in bundle.iterdir()} == {
        "model.json", "shape.safetensors", "weights.safetensors",
    }  # fmt: skip


def test_volumes_are_held_to_what_the_model_knows(tmp_path: Path, labels: Path) -> None:
    bundle, folder = make_bundle(tmp_path / "own"), tmp_path / "cases"
    folder.mkdir()
    for n in range(2):
        write_volume(folder / f"{n}.nrrd", boxes(6 + n))
    assert main(["labelmap", "--fit", str(folder), "--model", str(bundle)]) == 0
    limits = load_generator(bundle, read_manifest(bundle)).limits
    vary = ["labelmap", "--vary", str(labels), "--strength", "1", "--samples", "3"]
    assert main([*vary, "--model", str(bundle), "-o", str(tmp_path / "held.nrrd")]) == 0
    for n in range(1, 4):
        array = read_label_map(tmp_path / f"held_sample-{n}.nrrd").array
        for (value,), (low, high) in limits.items():
            own = int((boxes().array == value).sum()) * 1.5
            assert min(low, own) <= (array == value).sum() * 1.5 <= max(high, own)


def test_what_cannot_be_used_costs_one_sentence(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.nrrd"
    vary = ["--vary", labels, "-o", out]
    assert "strength is 1.5: it must lie between 0 and 1" in sentence(
        capsys, *vary, "--strength", "1.5"
    )
    assert "samples is 0" in sentence(capsys, *vary, "--samples", "0")
    assert "samples is 100001" in sentence(capsys, *vary, "--samples", "100001")
    assert "seed is -1" in sentence(capsys, *vary, "--seed", "-1")
    assert "is read, and would be written over" in sentence(
        capsys, "--vary", labels, "-o", labels, "--overwrite"
    )
    image = tmp_path / "image.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 4, 4), 0.5, np.float32)), str(image))
    assert "has fractional values" in sentence(capsys, "--vary", image, "-o", out)
    foreign = tmp_path / "foreign.nrrd"
    write_volume(foreign, boxes(value=9))
    bundle = make_bundle(tmp_path / "own")
    said = sentence(capsys, "--vary", foreign, "--model", bundle, "-o", out)
    assert "No label of the model matches 9" in said
    assert "has no shape model" in sentence(capsys, "--random", "--model", bundle, "-o", out)
    assert "has no format that can be written" in sentence(
        capsys, "--vary", labels, "-o", tmp_path / "out.txt"
    )
    assert "--strength is for --vary" in sentence(
        capsys, "--random", "--strength", "0.5", "-o", out
    )
    assert "--split is for --fit" in sentence(capsys, *vary, "--split", "x.json")
    assert "no name for the label map" in sentence(capsys, "--vary", labels)
    assert "a model of your own" in sentence(capsys, "--fit", tmp_path)
    assert "writes into the model" in sentence(capsys, "--fit", tmp_path, "-o", out)
    assert not out.exists()


def test_more_than_an_hour_is_refused_unless_expressly_wanted(
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("MedDiffusionLib.synthesis.costs.LONGEST", 0.0)
    out = tmp_path / "out.nrrd"
    vary = ["--vary", labels, "--samples", "2", "-o", out]
    assert "2 label maps take about" in sentence(capsys, *vary)
    assert not list(tmp_path.glob("out*"))
    assert main(["labelmap", *map(str, vary), "--yes"]) == 0
    assert len(list(tmp_path.glob("out_sample-*.nrrd"))) == 2
    assert "exists" in sentence(capsys, *vary, "--yes")
