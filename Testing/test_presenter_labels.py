"""The section Label map decides: whether a label map fits, what is asked of the user, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from conftest import TINY, make_bundle, tiny_manifest
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis.labels import BACKGROUND, match_labels
from MedDiffusionLib.volumes.volume import Kind, Segment, Volume
from MedDiffusionLib.widget.presenters.fit import Drawn, Fit, describe_fit
from MedDiffusionLib.widget.presenters.label_map import Scan, controls, editor_control, not_a_scan
from MedDiffusionLib.widget.presenters.models import ChosenModel
from MedDiffusionLib.widget.presenters.overrides import MOST_ROWS, Table, make_table


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


@pytest.mark.parametrize(
    ("drawn", "ok", "sentence"),
    [
        (
            None,
            False,
            "Choose a label map, or make one: begin with Example.",
        ),
        (Drawn("map"), False, "map is empty: draw at least one of anterior, posterior."),
        (Drawn("map", [1, 2]), True, "map fits the model: anterior, posterior."),
        (Drawn("map", [1, 2], problem="It is bent."), False, "It is bent."),
        (
            Drawn("map", [2]),
            True,
            "map fits the model: posterior. Not drawn: anterior; the model puts it where it finds "
            "it plausible.",
        ),
        (
            Drawn("map", [1, 9], [Segment(1, "anterior", ""), Segment(9, "liver", "")]),
            False,
            "map has liver, which tiny does not know: say below what it is.",
        ),
    ],
)
def test_the_fit_is_a_sentence(
    manifest: Manifest, drawn: Drawn | None, ok: bool, sentence: str
) -> None:
    fit = describe_fit(drawn, manifest, {})
    assert (fit.ok, fit.sentence) == (ok, sentence)
    assert fit.text == (f"✓ {sentence}" if ok else sentence)


def test_a_model_that_needs_all_its_labels_says_what_is_lacking(tmp_path: Path) -> None:
    strict = read_manifest(make_bundle(tmp_path / "strict", label_dropout=0.0))
    fit = describe_fit(Drawn("map", [1]), strict, {})
    assert (fit.ok, fit.sentence) == (
        False,
        "The model needs all its labels; map lacks posterior: draw it.",
    )


def test_a_label_that_may_be_missing_is_not_there_where_it_is_not_drawn() -> None:
    labels = [TINY["labels"][0], {**TINY["labels"][1], "optional": True}]
    healthy = tiny_manifest(label_dropout=0, labels=labels)
    fit = describe_fit(Drawn("map", [1]), healthy, {})
    said = "map fits the model: anterior. Not drawn, and so not there: posterior."
    assert (fit.ok, fit.sentence) == (True, said)
    assert not describe_fit(Drawn("map", [2]), healthy, {}).ok


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("dropout", [0.1, 0.0])
@pytest.mark.parametrize("values", [(1,), (2,), (1, 2), (1, 5), (7,)])
@pytest.mark.parametrize("overrides", [{}, {"5": BACKGROUND}, {"7": "posterior"}])
def test_the_fit_agrees_with_the_engine(
    values: tuple[int, ...], dropout: float, optional: bool, overrides: dict[str, str]
) -> None:
    labels = [TINY["labels"][0], {**TINY["labels"][1], "optional": optional}]
    manifest = tiny_manifest(label_dropout=dropout, labels=labels)
    array = np.zeros((4, 4, 4), np.int16)
    array.flat[: len(values)] = values
    by_value = {int(value): name for value, name in overrides.items() if int(value) in values}
    try:
        match_labels(Volume(array, np.eye(4), Kind.LABEL), manifest, by_value)
        fits = True
    except UserError:
        fits = False
    assert describe_fit(Drawn("map", values), manifest, overrides).ok is fits


@pytest.mark.parametrize(
    ("segments", "key"), [((), 9), ((Segment(1, "anterior", ""), Segment(9, "liver", "")), "liver")]
)
def test_overrides_reach_the_synthesis_by_segment_name_or_value(
    manifest: Manifest, segments: tuple[Segment, ...], key: int | str
) -> None:
    drawn = Drawn("map", [1, 9], segments)
    assert describe_fit(drawn, manifest, {}).foreign == (str(key),)
    overrides = {str(key): "posterior", "of another label map": "anterior"}
    fit = describe_fit(drawn, manifest, overrides)
    assert (fit.ok, fit.overrides) == (True, {key: "posterior"})
    assert describe_fit(drawn, manifest, {str(key): "of another model"}).overrides == {}


def test_the_table_has_a_row_per_foreign_label_and_leaves_out_the_rest(manifest: Manifest) -> None:
    table = make_table(Fit(False, "", ("3", "7", "9")), manifest)
    assert table.names == ("3", "7", "9")
    assert [text for text, _choice in table.choices] == [
        "choose…",
        "leave out",
        "anterior",
        "posterior",
    ]
    overrides = {"3": "posterior", "7": "of another model"}
    assert [table.chosen(name, overrides) for name in table.names] == [3, 0, 0]
    assert table.with_the_rest_left_out(overrides) == {
        "3": "posterior",
        "7": BACKGROUND,
        "9": BACKGROUND,
    }


def test_there_is_no_table_where_there_is_nothing_or_too_much_to_ask(manifest: Manifest) -> None:
    many = tuple(map(str, range(MOST_ROWS + 1)))
    assert make_table(Fit(False, "", many[1:]), manifest).names == many[1:]
    assert make_table(Fit(False, "", many), manifest) == Table()
    assert make_table(Fit(True, ""), manifest) == Table()
    assert make_table(Fit(False, "", ("3",)), None) == Table()


CT = Scan("CT")


FITS = Fit(True, "map fits the model: anterior.")


def refusals(
    model: ChosenModel, has_example: bool, drawing: bool, scan: Scan = CT, fit: Fit = FITS
) -> Mapping[str, str]:
    buttons = controls(model, has_example, drawing, scan, fit)
    return {name: one.refusal for name, one in buttons.items()}


def test_each_way_to_a_label_map_says_why_it_is_closed(manifest: Manifest, tmp_path: Path) -> None:
    model = ChosenModel("tiny", tmp_path, manifest)
    assert refusals(model, False, False) == {
        "newCanvasButton": "",
        "drawOnScanButton": "",
        "exampleButton": "There is no example for this model.",
        "randomButton": "This model has not learned shapes.",
        "varyButton": "",
    }
    (tmp_path / "shape.safetensors").touch()
    assert set(refusals(model, True, False).values()) == {""}
    for button in ("randomButton", "varyButton"):
        assert refusals(model, True, True)[button] == "A label map is being drawn."
    empty = describe_fit(Drawn("map"), manifest, {})
    assert refusals(model, True, False, fit=empty)["varyButton"] == empty.sentence
    lost = ChosenModel("lost", refusal="It is gone.")
    assert set(refusals(lost, False, True).values()) == {"It is gone."}


def test_only_a_segmentation_can_be_drawn_in() -> None:
    assert editor_control(True).enabled
    refused = editor_control(False)
    assert not refused.enabled
    assert refused.tooltip == "Only a segmentation can be drawn in: choose one."


def test_drawing_on_a_scan_says_which_scan_or_what_is_lacking(
    manifest: Manifest, tmp_path: Path
) -> None:
    model = ChosenModel("tiny", tmp_path, manifest)

    def refusal(scan: Scan) -> str:
        return refusals(model, True, False, scan)["drawOnScanButton"]

    assert refusal(Scan()) == "There is no scan to draw on: load one."
    assert refusal(Scan(others=True)) == "Choose the scan to draw on."
    assert refusal(Scan("grid", not_a_scan("grid"))) == (
        "grid holds no scan: choose another volume."
    )
    assert refusal(Scan("CT")) == ""
    button = controls(model, True, False, Scan("CT"), FITS)["drawOnScanButton"]
    assert "labels on CT, and start to draw" in button.tip
