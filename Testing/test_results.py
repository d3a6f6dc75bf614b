"""Results and what is there already: nothing that is read is written, files come together, a record
vouches for its volume and its label map."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from cli_runs import labels, model, nifti, out, refused, synthesize
from conftest import make_bundle
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.diffusion import denoiser
from MedDiffusionLib.synthesis import batch
from MedDiffusionLib.synthesis.labels import checked_assignment
from MedDiffusionLib.synthesis.provenance import label_map_sha256
from MedDiffusionLib.volumes import normalization
from MedDiffusionLib.volumes import preview as preview_module
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume

__all__ = ["model", "out"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- what is read is never written


def test_no_path_of_any_sample_is_one_that_is_read(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "v_sample-1.nii.gz")
    link = tmp_path / "w.nii.gz"
    link.symlink_to(source)
    before = source.read_bytes()
    for output, more in (
        (tmp_path / "v.nii.gz", ["--samples", "2"]),
        (link, []),
        (model / "model.nii.gz", []),
    ):
        sentence = refused(capfd, synthesize(source, output, model, "--overwrite", *more))
        assert "is read, and would be written over" in sentence
    assert source.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "models", "v_sample-1.nii.gz", "w.nii.gz",
    ]  # fmt: skip
    assert json.loads((model / "model.json").read_text())["name"] == "tiny"


@pytest.mark.parametrize("name", ["v.nii.gz", "v.json", "p.png"])
def test_a_link_to_nothing_is_kept_unless_told_otherwise(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    (out / name).symlink_to("a disk that is not here")
    more = ["--preview", str(out / "p.png")]
    assert "exists" in refused(capfd, synthesize(source, out / "v.nii.gz", model, *more))
    assert [(p.name, p.is_symlink()) for p in out.iterdir()] == [(name, True)]


def test_a_folder_is_not_written_over_itself(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    nifti(tmp_path / "in" / "b.nii")
    before = (tmp_path / "in" / "a.nii.gz").read_bytes()
    assert synthesize(tmp_path / "in", tmp_path / "in", model, "--overwrite") == 1
    assert "a.nii.gz is read, and would be written over" in capfd.readouterr().err
    assert (tmp_path / "in" / "a.nii.gz").read_bytes() == before
    # The other one is no reason to stop.
    assert (tmp_path / "in" / "b.nii.gz").exists()


@pytest.mark.parametrize(
    "more",
    [["--model", "nobody"], ["--steps", "0"], ["--preview", "p/q/r"], ["--sampler", ""],
     ["--label", "1=anterior", "--label", "1=posterior"]],
)  # fmt: skip
def test_what_is_wrong_leaves_no_empty_output_folder(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    refused(capfd, synthesize(tmp_path / "in", tmp_path / "made", model, *more))
    assert not (tmp_path / "made").exists()


def test_names_are_looked_at_before_any_work(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    (out / "j.json").mkdir()
    (out / "p.png").mkdir()
    for output, more, words in (
        (out / f"{'x' * 250}.nii.gz", [], "longer than 255 bytes"),
        (out / f"{'ä' * 125}.nii.gz", [], "longer than 255 bytes"),
        (out / f"{'x' * 240}.nii.gz", ["--samples", "100"], "longer than 255 bytes"),
        (out / ".nii.gz", [], "only the end of a file name"),
        (out / "v.seg.nrrd", [], "named like a segmentation"),
        (out / "j.nii.gz", [], "j.json is a folder"),
        (out / "v.nii.gz", ["--preview", str(out / "p.png")], "p.png is a folder"),
        (out / "v.nii.gz", ["--preview", str(out / "no" / "p.png")], "does not exist"),
    ):
        assert words in refused(capfd, synthesize(source, output, model, *more))
    assert sorted(p.name for p in out.iterdir()) == ["j.json", "p.png"]


def test_a_long_name_costs_that_file_only_and_the_longest_is_made(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("x" * (255 - len(".nii.gz")), "y" * (255 - len(".nii")), "z"):
        nifti(tmp_path / "in" / f"{name}{'.nii' if 'y' in name else '.nii.gz'}")
    assert synthesize(tmp_path / "in", tmp_path / "made", model) == 1
    assert {p.name[0] for p in (tmp_path / "made").glob("*.nii.gz")} == {"x", "z"}
    errors = capfd.readouterr().err.splitlines()
    assert "longer than 255 bytes" in errors[0]
    assert errors[1].endswith("1 of 3 label maps failed; the others are done.")


@pytest.mark.parametrize("name", ["v.NII.GZ", "v.Nii"])
def test_a_suffix_may_be_in_capitals(tmp_path: Path, out: Path, model: Path, name: str) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    picture = out / "P.PNG"
    assert synthesize(source, out / name, model, "--preview", str(picture)) == 0
    assert read_image(out / name).array.shape == labels().shape
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.iterdir()) == sorted([name, "v.json", "P.PNG"])


@pytest.mark.process
def test_an_itk_suffix_may_be_in_capitals(tmp_path: Path, out: Path, model: Path) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    assert synthesize(source, out / "v.MHA", model) == 0
    assert synthesize(source, out / "w.nii", model) == 0
    assert (read_image(out / "v.MHA").array == read_image(out / "w.nii").array).all()


# ---- together, or not at all


def test_a_sample_that_cannot_be_finished_leaves_all_that_was_there(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = nifti(tmp_path / "labels.nii.gz")
    more = ["--preview", str(out / "p.png")]
    assert synthesize(source, out / "v.nii.gz", model, *more) == 0
    before = contents(out)
    capfd.readouterr()

    def full(path: Path, image: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preview_module, "put_image", full)
    code = synthesize(source, out / "v.nii.gz", model, *more, "--seed", "1", "--overwrite")
    assert "p.png cannot be written (No space left on device)" in refused(capfd, code)
    assert contents(out) == before


def test_a_record_vouches_for_volume_preview_and_label_map(
    tmp_path: Path, out: Path, model: Path
) -> None:
    source = nifti(tmp_path / "labels.nii.gz", np.choose(labels(), [0, 7, 9]).astype(np.uint8))
    more = ["--label", "7=posterior", "--label", "9=background", "--preview", str(out / "p.png")]
    assert synthesize(source, out / "v.nii.gz", model, *more) == 0
    record = json.loads((out / "v.json").read_text())
    for key, name in (("volume_sha256", "v.nii.gz"), ("preview_sha256", "p.png")):
        assert record[key] == sha256((out / name).read_bytes()).hexdigest()
    assert record["label_assignment"] == "7=posterior,9=background"
    assert record["memory_format"] in ("channels last", "contiguous")
    assert record["precision"] in ("bfloat16", "float32")
    assert not any(isinstance(value, (dict, list)) for value in record.values())


def test_a_label_maps_hash_is_of_voxels_and_geometry_alone(tmp_path: Path) -> None:
    def of(name: str, array: np.ndarray, spacing: float = 1.0) -> str:
        affine = np.diag([spacing, 1, 1, 1])
        return label_map_sha256(read_label_map(nifti(tmp_path / name, array, affine)))

    plain = of("a.nii.gz", labels())
    assert of("b.nii", labels().astype(np.float32)) == plain
    moved, other = np.roll(labels(), 1, 0), labels()
    other[0, 0, 0] = 1
    assert len({plain, of("c.nii", moved), of("d.nii", other), of("e.nii", labels(), 2.0)}) == 4
    # By the definition in words: size and box, affine, and the box's values.
    box = labels()[6:12, 6:14, 8:14]
    numbers = np.array([[18, 20, 22], [6, 6, 8], [11, 13, 13]], "<i8")
    content = numbers.tobytes() + np.eye(4, dtype="<f8").tobytes() + box.tobytes("F")
    assert sha256(content).hexdigest() == plain


def test_a_segment_that_is_left_out_while_reading_is_part_of_the_assignment(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    segments = (Segment(1, "anterior"), Segment(2, "tumour"))
    read = Volume((labels() == 1).astype(np.uint8), np.eye(4), Kind.LABEL, segments)
    assigned = checked_assignment(read, read_manifest(tiny_bundle), {2: "background"})
    assert assigned.describe() == "1=anterior,2=background"


# ---- what is there already


def test_the_same_command_again_finds_everything_there(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    command = source, out / "v.nii.gz", model, "--preview", str(out / "p.png")
    assert synthesize(*command) == 0
    before = contents(out)
    capfd.readouterr()
    assert synthesize(*command) == 0
    assert capfd.readouterr().out == f"{out / 'v.nii.gz'} (was there already)\n"
    assert contents(out) == before


def test_a_volume_of_another_label_map_assignment_or_model_is_not_there_already(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti(tmp_path / "in" / "a.nii.gz")
    made = tmp_path / "made"
    assert synthesize(tmp_path / "in", made, model) == 0
    before = contents(made)
    other = make_bundle(tmp_path / "other", sampling={"sampler": "ddim", "steps": 3, "guidance": 1})
    swapped = ["--label", "1=posterior", "--label", "2=anterior"]
    capfd.readouterr()
    for bundle, more in ((model, swapped), (other, [])):
        assert synthesize(tmp_path / "in", made, bundle, *more) == 1
        assert "was not made with these settings" in capfd.readouterr().err
    nifti(source, np.roll(labels(), 1, 0))
    assert synthesize(tmp_path / "in", made, model) == 1
    assert "from this label map" in capfd.readouterr().err
    assert contents(made) == before


def test_a_record_from_before_ranges_of_guidance_vouches_for_its_volume(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = nifti(tmp_path / "labels.nii.gz"), out / "v.nii.gz", model, "--guidance", "2"
    assert synthesize(*command) == 0
    record = json.loads((out / "v.json").read_text())
    assert record.pop("guidance_range") == "0 to 1"
    (out / "v.json").write_text(json.dumps(record))
    capfd.readouterr()
    assert synthesize(*command) == 0
    assert "was there already" in capfd.readouterr().out
    assert synthesize(*command, "--guidance-range", "0.2", "0.8") == 1
    assert "was not made with these settings" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png"])
def test_what_was_changed_or_damaged_since_is_said_and_kept(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    made = tmp_path / "made"
    more = ["--preview", str(made)]
    assert synthesize(tmp_path / "in", made, model, *more) == 0
    (made / name).write_bytes(b"")
    capfd.readouterr()
    assert synthesize(tmp_path / "in", made, model, *more) == 1
    assert "changed or damaged since: use --overwrite" in capfd.readouterr().err
    assert (made / name).read_bytes() == b""
    assert synthesize(tmp_path / "in", made, model, *more, "--overwrite") == 0


@pytest.mark.parametrize("lacking", [["a.nii.gz"], ["a.png"], ["a.nii.gz", "a.png"]])
def test_what_a_killed_run_left_is_made_again(
    tmp_path: Path, model: Path, lacking: list[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    made = tmp_path / "made"
    more = ["--preview", str(made)]
    assert synthesize(tmp_path / "in", made, model, *more) == 0
    before = contents(made)
    for name in lacking:
        (made / name).unlink()
    (made / ".meddiffusion-0123456789abcdef.nii.gz").touch()
    assert synthesize(tmp_path / "in", made, model, *more) == 0
    assert contents(made) == before


def test_a_folder_has_one_batch_at_a_time(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz")
    for held in ("made", "pictures"):
        (tmp_path / held).mkdir()
    more = ["--preview", str(tmp_path / "pictures")]
    for held in ("made", "pictures"):
        with folder_lock(tmp_path / held, shared=True):
            code = synthesize(tmp_path / "in", tmp_path / "made", model, *more)
            assert "is being written by another run" in refused(capfd, code)
    with folder_lock(tmp_path / "made", shared=True):
        single = tmp_path / "in" / "a.nii.gz", tmp_path / "made" / "v.nii.gz", model
        assert synthesize(*single) == 0, "single files share"


@pytest.mark.process
def test_a_batch_that_is_killed_ends_as_an_undisturbed_one(tmp_path: Path, model: Path) -> None:
    for name in "abc":
        nifti(tmp_path / "in" / f"{name}.nii.gz")

    def command(folder: str) -> list[str]:
        made, pictures = tmp_path / folder, tmp_path / f"{folder} pictures"
        given = ["synthesize", tmp_path / "in", "-o", made, "--model", model, "--samples", "2"]
        return [*map(str, given), "--preview", str(pictures)]

    assert main(command("whole")) == 0
    made = tmp_path / "killed"
    for least in (1, 7):
        process = subprocess.Popen(
            [sys.executable, "-m", "MedDiffusionLib", *command("killed")], stdout=subprocess.DEVNULL
        )
        while process.poll() is None and not (made.is_dir() and len(list(made.iterdir())) > least):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert main(command("killed")) == 0
    for kind in ("", " pictures"):
        assert contents(tmp_path / f"killed{kind}") == contents(tmp_path / f"whole{kind}")


# ---- results that are not finite


@pytest.mark.parametrize("what", ["range", "weights"])
def test_a_volume_that_is_not_finite_is_never_written(
    tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str], what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bundle = make_bundle(tmp_path / "model")
    if what == "weights":
        monkeypatch.setattr(
            denoiser.Denoiser, "forward", lambda self, x, *_: torch.full_like(x, torch.nan)
        )
    else:
        monkeypatch.setattr(
            "MedDiffusionLib.synthesis.synthesizer.from_model_range",
            lambda array, output_range, **_: normalization.from_model_range(array, (0, 1e300)),
        )
    source = nifti(tmp_path / "labels.nii.gz")
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", bundle))
    assert "NaN or infinite intensities, which is not kept" in sentence
    assert list(out.iterdir()) == []


def test_a_batch_goes_on_after_whatever_goes_wrong_with_one(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def read(path: Path, left_out: object) -> object:
        if path.name.startswith("b"):
            raise TypeError("keys\n\033[31m of another kind")
        return read_label_map(path)

    monkeypatch.setattr(batch, "read_label_map", read)
    for name in "abc":
        nifti(tmp_path / "in" / f"{name}.nii.gz")
    assert synthesize(tmp_path / "in", tmp_path / "made", model) == 1
    assert [p.name for p in sorted((tmp_path / "made").glob("*.gz"))] == ["a.nii.gz", "c.nii.gz"]
    errors = capfd.readouterr().err
    assert "(TypeError: keys  [31m of another kind)" in errors
    assert "please report it" in errors
    assert len(errors.splitlines()) == 2
    assert nibabel.load(tmp_path / "made" / "a.nii.gz").shape == labels().shape
