"""A file appears whole or not at all."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
from pathlib import Path

import pytest

from MedDiffusionLib.bundles.catalog import model_folders
from MedDiffusionLib.bundles.installing import models_folder
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.files import (
    atomic,
    atomic_together,
    open_regular,
    refuse_existing,
    refuse_overlap,
    user_folder,
    write_json,
)

NAMES = ["plain.json", "fall 1 ä.nii.gz", "脳.seg.nrrd", "without suffix"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_appears_only_when_it_is_complete(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "whole"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("new")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "old"


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd", ".json", ".safetensors"])
def test_the_temporary_name_ends_like_the_final_one(tmp_path: Path, suffix: str) -> None:
    with atomic(tmp_path / f"case 1.2{suffix}") as temporary:
        assert temporary.name.endswith(suffix)
        assert temporary.parent == tmp_path


def test_a_block_that_removes_its_file_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic(path) as temporary:
        temporary.unlink()
    assert path.read_text() == "old"


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic(path) as first, atomic(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.txt"):
        pass
    (tmp_path / "b.txt").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")]
    assert modes[0] == modes[1]


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"Näme": [1, 2]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"Näme": [1, 2]}
    assert "Näme" in text
    assert text.endswith("}\n")


def test_an_output_that_is_an_input_by_whatever_name_is_refused(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"scan")
    (tmp_path / "link.nii.gz").symlink_to(scan)
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("scan.nii.gz", "link.nii.gz", "hard.nii.gz", "folder/scan.nii.gz"):
        with pytest.raises(UserError, match="would be written over"):
            refuse_overlap([tmp_path / "new.nii.gz", tmp_path / name], [scan])
    refuse_overlap([tmp_path / "new.nii.gz"], [scan, tmp_path / "absent.nii.gz"])


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", "."):
        with pytest.raises(OSError, match="no regular file"):
            open_regular(tmp_path / name)


def test_json_with_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "a.nii.gz", "a.png")]
    paths[1].write_text("old")
    with pytest.raises(OSError), atomic_together(paths) as temporaries:
        temporaries[0].write_text("new")
        temporaries[2].unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert paths[1].read_text() == "old"
    with atomic_together(paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {p.name: "new" for p in paths}


def test_ctrl_c_while_files_are_renamed_comes_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_together([tmp_path / "a", tmp_path / "b"]):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_without_a_home_there_is_no_user_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDDIFFUSION_HOME")

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert user_folder() is None
    assert "hippocampus-mr" in model_folders()
    with pytest.raises(UserError, match="no home folder"):
        models_folder()


def test_an_output_that_is_there_is_refused_also_where_it_is_a_link_to_nowhere(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(UserError, match="exists"):
            refuse_existing([tmp_path / "new", tmp_path / name])
    refuse_existing([tmp_path / "new"])
