"""The sections Synthesize and Results decide: the one button, the progress, the list's controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import TINY, tiny_manifest
from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.registry import Component
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.widget.presenters.choices import Device, Quality, Sampler
from MedDiffusionLib.widget.presenters.fit import Fit
from MedDiffusionLib.widget.presenters.models import ChosenModel
from MedDiffusionLib.widget.presenters.results import Results, facts, saved
from MedDiffusionLib.widget.presenters.synthesis import Press, Synthesis, quality_tip, settings
from MedDiffusionLib.widget.wording import REMEDIES, sentence

MODEL = ChosenModel("tiny")
FITS = Fit(True, "It fits.")


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


def test_the_button_says_first_what_the_model_lacks_and_then_the_label_map() -> None:
    synthesis = Synthesis()
    lost, misfit = ChosenModel("lost", refusal="It is gone."), Fit(False, "It is empty.")
    assert synthesis.button(lost, misfit).tooltip == "It is gone."
    assert synthesis.button(MODEL, misfit).tooltip == "It is empty."
    ready = synthesis.button(MODEL, FITS)
    assert (ready.enabled, ready.text) == (True, "Synthesize")


def test_a_model_without_labels_generates_whatever_is_drawn(manifest: Manifest) -> None:
    model = ChosenModel("free", manifest=replace(manifest, labels=()))
    button = Synthesis().button(model, Fit(False, "Nothing is drawn."))
    assert (button.text, button.refusal) == ("Generate", "")
    assert Synthesis().title(model) == "Generate"
    chosen = SimpleNamespace(
        samples=1, seed=0, quality=Quality.BEST, sampler=Sampler.AUTO, guidance=2.0
    )
    assert settings(chosen, replace(manifest, labels=())).guidance is None
    assert Synthesis().button(replace(model, refusal="It is damaged."), Fit(True, "")).refusal


def test_a_run_goes_from_a_press_to_its_end() -> None:
    synthesis = Synthesis()
    assert synthesis.press() is Press.START
    synthesis.started(2, ["Two labels overlap."])
    assert synthesis.sentence == "Two labels overlap. Loading the model…"
    assert (synthesis.running, synthesis.progress) == (True, None)
    # Whatever is chosen meanwhile: what runs can be stopped.
    assert synthesis.button(ChosenModel(None, refusal="No."), Fit(False, "No.")).text == "Cancel"
    synthesis.stepped(1, 3, 4)
    assert synthesis.sentence == "Volume 2 of 2, step 3 of 4"
    assert synthesis.progress == 1.75 / 2
    synthesis.ended()
    assert synthesis.sentence == "Two labels overlap."
    assert synthesis.button(MODEL, FITS).text == "Synthesize"
    synthesis.press()
    assert synthesis.sentence == ""


def test_a_second_press_cancels_once() -> None:
    synthesis = Synthesis()
    synthesis.press()
    synthesis.started(1, [])
    assert synthesis.press() is Press.CANCEL
    synthesis.stepped(0, 1, 2)
    assert synthesis.sentence == "Stopping…"
    button = synthesis.button(MODEL, FITS)
    assert (button.enabled, button.tooltip) == (False, "The current step is being stopped.")
    synthesis.ended("Cancelled.")
    assert synthesis.sentence == "Cancelled."
    assert synthesis.press() is Press.START
    synthesis.started(1, [])
    synthesis.stepped(0, 1, 2)
    assert synthesis.sentence == "Volume 1 of 1, step 1 of 2"
    assert synthesis.button(MODEL, FITS).enabled


@pytest.mark.parametrize(
    ("quality", "steps"), [(Quality.FAST, 1), (Quality.BALANCED, 2), (Quality.BEST, 5)]
)
def test_quality_is_a_multiple_of_the_steps_that_the_model_recommends(
    manifest: Manifest, quality: Quality, steps: int
) -> None:
    assert quality_tip(quality, manifest).endswith(f"this makes {steps}.")
    assert quality.steps(1) >= 1
    schedule = Component("discrete", {"steps": 4})
    few = replace(manifest, architecture=replace(manifest.architecture, schedule=schedule))
    assert quality_tip(quality, few).endswith(f"this makes {min(steps, 4)}.")


def test_no_quality_takes_more_steps_than_the_models_schedule_has() -> None:
    schedule = {"name": "discrete", "steps": 3}
    few = tiny_manifest(architecture={**TINY["architecture"], "schedule": schedule})
    assert quality_tip(Quality.BEST, few).endswith("this makes 3.")


def test_a_run_asks_for_what_was_chosen_and_leaves_open_what_was_not(manifest: Manifest) -> None:
    chosen = SimpleNamespace(
        samples=3, seed=41, quality=Quality.BEST, sampler=Sampler.AUTO, guidance=0.0
    )
    assert settings(chosen, manifest) == Settings(3, 41, 5, None, None)
    chosen.sampler, chosen.guidance = Sampler.DPMPP_2M, 1.5
    assert settings(chosen, manifest) == Settings(3, 41, 5, "dpmpp-2m", 1.5)


def test_the_choices_are_the_engines_and_each_has_a_label() -> None:
    from MedDiffusionLib.diffusion.samplers import SAMPLERS

    assert [one.value for one in Sampler] == ["", *SAMPLERS]
    assert Sampler.AUTO.label() == "As the model recommends"
    assert Sampler["HEUN"] is Sampler.AUTO  # What an older scene may name.
    assert [one.label() for one in Device][:2] == ["Automatic", "CPU"]


def test_an_error_has_the_panels_remedy_and_keeps_its_own_where_there_is_none() -> None:
    known = UserError("There is none", "give --device cpu", code="device-missing")
    assert sentence(known) == "There is none: choose Automatic or CPU under Advanced."
    assert sentence(UserError("is damaged", "copy it anew", path="x")) == (
        "x is damaged: copy it anew."
    )
    assert not [remedy for remedy in REMEDIES.values() if "--" in remedy]


def refusals(results: Results, has_image: bool = True) -> dict[str, str]:
    return {name: one.refusal for name, one in results.controls(has_image).items()}


def test_without_volumes_every_control_of_the_results_says_so() -> None:
    assert set(refusals(Results(0)).values()) == {"There are no synthetic volumes yet."}


def test_where_none_is_chosen_one_can_only_go_to_the_first() -> None:
    refused = refusals(Results(2))
    assert refused.pop("nextButton") == refused.pop("saveAllButton") == ""
    assert set(refused.values()) == {"Choose a volume in the list."}
    assert Results(2).step(1) == 0


def test_stepping_ends_at_both_ends() -> None:
    first, last = Results(2, 0), Results(2, 1)
    assert refusals(first)["previousButton"] == "This is the first volume."
    assert refusals(last)["nextButton"] == "This is the last volume."
    assert (first.step(-1), first.step(1), last.step(-1), last.step(1)) == (None, 1, 0, None)


def test_a_label_map_that_was_drawn_on_no_image_has_nothing_to_show_beside() -> None:
    refused = refusals(Results(1, 0), has_image=False)
    assert refused["sideBySideCheck"] == "The label map of this volume was not drawn on an image."
    assert refusals(Results(1, 0))["sideBySideCheck"] == ""


@pytest.mark.parametrize(
    ("count", "rows", "then"),
    [(3, [1], 1), (3, [2], 1), (1, [0], None), (5, [1, 3], 1), (4, [2, 3], 1), (2, [0, 1], None)],
)
def test_after_a_deletion_the_next_is_chosen_or_the_last(
    count: int, rows: list[int], then: int | None
) -> None:
    assert Results(count, rows[0]).after_deletion(rows) == then


def test_the_facts_of_a_volume_are_what_made_it() -> None:
    attributes = {"MedDiffusion.seed": "7", "MedDiffusion.model": "tiny", "Other.seed": "8"}
    assert facts(attributes, "MedDiffusion.") == "model: tiny\nseed: 7"


def test_saving_ends_with_a_sentence() -> None:
    assert saved("/a/mine.nrrd", True) == "Saved mine.nrrd."
    assert saved("/a/mine.nrrd", False).startswith("/a/mine.nrrd cannot be written")
