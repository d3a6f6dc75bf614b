"""Checkpoints: resuming bit for bit, refusing what changed, and never losing the last one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import tiny_manifest
from data_factory import ordinary_user
from MedDiffusionLib.bundles.bundle import write_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.loop.log import TrainingReport
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME
from training_factory import make_plan, read_log, run, write_data

OFTEN = make_plan(checkpoint_minutes=0)
"""A checkpoint after every iteration."""


@pytest.fixture
def cases(tmp_path: Path) -> list[CaseFiles]:
    return write_data(tmp_path)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    run(cases, tmp_path / "whole", 4, plan=OFTEN)

    def crash(report: TrainingReport) -> None:
        if report.iteration == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(cases, tmp_path / "parts", 4, plan=OFTEN, on_report=crash)
    run(cases, tmp_path / "parts", 4, plan=OFTEN, resume=True)
    for name in ("weights.safetensors", CHECKPOINT_NAME):
        whole, parts = (load_file(tmp_path / n / name) for n in ("whole", "parts"))
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    # Iteration 3 was logged, lost and done again: it stands there once.
    steps = [line["iteration"] for line in read_log(tmp_path / "parts") if "loss" in line]
    assert steps == [1, 2, 3, 4]


def test_a_run_does_not_overwrite_another_or_a_model(
    cases: list[CaseFiles], tmp_path: Path, tiny_bundle: Path
) -> None:
    run(cases, tmp_path / "model", 1)
    with pytest.raises(UserError, match="holds another run: resume it"):
        run(cases, tmp_path / "model", 1)
    with pytest.raises(UserError, match="holds a model"):
        run(cases, tiny_bundle, 1)


def test_resuming_needs_a_checkpoint(cases: list[CaseFiles], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        run(cases, tmp_path / "model", 1, resume=True)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\xff" * 64])
def test_an_unreadable_checkpoint_is_one_sentence(
    cases: list[CaseFiles], tmp_path: Path, content: bytes
) -> None:
    run(cases, tmp_path / "model", 1)
    path = tmp_path / "model" / CHECKPOINT_NAME
    for damaged in (content, path.read_bytes()[:-100]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="no checkpoint that can be read") as caught:
            run(cases, tmp_path / "model", 2, resume=True)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_of_file_is_refused(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    run(cases, tmp_path / "model", 1)
    bundle = tmp_path / "model" / "weights.safetensors"
    (tmp_path / "model" / CHECKPOINT_NAME).write_bytes(bundle.read_bytes())
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        run(cases, tmp_path / "model", 2, resume=True)


def test_changed_data_plan_or_seed_are_named_when_resuming(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    def refused(now: list[CaseFiles], **options: Any) -> str:
        with pytest.raises(UserError, match="cannot be resumed") as caught:
            run(now, tmp_path / "model", 2, resume=True, **options)
        return str(caught.value)

    run(cases[:2], tmp_path / "model", 1)
    assert "1 training cases are gone, the first is case 1;" in refused(cases[:1])
    assert "1 training cases are new, the first is case 2;" in refused(cases)
    assert "come in another order" in refused(cases[1::-1])
    assert "1 validation cases are new" in refused(cases[:2], validation=cases[2:])
    assert "seed was 0 and is now 1" in refused(cases[:2], seed=1)
    plan = make_plan(learning_rate=0.1)
    assert "plan's training.learning_rate was 0.0004 and is now 0.1" in refused(
        cases[:2], plan=plan
    )
    # The same name and size, other voxels.
    labels = cases[1].files[-1]
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)
    assert "files of 1 training cases changed, the first is case 1;" in refused(cases[:2])


def test_a_full_disk_leaves_the_last_checkpoint(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cases, tmp_path / "whole", 3)
    run(cases, tmp_path / "parts", 1)
    before = (tmp_path / "parts" / CHECKPOINT_NAME).read_bytes()

    write_bytes = Path.write_bytes

    def no_room(path: Path, content: bytes) -> int:
        if path.suffix != ".safetensors":
            return write_bytes(path, content)
        write_bytes(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(
        UserError, match=r"No space left on device; the last one is intact"
    ) as caught:
        run(cases, tmp_path / "parts", 3, resume=True)
    assert caught.value.code == "resume"
    assert (tmp_path / "parts" / CHECKPOINT_NAME).read_bytes() == before
    assert not list((tmp_path / "parts").glob(".meddiffusion-*"))
    monkeypatch.undo()
    _, outcome = run(cases, tmp_path / "parts", 3, resume=True)
    assert outcome.iteration == 3


def test_what_a_killed_run_left_half_written_is_cleared_away(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    run(cases, tmp_path / "model", 1)
    half = tmp_path / "model" / ".meddiffusion-0123456789abcdef.safetensors"
    half.write_bytes(b"half")
    with (tmp_path / "model" / "log.jsonl").open("a") as log:
        log.write('{"iteration": 2, "lo')
    run(cases, tmp_path / "model", 2, resume=True)
    assert not half.exists()
    assert [x["iteration"] for x in read_log(tmp_path / "model") if "loss" in x] == [1, 2]


def test_an_output_folder_that_cannot_be_written_is_refused(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with ordinary_user(), pytest.raises(UserError, match="cannot be written"):
        run(cases, tmp_path / "locked", 1)
    with pytest.raises(UserError, match="cannot be written"):
        run(cases, tmp_path / "images" / "case 0.nii.gz" / "model", 1)


def test_the_plan_lies_beside_the_run_and_is_a_preset(
    cases: list[CaseFiles], tmp_path: Path
) -> None:
    run(cases, tmp_path / "model", 1)
    plan = tmp_path / "model" / "plan.json"
    assert json.loads(plan.read_text()) == make_plan()
    plan.unlink()  # As after a kill between the first checkpoint and the plan.
    run(cases, tmp_path / "model", 2, resume=True)
    assert json.loads(plan.read_text()) == make_plan()


# ---- numbers in a checkpoint


Tensors = dict[str, torch.Tensor]
Facts = dict[str, Any]


def change_checkpoint(path: Path, change: Callable[[Tensors, Facts], object]) -> None:
    """Write a checkpoint anew with other tensors or facts, and without a hash, as old ones are."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    del metadata["sha256"]
    facts = {name: json.loads(metadata[name]) for name in ("run", "identity")}
    tensors = load_file(path)
    change(tensors, facts)
    save_file(tensors, path, {name: json.dumps(content) for name, content in facts.items()})


def first(tensors: Tensors, prefix: str) -> torch.Tensor:
    """A tensor with values of the kind that a prefix names."""
    return next(t for name, t in tensors.items() if name.startswith(prefix) and t.ndim).view(-1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration, with its data beside."""
    folder = tmp_path_factory.mktemp("trained")
    run(write_data(folder), folder / "model", 1)
    return folder


def resume(trained: Path, folder: Path) -> None:
    cases = [
        CaseFiles(f"case {n}", (trained / "images" / f"case {n}.nii.gz",),
                  trained / "labels" / f"case {n}.nrrd", f"case {n}")
        for n in range(3)
    ]  # fmt: skip
    run(cases, folder, 2, resume=True)


def test_a_checkpoint_without_a_hash_is_resumed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    change_checkpoint(tmp_path / "model" / CHECKPOINT_NAME, lambda tensors, facts: None)
    resume(trained, tmp_path / "model")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.6, 0.85, 0.999])
def test_a_bit_that_flipped_anywhere_is_noticed(
    trained: Path, tmp_path: Path, share: float
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    path = tmp_path / "model" / CHECKPOINT_NAME
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start + int(share * (len(data) - start))] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="it is damaged: its SHA-256 is another"):
        resume(trained, tmp_path / "model")


def test_a_bit_that_flipped_in_what_a_checkpoint_says_is_noticed(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    path = tmp_path / "model" / CHECKPOINT_NAME
    data = path.read_bytes()
    path.write_bytes(data.replace(b'iteration\\": 1', b'iteration\\": 3'))
    assert path.read_bytes() != data
    with pytest.raises(UserError, match="SHA-256"):
        resume(trained, tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, f: first(t, "model.").fill_(torch.nan), "NaN or infinite numbers in model."),
        (lambda t, f: first(t, "average.").fill_(torch.inf), "NaN or infinite numbers in average."),
        (lambda t, f: first(t, "optimizer.").fill_(torch.nan), "numbers in optimizer."),
        (lambda t, f: t.update({"optimizer.999.exp_avg": torch.zeros(1)}), "weights 999"),
        (lambda t, f: t.update({"optimizer.0.exp_avg": torch.zeros(3)}), "another shape"),
        (lambda t, f: t.update({"optimizer.x.exp_avg": torch.zeros(3)}), "invalid literal"),
        (lambda t, f: t.update(more=torch.zeros(10**6)), "of a larger network"),
        (lambda t, f: f["run"].update(iteration="1"), "iteration is not of type integer"),
        (lambda t, f: f["run"].update(iteration=-1), "iteration is -1, out of range"),
        (lambda t, f: f["run"].update(iteration=10**30), "too large a number"),
        (lambda t, f: f["run"].update(seconds=float("nan")), "NaN is no finite number"),
        (lambda t, f: f["run"].update(rate_scale=0), "rate_scale is 0, out of range"),
        (lambda t, f: f["run"].update(micro_batch=None), "micro_batch is not of type integer"),
        (lambda t, f: f["run"].pop("recompute"), "lacks 'recompute'"),
        (lambda t, f: f.update(run=[]), "its run is not of type object"),
        (lambda t, f: f.update(identity=3), "its identity is not of type object"),
        (lambda t, f: f["identity"].update(plan=[]), "plan is not of type object"),
        (lambda t, f: f["identity"]["plan"].pop("manifest"), "lacks 'manifest'"),
        (lambda t, f: f["identity"].update(cases=["case 0"]), "cases is not of type object"),
        (lambda t, f: f["identity"].update(seed="0"), "seed is not of type integer"),
    ],
)  # fmt: skip
def test_a_checkpoint_with_wrong_numbers_is_one_sentence(
    trained: Path, tmp_path: Path, change: Callable[[Tensors, Facts], object], said: str
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    change_checkpoint(tmp_path / "model" / CHECKPOINT_NAME, change)
    with pytest.raises(UserError, match="no checkpoint that can be read") as caught:
        resume(trained, tmp_path / "model")
    assert said in str(caught.value)


def test_a_run_whose_average_became_nan_ends_with_a_sentence_and_no_model(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(ema: torch.nn.Module, *_: object) -> None:
        next(ema.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr("MedDiffusionLib.training.loop.step.update_ema", spoil)
    with pytest.raises(UserError, match=r"NaN or infinite numbers in average\..* at iteration 1"):
        run(cases, tmp_path / "model", 1)
    assert not (tmp_path / "model" / "model.json").exists()
    # The checkpoint of the start is whole.
    monkeypatch.undo()
    run(cases, tmp_path / "model", 1, resume=True)


def test_weights_that_half_precision_does_not_hold_make_no_model(tmp_path: Path) -> None:
    model = build_model(tiny_manifest())
    next(model.parameters()).data.fill_(1e6)
    with pytest.raises(UserError, match="half precision does not hold"):
        write_bundle(tmp_path / "model", model)
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_that_is_no_regular_file_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    (tmp_path / "model" / CHECKPOINT_NAME).unlink()
    os.mkfifo(tmp_path / "model" / CHECKPOINT_NAME)
    with pytest.raises(UserError, match="no regular file"):
        resume(trained, tmp_path / "model")
