"""Checkpoints: resuming bit for bit, refusing what changed, and never losing the last one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_factory import ordinary_user
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
    content = bytearray(cases[1].labels.read_bytes())
    content[-1] ^= 1
    cases[1].labels.write_bytes(content)
    assert "files of 1 training cases changed, the first is case 1;" in refused(cases[:2])


def test_a_full_disk_leaves_the_last_checkpoint(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cases, tmp_path / "whole", 3)
    run(cases, tmp_path / "parts", 1)
    before = (tmp_path / "parts" / CHECKPOINT_NAME).read_bytes()

    write_bytes = Path.write_bytes

    def no_room(path: Path, content: bytes) -> int:
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
    assert json.loads((tmp_path / "model" / "plan.json").read_text()) == make_plan()
