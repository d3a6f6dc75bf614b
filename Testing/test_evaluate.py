"""The evaluation of a model: what is measured, what follows from it, and what is kept."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import MedDiffusionLib.evaluation.measuring as measuring
from conftest import make_bundle
from evaluation_factory import HELD_OUT, make_request, run, write_cases
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.manifest import parse_manifest
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import Cancelled
from MedDiffusionLib.evaluation.cases import Pair, half_of, noise_seed, real_case, synthetic
from MedDiffusionLib.evaluation.checking import beyond, differences
from MedDiffusionLib.evaluation.evaluate import Evaluation
from MedDiffusionLib.evaluation.figure import (
    AS_REAL,
    DIFFERS,
    INCONCLUSIVE,
    TOO_EASY,
    Figure,
    at_most,
)
from MedDiffusionLib.evaluation.figures.intervals import Interval
from MedDiffusionLib.evaluation.report.pictures import chosen_cases
from MedDiffusionLib.evaluation.results import Results
from MedDiffusionLib.evaluation.subjects.label_fidelity import verdict
from MedDiffusionLib.evaluation.summary import summarize
from MedDiffusionLib.synthesis.synthesizer import load
from MedDiffusionLib.training.data.cases import CaseFiles, find_data
from MedDiffusionLib.volumes.reading import read_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Evaluation:
    return run(make_request(folder))


def figure(figures: Any, name: str) -> Figure:
    (found,) = (each for each in figures if each.name == name)
    return found


def test_a_real_case_lies_on_the_models_grid_and_range_with_its_labels_and_what_was_scanned(
    folder: Path,
) -> None:
    make_request(folder)
    synthesizer = load(folder / "tiny", "cpu")
    files = find_data(None, folder / "images", folder / "labels").cases[0]
    pair = real_case(files, synthesizer)
    image, labels = read_image(files.images[0]), read_image(files.labels or Path())
    assert pair.grid.size == (16, 16, 16)
    assert pair.source is not None
    assert pair.grid.equals(synthesizer.grid(pair.source))
    low, high = np.percentile(image.array, [0.5, 99.5])
    for index in ((8, 8, 8), (5, 9, 6)):
        position = pair.grid.positions(np.array([index]))
        own = np.linalg.inv(image.affine) @ np.append(position, 1)
        voxel = tuple(np.rint(own[:3]).astype(int))
        assert pair.labels[index] == labels.array[voxel]
        expected = 2 * (image.array[voxel] - low) / (high - low) - 1
        assert pair.real[(0, *index)] == pytest.approx(np.clip(expected, -1, 1), abs=1e-5)
    # The scan has 14 voxels upwards, the field of view 16.
    assert pair.valid.any((0, 1)).sum() == 14


def test_cases_do_not_share_their_noise_and_seeds_do_not_either() -> None:
    seeds = {noise_seed(name, seed) for name in ("a", "b") for seed in (0, 1)}
    assert len(seeds) == 4
    assert noise_seed("a", 0) == noise_seed("a", 0)


def test_halves_divide_patients_whatever_the_order() -> None:
    cases = [CaseFiles(f"c{n}", (), None, f"p{n // 2}") for n in range(14)]
    first, second = half_of(cases, "first"), half_of(cases, "second")
    assert sorted([*first, *second], key=lambda case: int(case.name[1:])) == cases
    assert not {case.group for case in first} & {case.group for case in second}
    assert {len(first), len(second)} == {8, 6}
    assert set(half_of(cases[::-1], "first")) == set(first)


def test_every_subject_has_figures_or_says_how_many_cases_it_needs(evaluated: Evaluation) -> None:
    names = {figure.name for figure in evaluated.figures}
    assert {
        "label-fidelity/unet/all labels", "label-fidelity/unet/anterior/difference", "noise/T1w",
        "intensities/T1w/posterior", "distribution/segmenter:unet/kernel distance",
        "diversity/MS-SSIM", "geometry/share",
    } <= names  # fmt: skip
    assert evaluated.missing == (
        "Precision, recall, density and coverage: at least 12 patients are needed, and there are "
        f"{HELD_OUT}.",
    )
    assert figure(evaluated.figures, "geometry/share").value.estimate == 1
    for each in evaluated.figures:
        assert math.isfinite(each.value.estimate)
        assert each.value.low <= each.value.high


def test_judges_that_find_nothing_in_real_volumes_are_called_none(evaluated: Evaluation) -> None:
    assert any("it is no judge" in sentence for sentence in evaluated.findings)


def test_the_page_needs_nothing_from_elsewhere_and_shows_pictures(evaluated: Evaluation) -> None:
    page = (evaluated.folder / "report.html").read_text("utf-8")
    assert len(page) < 15e6
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 6
    assert "label-fidelity" in page or "Label fidelity" in page
    assert (evaluated.folder / "pictures" / "worst-synthetic.png").is_file()
    assert "not to be passed on" in (evaluated.folder / "PRIVATE.txt").read_text("utf-8")


def test_a_card_has_figures_with_the_command_that_makes_them(
    evaluated: Evaluation, folder: Path
) -> None:
    figures = json.loads((evaluated.folder / "card.json").read_text("utf-8"))
    content = {**read_bundle(folder / "tiny").manifest.to_json(), "figures": figures}
    content["training"] = {"data": "d", "cases": 1, "iterations": 1, "command": "c"}
    read = parse_manifest(json.dumps(content).encode(), folder).figures
    assert len(read) == len(figures) > 3
    assert {each.command for each in read} == {
        "meddiffusion evaluate --model tiny --images images --labels labels --split split.json "
        "--seeds 0 --segmenter-iterations 2 -o report"
    }
    noise = figure(evaluated.figures, "noise/T1w").value
    assert any(f"{noise.estimate:.3f} [{noise.low:.3f}" in each.value for each in read)


def test_nothing_of_patients_is_left_among_the_segmenters(
    evaluated: Evaluation, folder: Path
) -> None:
    assert not (folder / "segmenters" / "cases").exists()
    assert list((folder / "segmenters").glob("unet-*/weights.safetensors"))


def test_what_is_finished_is_not_made_again_and_gives_the_same_json(
    evaluated: Evaluation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        pytest.fail("it is made again")

    monkeypatch.setattr(measuring, "synthetic", refuse)
    before = (folder / "report" / "report.json").read_bytes()
    assert run(make_request(folder)).content == evaluated.content
    assert (folder / "report" / "report.json").read_bytes() == before


def test_interrupted_it_goes_on_and_gives_the_same_json(
    evaluated: Evaluation, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(folder, output=tmp_path / "cut", segmenter_folder=folder / "segmenters")
    made: list[str] = []

    def interrupted(synthesizer: Any, pair: Pair, *more: Any) -> Any:
        if len(made) == 2:
            raise Cancelled
        made.append(pair.name)
        return synthetic(synthesizer, pair, *more)

    monkeypatch.setattr(measuring, "synthetic", interrupted)
    with pytest.raises(Cancelled):
        run(request)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "report.json").exists()
    assert len(list((tmp_path / "cut" / "cases").glob("*.npz"))) == 2
    assert run(request).content == evaluated.content


def test_other_settings_find_nothing_of_it(evaluated: Evaluation, folder: Path) -> None:
    keys = {case["key"] for case in evaluated.content["cases"]}
    request = make_request(folder, steps=1, subjects=("noise",))
    other = run(replace(request, output=folder / "other"))
    assert not keys & {case["key"] for case in other.content["cases"]}
    assert {figure.subject for figure in other.figures} == {"noise"}


def test_a_model_that_knows_no_labels_is_judged_by_what_needs_none(folder: Path) -> None:
    make_bundle(folder / "free", labels=[], label_dropout=0.0)
    request = make_request(folder, model=str(folder / "free"), labels=None)
    found = run(replace(request, output=folder / "free report"))
    subjects = {figure.subject for figure in found.figures}
    assert subjects == {"noise", "distribution", "diversity", "geometry"}
    assert figure(found.figures, "geometry/share").value.estimate == 1
    assert (folder / "free report" / "report.html").is_file()


def planted(
    evaluated: Evaluation, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> dict[str, Figure]:
    """The figures after each synthetic volume was changed, given the real one's numbers."""
    content = copy.deepcopy(evaluated.content)
    random = np.random.default_rng(0)
    for case in content["cases"]:
        dice = (0.85 + 0.02 * random.random(2)).tolist()
        case["real"]["dice"]["unet"] = dice
        for made in case["synthetic"]:
            made["dice"]["unet"] = dice
            made["noise"] = case["real"]["noise"]
            change(made, case["real"])
    found, _ = summarize(Results(content), ("label-fidelity", "noise"))
    return {each.name: each for each in found}


def test_a_planted_better_or_worse_model_changes_the_verdicts(evaluated: Evaluation) -> None:
    name = "label-fidelity/unet/all labels/difference"

    def dice(by: float) -> Callable[[dict[str, Any], dict[str, Any]], None]:
        def change(made: dict[str, Any], real: dict[str, Any]) -> None:
            made["dice"] = {"unet": [value + by for value in real["dice"]["unet"]]}

        return change

    def noise(factor: float) -> Callable[[dict[str, Any], dict[str, Any]], None]:
        def change(made: dict[str, Any], real: dict[str, Any]) -> None:
            made["noise"] = [factor * value for value in real["noise"]]

        return change

    for by, said in ((0.0, AS_REAL), (-0.1, DIFFERS), (0.08, TOO_EASY)):
        found = planted(evaluated, dice(by))[name]
        assert found.verdict == said
        assert found.value.estimate == pytest.approx(by, abs=1e-6)
    for factor, said in ((1.0, AS_REAL), (0.3, DIFFERS), (4.0, DIFFERS)):
        found = planted(evaluated, noise(factor))["noise/T1w"]
        assert found.verdict == said
        assert found.value.estimate == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.015, 0.01, AS_REAL),
        (-0.05, -0.03, DIFFERS),
        (0.01, 0.09, TOO_EASY),
        (-0.05, 0.01, INCONCLUSIVE),
        (-0.01, 0.04, INCONCLUSIVE),
    ],
)
def test_a_difference_of_dice_is_judged_by_its_interval(low: float, high: float, said: str) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert verdict(interval, 0.9) == said
    assert verdict(interval, 0.3) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("low", "estimate", "high", "said"),
    [(0.2, 0.3, 0.6, AS_REAL), (0.3, 0.6, 0.9, INCONCLUSIVE), (0.6, 0.8, 0.9, DIFFERS)],
)
def test_a_distance_is_to_be_no_more_than_between_patients(
    low: float, estimate: float, high: float, said: str
) -> None:
    assert at_most(Interval(estimate, low, high), Interval(0.4, 0.2, 0.5)) == said


def test_cases_of_one_patient_count_once(evaluated: Evaluation) -> None:
    content = copy.deepcopy(evaluated.content)
    for case in content["cases"][1:]:
        case["patient"] = "twin"
    results = Results(content)
    real = results.real("dice", "unet")
    every = np.array([case["real"]["dice"]["unet"] for case in content["cases"]])
    assert np.allclose(real, [every[0], every[1:].mean(0)])


def test_best_and_worst_are_by_dice_against_the_real_volume(evaluated: Evaluation) -> None:
    content = copy.deepcopy(evaluated.content)
    for by, case in zip((0.1, -0.3, 0.2, 0.0), content["cases"], strict=True):
        real = case["real"]["dice"]["unet"]
        case["synthetic"][0]["dice"]["unet"] = [value + by for value in real]
    assert chosen_cases(Results(content)) == {"best": 2, "median": 3, "worst": 1}


def test_check_finds_a_changed_number(
    evaluated: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evaluated.folder / "report.json"
    assert main(["evaluate", "--check", str(path)]) == 0
    content = json.loads(path.read_text("utf-8"))
    content["cases"][0]["synthetic"][0]["noise"][0] *= 2
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content), "utf-8")
    capsys.readouterr()
    assert main(["evaluate", "--check", str(changed)]) == 1
    said = capsys.readouterr().err
    assert "noise/T1w: it is stated as" in said
    assert "intensities" not in said


def test_measured_anew_a_figure_may_differ_by_a_little(evaluated: Evaluation) -> None:
    stated = [figure(evaluated.figures, "noise/T1w")]
    value = stated[0].value
    close = replace(stated[0], value=replace(value, estimate=value.estimate * 1.002))
    far = replace(stated[0], value=replace(value, estimate=value.high + 1))
    assert differences(stated, [close], measured_anew=True) == []
    assert len(differences(stated, [far], measured_anew=True)) == 1
    assert differences(stated, [], measured_anew=True) == [
        "noise/T1w is stated, and does not follow."
    ]


def test_the_gate_names_each_figure_beyond_its_bound(
    evaluated: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text(
        json.dumps({"noise/T1w": {"most": 0.001}, "*/all labels/difference": {"least": 0.9},
                    "geometry/share": {"least": 1}, "no/such": {"least": 0}})
    )  # fmt: skip
    path = evaluated.folder / "report.json"
    assert main(["evaluate", "--check", str(path), "--gate", str(gate)]) == 1
    said = capsys.readouterr().err
    assert "noise/T1w is" in said
    assert "above 0.001" in said
    assert "label-fidelity/unet/all labels/difference is" in said
    assert "no/such is to be bounded, and there is no such figure" in said
    assert "geometry" not in said


def test_a_figure_that_is_not_determined_is_beyond_any_bound() -> None:
    nothing = Figure("a", "", Interval(math.nan, math.nan, math.nan))
    assert beyond({"a": {"least": -9.0}}, [nothing])
    assert beyond({"a": {"most": 9.0}}, [nothing])


def test_its_json_holds_no_nan_and_no_path(evaluated: Evaluation, folder: Path) -> None:
    text = (evaluated.folder / "report.json").read_text("utf-8")
    assert "NaN" not in text
    assert str(folder) not in text
