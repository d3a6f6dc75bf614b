"""What the panel says: its own words by code, and no text from a file as rich text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import MedDiffusionLib
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.widget.presenters.card import full_card, short_card
from MedDiffusionLib.widget.presenters.models import ChosenModel
from MedDiffusionLib.widget.wording import PROBLEMS, REMEDIES, plain, rich, sentence, tip

LIBRARY = Path(MedDiffusionLib.__file__).parent
HOSTILE = '<img src="http://x/y.png"><b>bold</b> & \x1b[31mred\x07'


def errors_with_a_code() -> Iterator[tuple[str, ast.expr]]:
    """The code and the problem of every UserError that the library raises with one."""
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value), node.args[0]


def test_a_problem_that_is_translated_by_its_code_is_the_same_in_the_engine() -> None:
    said = {(code, ast.literal_eval(p)) for code, p in errors_with_a_code() if code in PROBLEMS}
    assert said == set(PROBLEMS.items())


def test_each_remedy_is_for_a_code_that_the_engine_gives() -> None:
    assert set(REMEDIES) <= {code for code, _problem in errors_with_a_code()}


def test_the_detail_of_an_error_stays_beside_the_translated_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = UserError("It ended", "try again", code="worker-ended", detail="exit code 3")
    monkeypatch.setitem(PROBLEMS, "worker-ended", "Es endete")
    monkeypatch.setitem(REMEDIES, "worker-ended", "noch einmal versuchen")
    assert sentence(error) == "Es endete (exit code 3): noch einmal versuchen."
    assert str(error) == "It ended (exit code 3): try again."


def test_control_characters_are_shown_nowhere_and_lines_stay() -> None:
    assert plain("one\x1b[31m\ttwo\nthree\r") == "one [31m two\nthree "
    assert "\x1b" not in sentence(UserError("is \x1b[2J bad", path="x\x07"))


def test_text_with_marks_of_rich_text_is_escaped_where_qt_would_guess() -> None:
    assert tip("2 of 3 cases") == "2 of 3 cases"
    assert tip("<b>x</b>\ny") == "<qt>&lt;b&gt;x&lt;/b&gt;<br>y</qt>"
    assert tip("&lt;b>") == "<qt>&amp;lt;b&gt;</qt>"
    assert rich(HOSTILE).count("<") == 0


def test_a_models_card_and_its_refusal_show_what_a_file_says_as_text(tiny_bundle: Path) -> None:
    import dataclasses

    from MedDiffusionLib.bundles.manifest import read_manifest

    manifest = dataclasses.replace(
        read_manifest(tiny_bundle), title=HOSTILE, license=HOSTILE, attribution=HOSTILE
    )
    for shown in (
        short_card(manifest),
        full_card(manifest),
        ChosenModel("x", refusal=HOSTILE).card,
    ):
        assert "&lt;img src" in shown
        assert "<img" not in shown
        assert "\x1b" not in shown


def sentences(call: ast.Call) -> list[ast.expr]:
    """The parts of a UserError that a user reads: problem and remedy."""
    return [*call.args, *(k.value for k in call.keywords if k.arg == "remedy")]


def is_translated(part: ast.expr) -> bool:
    """Whether it is ``_("...")`` or ``_("...").format(...)``."""
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
        part = part.func.value
    return isinstance(part, ast.Call) and getattr(part.func, "id", "") == "_"


@pytest.mark.parametrize("room", ["scene", "widget"])
def test_what_the_scene_and_the_panel_refuse_is_translated(room: str) -> None:
    bare = [
        f"{path.name}:{part.lineno}"
        for path in (LIBRARY / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError"
        for part in sentences(node)
        if not is_translated(part)
    ]
    assert bare == []
