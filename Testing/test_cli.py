"""The command: what it makes, and one plain sentence for everything that cannot be used."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from conftest import make_bundle
from MedDiffusionLib import blocks
from MedDiffusionLib.cli import main

SIZE = (18, 20, 22)
Make = Callable[[Path], Path]


def labels() -> np.ndarray:
    array = np.zeros(SIZE, np.uint8)
    array[6:12, 6:10, 8:14], array[6:12, 10:14, 8:14] = 1, 2
    return array


def nifti(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = labels() if array is None else array
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def nrrd(path: Path, directions: str, sizes: str = "18 20 22", data: bytes | None = None) -> Path:
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {sizes}\nspace directions: {directions}\nkinds: domain domain domain\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path.write_bytes(header.encode() + (labels().tobytes("F") if data is None else data))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "models" / "tiny")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def synthesize(source: Path, output: Path, model: Path, *more: str) -> int:
    return main(["synthesize", str(source), "-o", str(output), "--model", str(model), *more])


def refused(capfd: pytest.CaptureFixture[str], code: int) -> str:
    """The one sentence on stderr of a refused command."""
    captured = capfd.readouterr()
    assert code == 1
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("meddiffusion: error: ")
    assert line.endswith(".")
    return line


# ---- what it makes


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
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    assert synthesize(source, out / "v.nii.gz", model) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == f"{out / 'v.nii.gz'}\n"


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


# ---- label maps that cannot be used


def damaged(path: Path) -> Path:
    whole = nifti(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def huge(path: Path) -> Path:
    return nrrd(path.with_suffix(".nrrd"), "(1,0,0) (0,1,0) (0,0,1)", "2000 2000 2000", b"")


def text(path: Path) -> Path:
    path.write_text("This is no image.")
    return path


def damaged_inside(path: Path) -> Path:
    """A gzip stream that ends early, its header whole: the image data are cut off."""
    raw = gzip.decompress(
        nifti(path, np.random.default_rng(0).integers(0, 3, SIZE, np.uint8)).read_bytes()
    )
    path.write_bytes(gzip.compress(raw[: len(raw) // 2]))
    return path


def negative_spacing(path: Path) -> Path:
    path = path.with_suffix("").with_suffix(".mha")
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 18 20 22\n"
        "ElementSpacing = 1 -1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + labels().tobytes("F"))
    return path


def with_value(value: float) -> np.ndarray:
    array = labels().astype(np.float32)
    array[0, 0, 0] = value
    return array


BAD_LABEL_MAPS: dict[str, tuple[Make, str]] = {
    "missing": (lambda p: p, "does not exist"),
    "not an image": (text, "cannot be read"),
    "truncated gzip": (damaged, "cannot be read"),
    "truncated data": (damaged_inside, "cannot be read"),
    "2D": (lambda p: nifti(p, labels()[:, :, 10]), "2D|thin"),
    "4D": (lambda p: nifti(p, np.stack([labels()] * 2, -1)), "4D"),
    "empty": (lambda p: nifti(p, labels() * 0), "empty"),
    "unknown values": (lambda p: nifti(p, labels() * 5), "has 5, 10; tiny knows 1"),
    "fractional": (lambda p: nifti(p, labels() * np.float32(0.3)), "intensity image"),
    "thousands of values": (
        lambda p: nifti(p, np.arange(np.prod(SIZE), dtype=np.int16).reshape(SIZE)),
        "intensity image",
    ),
    "NaN": (lambda p: nifti(p, with_value(np.nan)), "NaN"),
    "infinite": (lambda p: nifti(p, with_value(np.inf)), "NaN or infinite"),
    "zero spacing": (
        lambda p: nrrd(p.with_suffix(".nrrd"), "(0,0,0) (0,1,0) (0,0,1)"), "spacing|direction",
    ),
    "negative spacing": (negative_spacing, "spacing"),
    "singular direction": (
        lambda p: nrrd(p.with_suffix(".nrrd"), "(1,0,0) (1,0,0) (0,0,1)"), "direction|axes",
    ),
    "one voxel thin": (lambda p: nifti(p, labels()[:, :, 10:11]), "thi[nc]"),
    "2000 cubed": (huge, "too large"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_LABEL_MAPS)
def test_a_label_map_that_cannot_be_used_is_refused(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    make, words = BAD_LABEL_MAPS[kind]
    source = make(tmp_path / "labels.nii.gz")
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", model))
    assert re.search(words, sentence), sentence
    assert list(out.iterdir()) == []


# ---- outputs that cannot be written


def test_outputs_that_cannot_be_written_are_refused_before_any_work(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    for output, words in (
        (tmp_path / "nowhere" / "v.nii.gz", "does not exist"),
        (out, "is a folder"),
        (out / "v.jpg", "use .nii.gz"),
        (source, "label map itself"),
    ):
        assert words in refused(capfd, synthesize(source, output, model, "--overwrite"))
    assert list(out.iterdir()) == []
    before = source.read_bytes()
    assert source.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_an_output_folder_without_write_permission_is_refused(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    refused(capfd, synthesize(source, Path("/proc/v.nii.gz"), model))


@pytest.mark.parametrize("existing", ["v.nii.gz", "p.png"])
def test_existing_files_are_kept_unless_told_otherwise(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str], existing: str
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    (out / existing).write_text("mine")
    more = ["--preview", str(out / "p.png")]
    assert "--overwrite" in refused(capfd, synthesize(source, out / "v.nii.gz", model, *more))
    assert (out / existing).read_text() == "mine"
    assert len(list(out.iterdir())) == 1
    assert synthesize(source, out / "v.nii.gz", model, *more, "--overwrite") == 0
    assert (out / existing).read_bytes() != b"mine"


def run_command(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; ``limit`` bounds the files it may write, in bytes."""

    def bound() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "MedDiffusionLib", *map(str, arguments)],
        capture_output=True, text=True, preexec_fn=bound, check=False,
    )  # fmt: skip


def test_a_full_disk_leaves_nothing(tmp_path: Path, out: Path, model: Path) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    done = run_command("synthesize", source, "-o", out / "v.nii.gz", "--model", model, limit=4000)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "cannot be written" in line
    assert list(out.iterdir()) == []


# ---- models and settings that cannot be used


def test_models_that_cannot_be_used_are_refused(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    broken = make_bundle(tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"")
    for name, words in (
        ("nobody", "There is no model nobody: use one of"),
        (source, "no model bundle"),
        (broken, "SHA-256"),
    ):
        sentence = refused(capfd, synthesize(source, out / "v.nii.gz", Path(name)))
        assert words in sentence
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        ["--samples", "0"], ["--steps", "0"], ["--seed", "-1"], ["--steps", "100000"],
        ["--guidance", "-1"], ["--sampler", "magic"], ["--label", "9=anterior"],
        ["--preview", "picture.jpg"],
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    refused(capfd, synthesize(source, out / "v.nii.gz", model, *more))
    assert list(out.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", model, "--device", "cuda"))
    assert "--device cpu" in sentence


@pytest.mark.parametrize("more", [["--steps", "many"], ["--label", "one"], ["--unknown"]])
def test_bad_usage_is_one_line_and_exit_code_2(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        synthesize(tmp_path / "l.nii", tmp_path / "v.nii", model, *more)
    assert ended.value.code == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1


def test_running_out_of_memory_says_what_to_lower(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def too_much(size: object) -> torch.Tensor:
        return torch.empty(2**55)

    monkeypatch.setattr(blocks, "blend_weights", too_much)
    wide = np.zeros((40, 20, 20), np.uint8)
    wide[2:38, 8:12, 8:12] = 1
    source = nifti(tmp_path / "labels.nii.gz", wide)
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", model))
    assert "Out of memory: crop" in sentence
    assert list(out.iterdir()) == []


def test_ctrl_c_leaves_no_half_file(
    tmp_path: Path, out: Path, model: Path, own_user_folder: Path
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    process = subprocess.Popen(
        [sys.executable, "-m", "MedDiffusionLib", "synthesize", source, "-o", out / "v.nii.gz",
         "--model", model, "--steps", "1000", "--samples", "1000"],
        stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    # The choice of precision is written just before the first step.
    while not (own_user_folder / "execution.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "meddiffusion: cancelled; no file was left half-written.\n"
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert all(p.with_name(p.name.replace(".nii.gz", ".json")).exists() for p in out.glob("*.gz"))
