"""The section Model decides: the list, the card, the reasons, and how a model is added."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from conftest import make_bundle
from MedDiffusionLib.bundles.catalog import load_manifests
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.widget.presenters.models import (
    Found,
    add_model,
    by_name,
    choose,
    controls,
    delete_model,
    entries,
    export_model,
    export_name,
)


@pytest.fixture
def models(own_user_folder: Path) -> Path:
    """The user's models folder, with the tiny model and a broken one."""
    folder = own_user_folder / "models"
    make_bundle(folder / "tiny")
    (folder / "broken").mkdir()
    (folder / "broken" / "model.json").write_text("{")
    return folder


@pytest.fixture
def found(models: Path) -> Found:
    return by_name(load_manifests())


def refuse(question: str) -> bool:
    raise AssertionError(f"asked: {question}")


def test_the_list_names_every_model_and_what_is_wrong_with_it(found: Found) -> None:
    listed = {entry.name: entry for entry in entries(found)}
    assert listed["tiny"].text == "tiny: Tiny untrained model"
    assert listed["tiny"].tip == "For tests."
    assert listed["broken"].text == "broken: unusable"
    assert "is damaged" in listed["broken"].tip
    assert "hippocampus-mr" in listed


def test_the_card_says_what_the_model_is(found: Found, models: Path) -> None:
    tiny = choose(found, "tiny")
    for part in ("Tiny untrained model", "T1w", "anterior", "rgb(230, 120, 60)", "16 x 16", "CC0"):
        assert part in tiny.card
    assert "ddim, 2 steps, label strength 1" in tiny.details
    assert tiny.details_tip == f"Lies in {models / 'tiny'}"
    assert tiny.refusal == ""


def test_a_model_that_cannot_be_used_gives_its_reason_in_place_of_its_card(found: Found) -> None:
    for name, reason in [
        ("broken", "is damaged"),
        ("lost", "The model lost is not on this computer: choose another, or import it."),
        (None, "The scene is being closed."),
    ]:
        chosen = choose(found, name)
        assert reason in chosen.refusal
        assert (chosen.card, chosen.details, chosen.manifest) == (chosen.refusal, "", None)


def test_only_a_model_with_shapes_can_draw_label_maps(found: Found) -> None:
    assert choose(found, "hippocampus-mr").has_shapes
    assert not choose(found, "tiny").has_shapes
    assert not choose(found, None).has_shapes


def test_a_model_is_added_with_nothing_that_is_not_part_of_it(models: Path, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "mine")
    (source / "notes.txt").write_text("not part of the bundle")
    assert add_model(source, refuse) == ("mine", "Imported mine.")
    copied = sorted(path.name for path in (models / "mine").iterdir())
    assert copied == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_model_is_replaced_only_by_who_agrees(models: Path, tmp_path: Path, agrees: bool) -> None:
    source = make_bundle(tmp_path / "tiny", title="Newer")
    asked: list[str] = []

    def answer(question: str) -> bool:
        asked.append(question)
        return agrees

    name, said = add_model(source, answer)
    assert asked == ["There is a model tiny already. Replace it?"]
    assert (name, said) == (("tiny", "Imported tiny.") if agrees else (None, ""))
    assert ("Newer" in choose(by_name(load_manifests()), "tiny").card) is agrees


def test_what_is_no_model_is_refused_with_a_sentence(models: Path, tmp_path: Path) -> None:
    half = make_bundle(tmp_path / "half")
    (half / "weights.safetensors").unlink()
    for folder, reason in [
        (tmp_path, "is no model bundle"),
        (half, "it has no weights.safetensors"),
        (models / "tiny", "is in the models folder already"),
    ]:
        name, said = add_model(folder, refuse)
        assert name is None
        assert said.startswith(str(folder))
        assert reason in said


def test_an_exported_model_holds_its_own_files_only_and_comes_back(
    found: Found, models: Path, tmp_path: Path
) -> None:
    (models / "tiny" / "montage.png").write_text("patients")
    chosen = choose(found, "tiny")
    assert export_name(chosen) == "tiny.zip"
    said = export_model(chosen, str(tmp_path / "given"))  # The suffix is added.
    assert said == "Exported given.zip. Who uses it has to keep to its license: CC0-1.0."
    with zipfile.ZipFile(tmp_path / "given.zip") as archive:
        assert sorted(archive.namelist()) == ["tiny/model.json", "tiny/weights.safetensors"]
    assert delete_model(chosen, lambda question: True) == (True, "Deleted tiny.")
    assert add_model(tmp_path / "given.zip", refuse) == ("tiny", "Imported tiny.")


def test_a_file_that_the_dialog_has_not_asked_about_is_not_replaced(
    found: Found, tmp_path: Path
) -> None:
    (tmp_path / "mine.zip").write_text("mine")
    assert "exists" in export_model(choose(found, "tiny"), str(tmp_path / "mine"))
    assert (tmp_path / "mine.zip").read_text() == "mine"
    assert export_model(choose(found, "tiny"), str(tmp_path / "mine.zip")).startswith("Exported")


def test_a_model_is_deleted_only_by_who_agrees_and_not_while_it_is_written(
    found: Found, models: Path
) -> None:
    chosen, asked = choose(found, "tiny"), list[str]()

    def decline(question: str) -> bool:
        asked.append(question)
        return False

    assert delete_model(chosen, decline) == (False, "")
    assert str(models / "tiny") in asked[0]
    with folder_lock(models / "tiny"):
        gone, said = delete_model(chosen, lambda question: True)
    assert not gone
    assert "is being written by another run" in said
    assert (models / "tiny" / "model.json").is_file()


def test_a_link_to_a_model_is_removed_and_not_what_it_leads_to(
    models: Path, tmp_path: Path
) -> None:
    elsewhere = make_bundle(tmp_path / "linked")
    (models / "linked").symlink_to(elsewhere)
    linked = choose(by_name(load_manifests()), "linked")
    assert delete_model(linked, lambda question: True)[0]
    assert not (models / "linked").exists()
    assert (elsewhere / "model.json").is_file()


def test_only_a_model_of_the_users_own_can_be_deleted(found: Found, models: Path) -> None:
    def refusals(name: str) -> tuple[str, str]:
        shown = controls(choose(found, name), models)
        return shown["exportModelButton"].refusal, shown["deleteModelButton"].refusal

    assert refusals("tiny") == ("", "")
    not_own = "This model is not one of your own: it came with the extension."
    assert refusals("hippocampus-mr") == ("", not_own)
    exporting, deleting = refusals("broken")
    assert "is damaged" in exporting
    assert deleting == ""
