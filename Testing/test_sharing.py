"""A model as one zip file: what is written, and what is taken in."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import make_bundle
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.installing import import_bundle
from MedDiffusionLib.bundles.sharing import export_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError

Content = dict[str, bytes]


@pytest.fixture
def exported(tiny_bundle: Path, tmp_path: Path) -> Path:
    export_bundle(tiny_bundle, tmp_path / "tiny.zip")
    return tmp_path / "tiny.zip"


@pytest.fixture
def models(own_user_folder: Path) -> Path:
    return own_user_folder / "models"


def content_of(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, content: Content, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


# ---- export


def test_only_the_models_files_are_exported(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("montage.png", "checkpoint.safetensors", "log.jsonl", "LICENSE"):
        (tiny_bundle / name).write_text(name)
    (tiny_bundle / "cases").mkdir()
    export_bundle(tiny_bundle, tmp_path / "tiny.zip")
    names = ["tiny/LICENSE", "tiny/model.json", "tiny/weights.safetensors"]
    assert sorted(content_of(tmp_path / "tiny.zip")) == names


def test_the_same_model_gives_the_same_bytes(tiny_bundle: Path, tmp_path: Path) -> None:
    export_bundle(tiny_bundle, tmp_path / "1.zip")
    for path in tiny_bundle.iterdir():
        path.chmod(0o600)
        os.utime(path, (0, 0))
    export_bundle(tiny_bundle, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_a_damaged_model_is_not_exported(tiny_bundle: Path, tmp_path: Path) -> None:
    weights = tiny_bundle / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"weights\.safetensors does not match the SHA-256"):
        export_bundle(tiny_bundle, tmp_path / "tiny.zip")
    assert not (tmp_path / "tiny.zip").exists()


def test_an_existing_file_is_replaced_only_when_asked(tiny_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.zip"
    target.write_text("mine")
    command = ["export", str(tiny_bundle), "-o", str(target)]
    assert main(command) == 1
    assert target.read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert zipfile.is_zipfile(target)


@pytest.mark.parametrize("name", ["tiny.tar", "tiny", "no/folder/tiny.zip", "model.json"])
def test_a_target_that_cannot_be_written_is_refused(
    tiny_bundle: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in tiny_bundle.iterdir()}
    assert main(["export", str(tiny_bundle), "-o", str(tiny_bundle / name), "--overwrite"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tiny_bundle.iterdir()} == before


def test_an_export_never_writes_over_the_model(tiny_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "model.zip"
    link.symlink_to(tiny_bundle / "weights.safetensors")
    with pytest.raises(UserError, match="would be written over"):
        export_bundle(tiny_bundle, link, overwrite=True)


# ---- import


def test_what_was_exported_is_the_model_again(
    exported: Path, tiny_bundle: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(exported)]) == 0
    assert capsys.readouterr().out == "tiny\n"
    assert read_bundle(models / "tiny").sha256 == read_bundle(tiny_bundle).sha256


def test_a_bundled_model_with_its_shapes_goes_out_and_in(tmp_path: Path, models: Path) -> None:
    assert main(["export", "hippocampus-mr", "-o", str(tmp_path / "h.zip")]) == 0
    assert import_bundle(tmp_path / "h.zip") == "hippocampus-mr"
    assert read_bundle(models / "hippocampus-mr").shape_model.sample(0).array.any()


def test_a_model_of_its_name_is_replaced_only_when_asked(
    exported: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(models / "tiny", title="Mine")
    assert main(["import", str(exported)]) == 1
    assert "There is a model tiny already: use --overwrite" in capsys.readouterr().err
    assert "Mine" in (models / "tiny" / "model.json").read_text()
    assert main(["import", str(exported), "--overwrite"]) == 0
    assert "Mine" not in (models / "tiny" / "model.json").read_text()


def test_files_at_the_top_and_compressed_ones_are_taken(exported: Path, tmp_path: Path) -> None:
    flat = {name.split("/")[1]: data for name, data in content_of(exported).items()}
    packed = write_zip(tmp_path / "flat.zip", flat, zipfile.ZIP_DEFLATED)
    assert import_bundle(packed) == "tiny"


def add(name: str) -> Callable[[Content], Content]:
    return lambda content: {**content, name: b"text"}


def rename(old: str, new: str) -> Callable[[Content], Content]:
    return lambda content: {new if name == old else name: d for name, d in content.items()}


def flip(content: Content) -> Content:
    name = "tiny/weights.safetensors"
    return {**content, name: content[name][:-1] + bytes([content[name][-1] ^ 1])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add("../../evil.txt"), "in one place"),
        (add("/etc/evil"), "in one place"),
        (add("tiny/evil.py"), "holds tiny/evil.py, which is no file of a model"),
        (add("tiny/sub/LICENSE"), "in one place"),
        (add("other/LICENSE"), "in one place"),
        (add("tiny/..\\evil"), "which is no file of a model"),
        (add("tiny/montage.png"), "which is no file of a model"),
        (add("tiny/\x1b[31m"), "which is no file of a model"),
        (rename("tiny/model.json", "tiny/MODEL.JSON"), "which is no file of a model"),
        (lambda content: {"tiny/LICENSE": b""}, "no whole model"),
        (lambda content: {}, "in one place"),
        (lambda content: {**content, "tiny/model.json": b"[" * 10000}, "nested too deeply"),
        (lambda content: {**content, "tiny/model.json": b" " * 2**21}, "too large"),
        (lambda content: {**content, "tiny/LICENSE": b" " * 2**21}, "too large"),
        (lambda content: {**content, "tiny/weights.safetensors": b"short"}, "too small"),
        (flip, "does not match the SHA-256"),
    ],
)  # fmt: skip
def test_a_zip_that_holds_anything_else_is_refused(
    exported: Path,
    tmp_path: Path,
    models: Path,
    change: Callable[[Content], Content],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = write_zip(tmp_path / "changed.zip", change(content_of(exported)))
    assert main(["import", str(changed)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert not models.exists() or not list(models.iterdir())


def test_the_same_name_twice_is_refused(exported: Path) -> None:
    with zipfile.ZipFile(exported, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("tiny/model.json", b"{}")
    with pytest.raises(UserError, match=r"holds tiny/model\.json twice"):
        import_bundle(exported)


def test_a_link_is_refused(exported: Path) -> None:
    entry = zipfile.ZipInfo("tiny/LICENSE")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="holds tiny/LICENSE as a link"):
        import_bundle(exported)


@pytest.mark.parametrize(("offset", "value", "said"), [(8, 1, "encrypted"), (10, 14, "unusual")])
def test_encryption_and_unusual_compression_are_refused(
    exported: Path, offset: int, value: int, said: str
) -> None:
    data = bytearray(exported.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + offset : entry + offset + 2] = struct.pack("<H", value)
    exported.write_bytes(data)
    with pytest.raises(UserError, match=said):
        import_bundle(exported)


def test_a_bomb_is_refused_by_the_size_that_its_manifest_allows(
    exported: Path, tmp_path: Path, models: Path
) -> None:
    content = content_of(exported) | {"tiny/weights.safetensors": bytes(2**25)}
    bomb = write_zip(tmp_path / "bomb.zip", content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**17
    with pytest.raises(UserError, match="too large for its model"):
        import_bundle(bomb)
    assert list(models.iterdir()) == []


def test_a_size_that_lies_unpacks_to_no_more_than_it_says(exported: Path, models: Path) -> None:
    data = bytearray(exported.read_bytes())
    # The sizes of the first entry, model.json, in the directory.
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    exported.write_bytes(data)
    with pytest.raises(UserError):
        import_bundle(exported)
    assert not models.exists() or list(models.iterdir()) == []


def test_a_zip_cut_or_changed_anywhere_is_one_sentence(exported: Path, models: Path) -> None:
    whole = exported.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for at in (*range(0, directory, directory // 12), *range(directory, len(whole), 3)):
        changed = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        for data in (whole[:at], changed):
            exported.write_bytes(data)
            try:
                import_bundle(exported, replace=True)
            except UserError as error:
                assert "\n" not in str(error)
            else:
                # What does not count was changed: a date, say.
                assert read_bundle(models / "tiny").sha256


@pytest.mark.parametrize("kind", ["absent", "text", "empty", "fifo"])
def test_what_is_no_zip_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.zip"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind != "absent":
        path.write_text("text" if kind == "text" else "")
    with pytest.raises(UserError, match=r"cannot be read|no zip file"):
        import_bundle(path)


def test_a_folder_is_imported_only_where_its_files_are_whole(tiny_bundle: Path) -> None:
    weights = tiny_bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="does not match the SHA-256"):
        import_bundle(tiny_bundle)
