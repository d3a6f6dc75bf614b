"""Live decides: when a stroke makes a volume, what it asks for, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import make_bundle
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.widget.presenters.fit import Fit
from MedDiffusionLib.widget.presenters.live import Live, live_settings
from MedDiffusionLib.widget.presenters.models import ChosenModel

FITS = Fit(True, "It fits.")


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


def test_the_check_box_says_why_it_cannot_be_ticked(manifest: Manifest, tmp_path: Path) -> None:
    model = ChosenModel("tiny", tmp_path, manifest)
    live = Live()
    assert live.control(model, True, False).enabled
    assert "3 steps" in live.control(model, True, False).tooltip
    assert "Choose a label map" in live.control(model, False, False).refusal
    assert "synthesis is running" in live.control(model, True, True).refusal
    assert live.control(ChosenModel("x", refusal="Gone."), True, False).refusal == "Gone."
    live.turn(True)
    assert live.control(model, False, True).enabled, "what is on can be turned off"


def test_each_state_is_made_once_and_only_while_it_is_on() -> None:
    live = Live()
    assert not live.wants(FITS, "drawn")
    live.turn(True)
    assert live.wants(FITS, "drawn")
    live.started("drawn")
    assert live.sentence == "Loading the model…"
    assert not live.wants(FITS, "drawn")
    assert live.wants(FITS, "drawn again")
    live.made()
    live.started("drawn again")
    assert live.sentence.startswith("Preview quality")
    live.turn(False)
    assert (live.sentence, live.wants(FITS, "more")) == ("", False)


def test_what_a_synthesis_is_made_from_needs_no_live_volume() -> None:
    live = Live()
    live.turn(True)
    live.skip("drawn")
    assert not live.wants(FITS, "drawn")
    assert live.wants(FITS, "drawn again")


def test_what_does_not_fit_is_said_and_what_failed_is_tried_again() -> None:
    live = Live()
    live.turn(True)
    assert not live.wants(Fit(False, "It is empty."), "drawn")
    assert live.sentence == "It is empty."
    live.started("drawn")
    live.failed("No memory.")
    assert live.sentence == "No memory."
    assert live.wants(FITS, "drawn")


def test_a_picture_asks_for_little_and_never_for_guidance(tmp_path: Path) -> None:
    """Guidance 1 is allowed for models of every kind, and takes half the time."""
    strict = read_manifest(make_bundle(tmp_path / "strict", label_dropout=0.0))
    asked = live_settings(strict, 7)
    assert (asked.samples, asked.seed, asked.guidance, asked.native) == (1, 7, 1.0, True)
    assert asked.steps is not None
    assert asked.steps <= 4
    asked.resolve(strict)
