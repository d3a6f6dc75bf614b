"""The section Model decides: the list, the card, the reasons, and how a model is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import make_bundle
from MedDiffusionLib.bundles.catalog import load_manifests
from MedDiffusionLib.widget.presenters.models import Found, add_model, by_name, choose, entries


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
