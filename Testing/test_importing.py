"""Checkpoints of other programs: what is made of a good one, and that a bad one does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from checkpoint_files import (
    BAD,
    MARK,
    STEPS,
    name,
    name_of,
    records_of,
    small_content,
    text,
    write_bad_files,
    write_good,
    zipped,
)
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.importers import import_checkpoint, parse_options
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.bundles.tensor_file import write_tensors
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.archives import Record, StoredTensor, read_archive
from MedDiffusionLib.compute.errors import UserError

SIZE = {"size": [8, 8, 8]}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("good") / "good.pt")


@pytest.fixture
def models(own_user_folder: Path) -> Path:
    return own_user_folder / "models"


# ---- bad files


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad_files(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("key", BAD)
def test_a_bad_checkpoint_is_one_sentence_and_nothing_else(
    key: str,
    bad: dict[str, Path],
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path / "executed"))
    path, words = bad[key], BAD[key][0]
    with pytest.raises(UserError) as raised:
        import_checkpoint(path, "bad", SIZE)
    sentence = str(raised.value)
    assert words in sentence
    assert sentence.startswith(str(path))
    assert sentence.count("\n") == 0
    assert len(sentence) < 500 + len(str(path))
    assert not (tmp_path / "executed").exists()
    assert not models.exists() or list(models.iterdir()) == []


def test_there_are_at_least_sixty_of_them() -> None:
    assert len(BAD) >= 60


@pytest.mark.process
def test_no_bad_checkpoint_takes_much_memory(bad: dict[str, Path], own_user_folder: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from MedDiffusionLib.bundles.importers import import_checkpoint\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before, refused = peak(), 0\n"
        "for path in sys.argv[1:]:\n"
        "    try: import_checkpoint(Path(path), 'bad')\n"
        "    except Exception: refused += 1\n"
        "print(refused, peak() - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, bad.values())],
        capture_output=True, text=True, check=True,
        env={**os.environ, "MEDDIFFUSION_HOME": str(own_user_folder)},
    )  # fmt: skip
    refused, taken = map(int, ran.stdout.split())
    assert refused == len(BAD)
    # The largest file of them has 17 MB.
    assert taken < 100e6


def test_the_command_says_one_sentence_of_a_bad_checkpoint(
    bad: dict[str, Path], models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = bad["reduce-in-ema"]
    assert main(["import", str(path)]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "names posix.system" in err


# ---- archives


def test_an_archive_gives_the_tensors_that_torch_gives(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    content = {
        "all": {
            "float": torch.randn(2, 3),
            "half": torch.randn(4).half(),
            "bfloat16": torch.randn(4).bfloat16(),
            "double": torch.randn(2).double(),
            "long": torch.tensor([2**40]),
            "bool": torch.tensor([True, False]),
            "byte": torch.tensor([255], dtype=torch.uint8),
            "scalar": torch.tensor(3.0),
            "empty": torch.empty(0, 3),
            "part": base[4:12].view(2, 4),
            "turned": base.view(4, 6).t(),
            "every-other": base[::2],
        },
        "plain": [1, -5, 2**31, 2**40, 0.5, None, True, "text", (1, (2,))],
    }
    torch.save(content, tmp_path / "a.pt")
    read = read_archive(tmp_path / "a.pt").content
    expected = torch.load(tmp_path / "a.pt", weights_only=True)
    assert read["plain"] == content["plain"]
    for key, tensor in expected["all"].items():
        stored = read["all"][key]
        assert (stored.shape, stored.dtype) == (tensor.shape, tensor.dtype)
        assert torch.equal(stored.load(), tensor)


def test_tensors_of_one_storage_share_it(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    torch.save({"a": base[:3], "b": base[3:]}, tmp_path / "a.pt")
    read = read_archive(tmp_path / "a.pt").content
    a, b = read["a"].load(), read["b"].load()
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    assert b.tolist() == [3, 4, 5]


def test_reading_a_checkpoint_reads_no_weights(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda *given, **named: pytest.fail("memory was taken"))
    content = read_archive(good).content
    assert isinstance(content["ema"]["betas"], StoredTensor)


def test_a_file_that_changes_meanwhile_is_not_believed(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(good.read_bytes())
    content = read_archive(path).content
    data = bytearray(path.read_bytes())
    place = data.index(content["ema"]["betas"].load().numpy().tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="has changed while it was read"):
        read_archive(good) and content["ema"]["betas"].load()


def test_objects_of_a_configuration_are_records_of_their_fields(tmp_path: Path, good: Path) -> None:
    records = records_of(good)
    node = name("omegaconf.nodes", "AnyNode") + b")\x81}" + text("_val") + b"K\x08sb"
    records[name_of(records, "/data.pkl")] = b"\x80\x02}" + text("cfg") + node + b"s."
    (tmp_path / "a.pt").write_bytes(zipped(records))
    record = read_archive(tmp_path / "a.pt").content["cfg"]
    assert isinstance(record, Record)
    assert (record.name, record.fields) == ("omegaconf.nodes.AnyNode", {"_val": 8})
    assert "omegaconf" not in sys.modules


# ---- models


def test_a_checkpoint_becomes_a_model_with_where_it_came_from(
    good: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import", str(good), "--as", "mine", "--license", "CC-BY-4.0"]
    assert main([*arguments, "--option", "size=8,8,8"]) == 0
    assert capsys.readouterr().out == "mine\n"
    manifest = read_manifest(models / "mine")
    assert (manifest.name, manifest.license) == ("mine", "CC-BY-4.0")
    assert manifest.source is not None
    assert (manifest.source.file, manifest.source.importer) == ("good.pt", "med-ddpm")
    assert manifest.grid.size == (8, 8, 8)
    assert main(["info", "mine"]) == 0
    card = capsys.readouterr().out
    assert f"Imported from  good.pt (med-ddpm), SHA-256 {manifest.source.sha256}" in card
    assert "different slices are not on one scale" in " ".join(card.split())
    assert main(["export", "mine", "-o", str(models.parent / "mine.zip")]) == 0
    assert main(["import", str(models.parent / "mine.zip"), "--overwrite"]) == 0


def test_the_weights_are_those_of_the_ema_to_the_bit(good: Path, models: Path) -> None:
    import_checkpoint(good, "mine", SIZE)
    stored = load_file(models / "mine" / "weights.safetensors")
    expected = torch.load(good, weights_only=True)["ema"]
    for key, tensor in expected.items():
        if key.startswith("denoise_fn."):
            own = stored[key.replace("denoise_fn.", "denoiser.network.")]
            assert torch.equal(own, tensor)
    assert torch.equal(stored["denoiser.schedule.betas"], expected["betas"])
    assert stored["denoiser.schedule.fed"].tolist() == list(range(STEPS))
    model = read_bundle(models / "mine")
    assert not model.training


def test_the_other_weights_are_taken_where_they_are_asked_for(models: Path, tmp_path: Path) -> None:
    content = small_content()
    key = "time_embed.0.weight"
    content["model"][f"denoise_fn.{key}"] = content["ema"][f"denoise_fn.{key}"] + 1
    torch.save(content, tmp_path / "a.pt")
    import_checkpoint(tmp_path / "a.pt", "mine", {**SIZE, "weights": "model"})
    stored = load_file(models / "mine" / "weights.safetensors")
    assert torch.equal(stored[f"denoiser.network.{key}"], content["model"][f"denoise_fn.{key}"])


def test_a_model_is_replaced_only_when_asked_and_kept_where_the_import_fails(
    good: Path, bad: dict[str, Path], models: Path
) -> None:
    import_checkpoint(good, "mine", SIZE, license="first")
    with pytest.raises(UserError, match="There is a model mine already"):
        import_checkpoint(good, "mine", SIZE)
    with pytest.raises(UserError, match="NaN"):
        import_checkpoint(bad["nan"], "mine", SIZE, overwrite=True)
    assert read_manifest(models / "mine").license == "first"
    import_checkpoint(good, "mine", SIZE, license="second", overwrite=True)
    assert read_manifest(models / "mine").license == "second"
    assert [path.name for path in models.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sise": [8, 8, 8]}, "known for this file are variant"),
        ({"size": [8, 8]}, "has 2 entries"),
        ({"size": "large"}, "not of type array"),
        ({"orientation": "RRR"}, "orientation"),
        ({"labels": ["a"]}, "2 labels, and 1 are named"),
        ({"labels": ["a", "A"]}, "twice"),
        ({"channels": ["a b"]}, "channels"),
        ({"weights": "best"}, "ema, model"),
        ({"variant": "brats"}, "4 are named"),
        ({"heads": 5}, "heads"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    options: dict[str, Any], words: str, good: Path, models: Path
) -> None:
    with pytest.raises(UserError, match=words):
        import_checkpoint(good, "mine", {**SIZE, **options})
    assert not models.exists() or list(models.iterdir()) == []


@pytest.mark.parametrize(("given", "license"), [("../x", None), ("", None), ("a", ""), ("A", None)])
def test_a_name_or_a_license_that_no_model_has_is_refused(
    given: str, license: str | None, good: Path
) -> None:
    with pytest.raises(UserError, match=r"name|license"):
        import_checkpoint(good, given, SIZE, license=license)


def test_options_are_numbers_texts_and_lists() -> None:
    given = ["spacing=1.5,1,2", "axes=ijk", "labels=head, lung", "heads=2", 'channels=["a"]']
    assert parse_options(given) == {
        "spacing": [1.5, 1, 2], "axes": "ijk", "labels": ["head", "lung"], "heads": 2,
        "channels": ["a"],
    }  # fmt: skip
    for wrong in (["spacing"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UserError, match="KEY=VALUE"):
            parse_options(wrong)


def test_a_model_that_is_one_already_takes_no_options(
    good: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(tiny_bundle), "--as", "other"]) == 1
    assert "is a model already" in capfd.readouterr().err


# ---- weights


def test_weights_are_written_as_the_library_writes_them(tmp_path: Path) -> None:
    tensors = {
        "b.x": torch.randn(3, 4),
        "a": torch.randn(5).half(),
        "ä": torch.randn(1, 2, 3).bfloat16(),
        "z": torch.arange(4),
        "scalar": torch.tensor(1.0),
        "empty": torch.empty(0, 2),
        "bytes": torch.zeros(3, dtype=torch.uint8),
        "double": torch.zeros(1, dtype=torch.float64),
    }
    with (tmp_path / "a").open("wb") as file:
        write_tensors(file, tensors, {name: tensor.dtype for name, tensor in tensors.items()})
    assert (tmp_path / "a").read_bytes() == save(tensors)


def test_json_of_a_source_comes_back(good: Path, models: Path) -> None:
    import_checkpoint(good, "mine", SIZE)
    manifest = read_manifest(models / "mine")
    assert json.loads(json.dumps(manifest.to_json()))["source"]["importer"] == "med-ddpm"
    assert [label.optional for label in manifest.labels] == [False, True]
