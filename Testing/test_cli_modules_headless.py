"""Slicer's two command-line modules run as plain programs, without Slicer and without a display."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_factory import AFFINES, two_boxes
from MedDiffusionLib.bundles.bundle import load_bundle
from MedDiffusionLib.commands.slicer_progress import SlicerProgress
from MedDiffusionLib.training.loop.checkpoint import CHECKPOINT_NAME
from MedDiffusionLib.volumes.reading import read_image
from MedDiffusionLib.volumes.writing import write_volume
from test_install import ROOT, install
from training_factory import make_plan, write_data

FOLDER = ROOT / "MedDiffusion" / "CLI"
SYNTHESIZE = FOLDER / "MedDiffusionSynthesize.py"
TRAIN = FOLDER / "MedDiffusionTrain.py"
PATIENCE = 600.0


def run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script where there is no display and no installed copy of the project."""
    return subprocess.run(
        command(script, *arguments), capture_output=True, text=True, env=environment(),
        timeout=PATIENCE, check=False,
    )  # fmt: skip


def command(script: Path, *arguments: object) -> list[str]:
    # Without site, the file that names the source tree is not read.
    return [sys.executable, "-S", *map(str, (script, *arguments))]


def environment() -> dict[str, str]:
    dropped = ("PYTHON", "DISPLAY", "WAYLAND", "QT_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "PYTHONPATH": sysconfig.get_path("purelib"), "OMP_NUM_THREADS": "1"}


def main(script: Path, *arguments: object) -> int:
    """The script's main, in this process, which spares importing torch again."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.main([*map(str, arguments)]))


def returned(path: Path) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines()
    return dict(line.split(" = ", 1) for line in lines)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of command-line modules in an installed tree."""
    modules = install(ROOT, tmp_path_factory.mktemp("extension")).installed
    return modules.parent / "cli-modules"


def test_each_layout_uses_its_own_library(installed: Path) -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['find_library'](); "
        "import MedDiffusionLib; print(MedDiffusionLib.__file__)"
    )
    for folder, tree in ((FOLDER, ROOT / "MedDiffusion"), (installed, installed.parents[2])):
        for name in (SYNTHESIZE.name, TRAIN.name):
            done = subprocess.run(
                [sys.executable, "-S", "-c", code, folder / name],
                env=environment(), capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert tree in Path(done.stdout.strip()).parents


def test_an_installed_module_synthesizes_a_volume_without_a_display(
    installed: Path, tmp_path: Path
) -> None:
    labels = two_boxes(affine=AFFINES["oblique"])
    write_volume(tmp_path / "labels.nrrd", labels)
    output, values = tmp_path / "out" / "volume.nrrd", tmp_path / "values"
    output.parent.mkdir()
    done = run(
        installed / SYNTHESIZE.name, "--label-map", tmp_path / "labels.nrrd",
        "--output-volume", output, "--seed", 3, "--steps", 1, "--device", "cpu",
        "--returnparameterfile", values,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    volume = read_image(output)
    assert volume.array.std() > 0
    assert volume.grid.equals(labels.grid, 1e-9)
    assert returned(values) == {"volumes": "1", "usedModel": "hippocampus-mr", "usedSeed": "3"}
    # A user's file has its provenance beside it.
    assert output.with_suffix(".json").is_file()


def test_a_folder_of_label_maps_is_synthesized_and_not_twice(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, output, values = tmp_path / "in", tmp_path / "out", tmp_path / "values"
    source.mkdir()
    for name in ("a.nrrd", "b.nii.gz"):
        write_volume(source / name, two_boxes())
    arguments = ["--input_folder", source, "--output_folder", output, "--model", tiny_bundle]
    arguments += ["--samples", 2, "--device", "cpu", "--returnparameterfile", values]
    assert main(SYNTHESIZE, *arguments) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    files = {path.name for path in output.glob("*.nii.gz")}
    assert files == {f"{name}_sample-{n}.nii.gz" for name in "ab" for n in (1, 2)}
    assert returned(values)["volumes"] == "4"
    assert "<filter-comment>b.nii.gz, sample 1, sampling" in printed.out
    (source / "c.nrrd").write_text("no label map")
    assert main(SYNTHESIZE, *arguments) == 1
    printed = capfd.readouterr()
    (sentence,) = printed.err.splitlines()
    assert "1 of 3 label maps failed, the others are done" in sentence
    assert "sampling" not in printed.out


# ---- training


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Cases in the folders images and labels, and a preset that saves all the time."""
    write_data(tmp_path, 3)
    preset = make_plan(checkpoint_minutes=0.001)
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    return tmp_path


def training(data: Path) -> list[object]:
    return [
        "--images", data / "images", "--labels", data / "labels", "--output", data / "model",
        "--preset", data / "preset.json", "--device", "cpu", "--returnparameterfile",
        data / "values",
    ]  # fmt: skip


def test_a_model_is_trained_without_a_display(data: Path) -> None:
    done = run(TRAIN, *training(data), "--iterations", 3, "--name", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    content = load_bundle(data / "model").manifest.content
    assert content["name"] == "mine"
    assert content["training"]["iterations"] == 3
    values = returned(data / "values")
    assert math.isfinite(float(values.pop("finalLoss")))
    bundle = str(data / "model")
    assert values == {"iterationsDone": "3", "bundle": bundle, "ending": "finished"}
    for tag in ("start", "name", "progress", "stage-progress", "comment", "end"):
        assert f"<filter-{tag}>" in done.stdout


def test_when_slicer_is_gone_a_training_saves_and_ends(data: Path) -> None:
    process = subprocess.Popen(
        command(TRAIN, *training(data), "--iterations", 100_000), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    for line in process.stdout:
        if "training, iteration" in line:
            break
    process.stdout.close()
    (sentence,) = process.stderr.read().splitlines()
    assert process.wait(PATIENCE) == 143
    assert "by SIGTERM" in sentence
    assert (data / "model" / CHECKPOINT_NAME).is_file()
    assert not (data / "values").exists()


# ---- what Slicer reads


def test_a_day_of_training_prints_no_more_than_slicer_can_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(86_500))
    fake = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr("MedDiffusionLib.commands.slicer_progress.time", fake)
    with SlicerProgress("Day") as progress:
        for second in range(86_400):
            progress.show(second / 86_400, 0.5, "training")
    reports = capsys.readouterr().out.count("<filter-progress>")
    assert 1000 < reports < 5000


def test_no_tag_stands_inside_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Slicer would not find the end of the outer one."""
    with SlicerProgress("Any") as progress:
        progress.show(0.5, 0.25, "case <1>.nrrd", "step 1 of 2")
    text = capsys.readouterr().out
    assert "<filter-progress>0.5000</filter-progress>" in text
    assert "<filter-stage-progress>0.2500</filter-stage-progress>" in text
    assert "<filter-comment>case (1>.nrrd, step 1 of 2</filter-comment>" in text


# ---- what cannot be used, in one sentence


def refused(capfd: pytest.CaptureFixture[str], script: Path, *arguments: object) -> str:
    """The one sentence of a refused run."""
    assert main(script, *arguments) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("meddiffusion: error: ")
    return line


def test_an_unusable_synthesis_is_refused_with_one_sentence(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels, output = tmp_path / "labels.nrrd", tmp_path / "volume.nrrd"
    write_volume(labels, two_boxes())
    both = ["--label_map", labels, "--output_volume", output, "--model", tiny_bundle]
    assert "Give a label map and an output volume" in refused(capfd, SYNTHESIZE)
    assert "or an input folder" in refused(capfd, SYNTHESIZE, "--label_map", labels)
    assert "or an input folder" in refused(capfd, SYNTHESIZE, *both, "--input_folder", tmp_path)
    folder = ["--label_map", tmp_path, "--output_volume", output]
    assert "give it as the input folder" in refused(capfd, SYNTHESIZE, *folder)
    file = ["--input_folder", labels, "--output_folder", tmp_path / "out"]
    assert "give it as the label map" in refused(capfd, SYNTHESIZE, *file)
    assert "give folders" in refused(capfd, SYNTHESIZE, *both, "--samples", 2)
    assert "no contrast T9: use T1w" in refused(capfd, SYNTHESIZE, *both, "--channel", "T9")
    assert "VALUE=NAME" in refused(capfd, SYNTHESIZE, *both, "--table", "3:anterior")
    assert "No voxel has the value 9" in refused(capfd, SYNTHESIZE, *both, "--table", "9=anterior")
    assert "steps is 2000" in refused(capfd, SYNTHESIZE, *both, "--steps", 2000)
    nowhere = [*both[:2], "--output_volume", tmp_path / "nowhere" / "v.nrrd"]
    assert "does not exist" in refused(capfd, SYNTHESIZE, *nowhere)
    assert {path.name for path in tmp_path.iterdir()} == {"labels.nrrd", "tiny"}


def test_an_unusable_training_is_refused_with_one_sentence(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = training(data)
    assert "one end: give iterations or minutes" in refused(capfd, TRAIN, *options)
    two = ["--iterations", 1, "--minutes", 1]
    assert "Two ends are given" in refused(capfd, TRAIN, *options, *two)
    many = ["--data", data, "--table", data / "cases.csv"]
    assert "a folder and as a table" in refused(capfd, TRAIN, *options, *many)
    assert "no checkpoint" in refused(capfd, TRAIN, *options, "--iterations", 1, "--resume")
    (data / "labels" / "case 1.nrrd").write_text("no label map")
    assert "--skip-bad" in refused(capfd, TRAIN, *options, "--iterations", 1)
    assert not (data / "values").exists()


def test_a_check_says_what_it_found_and_starts_nothing(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*training(data), "--check"]
    assert main(TRAIN, *options) == 0
    assert "3 cases, 3 of them usable" in capfd.readouterr().out
    (data / "labels" / "case 1.nrrd").write_text("no label map")
    assert main(TRAIN, *options) == 1
    captured = capfd.readouterr()
    assert "case 1.nrrd" in captured.out
    assert "the output lists what to correct" in captured.err
    assert main(TRAIN, *options, "--skip_bad") == 0
    assert returned(data / "values") == {"ending": "checked"}
    assert not (data / "model").exists()


@pytest.mark.parametrize("script", [SYNTHESIZE, TRAIN])
def test_a_wrong_flag_is_answered_with_one_sentence(
    script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(script, "--output", "x", "--iterationz", 3)
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_missing_torch_is_named_with_the_way_to_get_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "open the module MedDiffusion in Slicer" in refused(capfd, SYNTHESIZE)
