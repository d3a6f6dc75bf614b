"""The sections Synthesize and Results decide: names, files, what is there already, how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from MedDiffusionLib.bundles.manifest import Manifest, read_manifest
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.widget.presenters.again import Source, what_remains
from MedDiffusionLib.widget.presenters.pace import Pace, about
from MedDiffusionLib.widget.presenters.results import (
    Results,
    all_saved,
    file_name,
    free_path,
    name_problem,
    renamed,
    row_text,
)


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


# ---- Names


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("", "before"),
        ("  \n ", "before"),
        ("mine", "mine synthetic"),
        (" Synthetic  left\x1b ", "Synthetic left"),
    ],
)
def test_a_renamed_volume_still_says_that_it_is_synthetic(typed: str, name: str) -> None:
    assert renamed(typed, "before") == name


@pytest.mark.parametrize(
    ("node", "file"),
    [
        ("tiny labels synthetic T1w 0", "tiny labels synthetic T1w 0.nrrd"),
        ("../../etc/passwd", "_.._etc_passwd synthetic.nrrd"),
        ("a:b*c?<d>|", "a_b_c_d_ synthetic.nrrd"),
        ("Schädel links", "Schädel links synthetic.nrrd"),
        ("", "synthetic.nrrd"),
    ],
)
def test_a_suggested_file_name_is_safe_and_says_synthetic(node: str, file: str) -> None:
    assert file_name(node) == file


def test_a_name_that_windows_keeps_for_itself_or_that_is_too_long_is_changed() -> None:
    assert file_name("con.synthetic").startswith("_con")
    long = file_name("x" * 300)
    assert len(long) < 140
    assert "synthetic" in long


def test_no_file_and_no_other_volume_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").touch()
    (tmp_path / "a (2).nrrd").symlink_to(tmp_path / "nowhere")
    third = free_path(tmp_path, "a.nrrd", [])
    assert third.name == "a (3).nrrd"
    assert free_path(tmp_path, "A.nrrd", [third, tmp_path / "a.NRRD"]).name == "A (2).nrrd"
    assert free_path(tmp_path, "b.nrrd", []).name == "b.nrrd"


@pytest.mark.parametrize("name", ["mine", "mine.v2", "mine.png", ".nrrd", "mine.gz"])
def test_a_name_without_a_format_is_refused_before_anything_is_written(name: str) -> None:
    assert name_problem(f"/a.nrrd/{name}").startswith(f"{name} does not say which format it is")


@pytest.mark.parametrize("name", ["mine.nrrd", "mine.NII.gz", "a.b.mha"])
def test_a_name_with_a_format_will_do(name: str) -> None:
    assert name_problem(f"/a/{name}") == ""


def test_several_volumes_end_in_one_sentence() -> None:
    assert all_saved("/a", 3, 3) == "Saved 3 volumes in /a."
    assert all_saved("/a", 2, 3) == "Saved 2 of 3 volumes in /a: see to its room and permissions."


def test_a_row_says_that_its_label_map_has_changed_since() -> None:
    assert row_text("one", changed=False) == "one"
    assert row_text("one", changed=True) == "(label map changed since) one"


def test_the_buttons_say_how_many_volumes_they_are_about() -> None:
    one, three = (Results(4, 1, n).controls(has_image=True) for n in (1, 3))
    assert (one["deleteButton"].text, one["saveAllButton"].text) == ("Delete", "Save all…")
    assert (three["deleteButton"].text, three["saveAllButton"].text) == ("Delete 3", "Save 3…")


# ---- There already

SOURCE = Source("vtkMRMLSegmentationNode1", "abc", "{}")


def made(manifest: Manifest, wanted: Settings, sample: int = 1) -> dict[str, str]:
    """The attributes of a result, as the engine's recipe gives them."""
    settings = wanted.resolve(manifest)
    assert manifest.weights is not None
    return {
        "model": "tiny", "weights_sha256": manifest.weights.sha256, "seed": str(settings.seed),
        "sample": str(sample), "steps": str(settings.steps), "sampler": settings.sampler,
        "guidance": str(settings.guidance), "native": str(settings.native),
        "channel": manifest.channels[0].name, "device": "cpu", "labels": SOURCE.labels,
        "state": SOURCE.state, "overrides": SOURCE.overrides,
    }  # fmt: skip


def test_the_same_seed_settings_and_label_map_are_there_already(manifest: Manifest) -> None:
    wanted = Settings(seed=7)
    found = what_remains(wanted, manifest, SOURCE, "auto", [made(manifest, wanted)])
    assert (found.settings, found.found) == (None, (0,))
    assert found.sentence.startswith("This volume is there already")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "8"}, {"sample": "2"}, {"steps": "3"}, {"sampler": "ddpm"}, {"guidance": "1.5"},
        {"native": "True"}, {"weights_sha256": "0"}, {"state": "abd"}, {"state": ""},
        {"labels": "vtkMRMLSegmentationNode2"}, {"overrides": '{"7": "anterior"}'},
        {"device": "cuda"}, {"channel": "T2w"}, {"seed": "x"},
    ],
)  # fmt: skip
def test_whatever_differs_makes_another_volume(manifest: Manifest, change: dict[str, str]) -> None:
    wanted = Settings(seed=7)
    results = [made(manifest, wanted) | change]
    remaining = what_remains(wanted, manifest, SOURCE, "cpu", results)
    assert remaining.settings == wanted


def test_a_label_map_of_unknown_state_is_never_there_already(manifest: Manifest) -> None:
    unknown = replace(SOURCE, state="")
    results = [made(manifest, Settings()) | {"state": ""}]
    assert what_remains(Settings(), manifest, unknown, "auto", results).settings == Settings()


def test_of_several_volumes_only_those_that_lack_are_made(manifest: Manifest) -> None:
    wanted = Settings(samples=4, seed=10)
    # In whichever run: sample 3 of seed 8, and sample 1 of seed 13.
    results = [made(manifest, Settings(seed=8), 3), made(manifest, Settings(seed=13))]
    remaining = what_remains(wanted, manifest, SOURCE, "auto", results)
    assert remaining.settings == Settings(samples=2, seed=11)
    assert remaining.found == (0, 1)


# ---- How long


class Notes(dict[str, float]):
    """The store as a dictionary."""

    def read(self, name: str) -> float | None:
        return self.get(name)

    def write(self, name: str, value: float) -> None:
        self[name] = value


def run(
    pace: Pace, clock: list[float], manifest: Manifest, seconds: float, guidance: float = 1.0
) -> None:
    """A run of two samples whose steps take so long, with a second of other work between them."""
    resolved = replace(Settings(2, steps=4).resolve(manifest), guidance=guidance)
    pace.started("tiny", "cpu", resolved)
    for sample in range(2):
        clock[0] += 1
        for step in range(1, 5):
            clock[0] += seconds
            pace.stepped(sample, step)
    pace.ended()


def test_before_the_first_run_nothing_is_said_and_then_its_own_time(manifest: Manifest) -> None:
    clock, notes = [0.0], Notes()
    pace = Pace(notes, lambda: clock[0])
    wanted = Settings(3, steps=10).resolve(manifest)
    assert about(pace.seconds("tiny", "cpu", wanted)) == ""
    run(pace, clock, manifest, 0.5)
    assert pace.seconds("tiny", "cpu", wanted) == pytest.approx(3 * 10 * 0.5)
    assert pace.seconds("tiny", "cuda", wanted) is None
    assert pace.seconds("tiny", "cpu", replace(wanted, guidance=2.0)) == pytest.approx(2 * 15)
    run(pace, clock, manifest, 1.5)  # A busier machine: half of what is new, half of what was.
    assert pace.seconds("tiny", "cpu", wanted) == pytest.approx(3 * 10 * 1.0)


def test_a_run_with_guidance_counts_two_evaluations_a_step(manifest: Manifest) -> None:
    clock, notes = [0.0], Notes()
    pace = Pace(notes, lambda: clock[0])
    run(pace, clock, manifest, 0.5, guidance=1.5)
    assert list(notes.values()) == [pytest.approx(0.25)]


def test_a_run_that_ends_before_its_second_step_measures_nothing(manifest: Manifest) -> None:
    notes = Notes()
    pace = Pace(notes, lambda: 0.0)
    pace.started("tiny", "cpu", Settings().resolve(manifest))
    pace.stepped(0, 1)
    pace.ended()
    assert notes == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_nonsense_in_the_settings_is_no_estimate_and_does_not_stay(
    manifest: Manifest, value: float
) -> None:
    clock, notes = [0.0], Notes({"tiny/cpu": value})
    pace = Pace(notes, lambda: clock[0])
    assert pace.seconds("tiny", "cpu", Settings().resolve(manifest)) is None
    run(pace, clock, manifest, 0.5)
    assert notes["tiny/cpu"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.4, "under a second"),
        (3.4, "about 3 s"),
        (43, "about 45 s"),
        (240, "about 4 min"),
        (7 * 3600, "about 7 h"),
    ],
)
def test_a_time_promises_no_more_than_it_can_hold(seconds: float | None, words: str) -> None:
    assert about(seconds) == words
