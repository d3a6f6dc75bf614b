"""For organizers, without Slicer: what is asked for, what follows what, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedDiffusionLib.widget.presenters.rating_organizer import (
    AnalysisForm,
    Organizer,
    StudyForm,
    Work,
)

FULL = StudyForm("real", "made", "model", "labels", "2afc", "R1, R2", 8, 20, "Heads", "out/study")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (StudyForm(), "Choose the folder of the real volumes."),
        (StudyForm("real"), "Choose the folder of the synthetic volumes, or label maps"),
        (StudyForm("real", model="m"), "Choose the folder of the synthetic volumes, or label maps"),
        (StudyForm("real", "made"), "Give the readers' codes."),
        (StudyForm("real", "made", readers="R1"), "Choose a new folder for the study."),
        (AnalysisForm(), "Choose the folder of the study."),
        (AnalysisForm("study"), "Choose the key file"),
        (AnalysisForm("study", "key"), "Choose a new folder for the report."),
    ],
)
def test_what_is_missing_is_said(form: StudyForm | AnalysisForm, said: str) -> None:
    assert form.refusal().startswith(said)


def test_the_command_gets_what_was_filled_in() -> None:
    from MedDiffusionLib.commands.cli import _parser

    assert FULL.refusal() == ""
    chosen = _parser().parse_args(FULL.arguments())
    request = FULL.request()
    assert (chosen.real, chosen.synthetic, chosen.model) == (Path("real"), Path("made"), None)
    assert (chosen.labels, chosen.protocol, chosen.per_arm) == (Path("labels"), "2afc", 8)
    assert (chosen.repeats, chosen.title, chosen.output) == (20, "Heads", Path("out/study"))
    assert request.output == chosen.output
    assert request.readers == ("R1", "R2")
    made = StudyForm("real", model="m", labels="l", readers="R1", output="o")
    assert _parser().parse_args(made.arguments()).model == "m"
    analysis = _parser().parse_args(AnalysisForm("s", "k", "-report").arguments())
    assert (analysis.studies, analysis.key) == ([Path("s")], Path("k"))
    assert analysis.output == Path("-report")


def test_a_study_that_was_made_is_checked_at_once() -> None:
    organizer = Organizer()
    organizer.started(Work.MAKE, FULL)
    assert organizer.controls(FULL, AnalysisForm())["makeButton"].refusal.startswith("Something")
    assert organizer.ended(0, ["out/study"], ["Keep the key."], False) is Work.CHECK
    assert organizer.check_arguments() == [
        "study", "check", "--key=out/study.key.json", "out/study"
    ]  # fmt: skip
    organizer.started(Work.CHECK)
    assert organizer.ended(1, ["name: differs", "The study is not blind."], [], False) is None
    assert organizer.sentence == "The study is not blind."
    assert organizer.text.split("\n") == [
        "Keep the key.", "", "name: differs", "The study is not blind."
    ]  # fmt: skip


def test_what_fails_says_why_and_nothing_follows() -> None:
    organizer = Organizer()
    for work in Work:
        organizer.started(work, FULL)
        assert organizer.ended(1, [], ["a note", "study exists: choose another."], False) is None
        assert organizer.sentence == "study exists: choose another."
    organizer.started(Work.MAKE, FULL)
    assert organizer.ended(130, [], ["cancelled"], True) is None
    assert organizer.sentence == "Cancelled."
