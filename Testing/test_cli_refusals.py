"""The command: one plain sentence for everything that cannot be used, and nothing half-written."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_runs import SIZE, labels, model, nifti, nrrd, out, refused, run_command, synthesize
from conftest import make_bundle
from MedDiffusionLib.diffusion import blocks

__all__ = ["model", "out"]

PATIENCE = 600.0
Make = Callable[[Path], Path]


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


@pytest.mark.process  # ITK reads in a process of its own.
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
    before = source.read_bytes()
    for output, words in (
        (tmp_path / "nowhere" / "v.nii.gz", "does not exist"),
        (out, "is a folder"),
        (out / "v.jpg", "use .nii.gz"),
        (source, "is read, and would be written over"),
    ):
        assert words in refused(capfd, synthesize(source, output, model, "--overwrite"))
    assert list(out.iterdir()) == []
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


@pytest.mark.process
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
        (broken, "too small for what model.json says"),
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


@pytest.mark.process
def test_ctrl_c_leaves_no_half_file(tmp_path: Path, out: Path, model: Path) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    process = subprocess.Popen(
        [sys.executable, "-m", "MedDiffusionLib", "synthesize", source, "-o", out / "v.nii.gz",
         "--model", model, "--samples", "1000"],
        stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    # Then it writes and samples in turns.
    while not list(out.glob("*.gz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors == "meddiffusion: cancelled; no file was left half-written.\n"
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert all(p.with_name(p.name.replace(".nii.gz", ".json")).exists() for p in out.glob("*.gz"))
