"""Utility: the design of an experiment, what it trains on what, its figures, and going on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import MedDiffusionLib.evaluation.utility.cell as cell_module
import MedDiffusionLib.evaluation.utility.experiment as experiment_module
from conftest import make_bundle
from evaluation_factory import write_cases
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.bundles.membership import voxels_sha256
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.evaluation.segmenters.training import fit_segmenter
from MedDiffusionLib.evaluation.utility.arms import ARMS, Shares, needs_synthetic, steps_of
from MedDiffusionLib.evaluation.utility.cell import MixedSamples
from MedDiffusionLib.evaluation.utility.design import Draw, nested
from MedDiffusionLib.evaluation.utility.experiment import Utility, findings_of, utility, work
from MedDiffusionLib.evaluation.utility.gains import (
    GAIN,
    HARM,
    NONE,
    gain,
    of_both,
    random_effects,
)
from MedDiffusionLib.evaluation.utility.preparation import prepare
from MedDiffusionLib.evaluation.utility.request import UtilityRequest
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.loop.stopping import StopWatch
from MedDiffusionLib.volumes.reading import read_image, read_label_map
from training_factory import make_plan, write

TRAINING, HELD_OUT = 4, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_cases(tmp_path_factory.mktemp("utility"), TRAINING, HELD_OUT)
    (folder / "preset.json").write_text(json.dumps(make_plan()), "utf-8")
    return folder


def make_request(folder: Path, **changes: Any) -> UtilityRequest:
    usual: dict[str, Any] = {
        "output": folder / "out", "images": folder / "images", "labels": folder / "labels",
        "split": folder / "split.json", "preset": str(folder / "preset.json"),
        "generator_iterations": 1, "volumes": 2, "sizes": (2,), "arms": ("both", "pretrained"),
        "segmenter_iterations": 2, "device": "cpu",
    }  # fmt: skip
    return UtilityRequest(**{**usual, **changes})


def run(request: UtilityRequest, **given: Any) -> Utility:
    with StopWatch() as stop:
        return utility(request, stop, **given)


def fit(network: Any, samples: Any, settings: Any, place: Path, key: str, *more: Any) -> None:
    """A training of seed 0; of the others the weights as they are, since trainings take long."""
    if "seed0" in place.parts:
        fit_segmenter(network, samples, settings, place, key, *more)
        return
    assert samples[0].images.shape == (1, 16, 16, 16)
    weights = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    (place / "weights.safetensors").write_bytes(save(weights, {"key": key}))


@pytest.fixture(scope="module")
def found(folder: Path) -> Utility:
    """An experiment that was interrupted in its fourth training, and went on."""
    trained: list[Path] = []

    def interrupted(*given: Any) -> None:
        if len(trained) == 3:
            raise Cancelled
        trained.append(given[3])
        fit(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_module, "fit_segmenter", interrupted)
        with pytest.raises(Cancelled):
            run(make_request(folder))
    assert not (folder / "out" / "utility.json").exists()

    def counted(*given: Any) -> None:
        trained.append(given[3])
        fit(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_module, "fit_segmenter", counted)
        result = run(make_request(folder))
    # Of three seeds each real, both, and two phases of pretrained; none of them twice.
    assert len(trained) == len(set(trained)) == 12
    return result


def test_all_arms_take_as_many_steps() -> None:
    for steps in (2, 7, 1000):
        for arm in ARMS.values():
            parts = steps_of(arm(Shares(pretraining=0.9)), steps)
            assert sum(parts) == steps
            assert min(parts) >= 1
    assert steps_of(ARMS["pretrained"](Shares()), 1000) == [500, 500]
    assert [arm for arm in ARMS if not needs_synthetic(arm)] == ["real"]


def test_the_cases_of_a_smaller_n_are_among_those_of_a_larger_and_patients_stay_together() -> None:
    cases = [CaseFiles(f"c{n}", (), None, f"p{n // 2}") for n in range(20)]
    order = nested(cases, 1)
    assert sorted(order, key=lambda case: int(case.name[1:])) == cases
    assert nested(cases[::-1], 1) == order != nested(cases, 2)
    assert all(one.group == other.group for one, other in zip(order[::2], order[1::2], strict=True))


def test_samples_are_mixed_by_their_share_and_each_kind_comes_in_its_own_order() -> None:
    class Numbers:
        seed = 0

        def __init__(self, sign: int) -> None:
            self.sign = sign

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> Any:
            return self.sign * (index + 1)

    mixed = MixedSamples(Numbers(1), Numbers(-1), 0.25, 0)
    drawn: list[Any] = [mixed[n] for n in range(400)]
    assert [n for n in drawn if n > 0] == list(range(1, 301))
    assert [n for n in drawn if n < 0] == list(range(-1, -101, -1))
    assert all(sum(n < 0 for n in drawn[k : k + 8]) == 2 for k in range(0, 400, 8))
    assert MixedSamples(Numbers(1), None, 0.0, 0)[5] == MixedSamples(None, Numbers(6), 1.0, 0)[0]


def test_the_variance_of_a_mean_over_seeds_and_patients_is_that_of_the_two_way_table() -> None:
    # Worked by hand: row means 2 and 6, column means 3 and 5, mean 4: MS 16, 4 and 4.
    table = np.array([[2.0, 2.0], [4.0, 8.0]])
    found = random_effects(table)
    assert found.estimate == 4
    assert found.standard_error**2 == pytest.approx((16 + 4 - 4) / 4)
    assert found.freedom == pytest.approx(1)
    # Seeds that agree: the error is that of patients alone, as of a paired t test.
    patients = np.array([0.1, 0.3, -0.1, 0.5])
    found = random_effects(np.stack([patients] * 3))
    assert found.standard_error == pytest.approx(patients.std(ddof=1) / 2)
    assert found.freedom == pytest.approx(3)


def test_what_is_planted_is_found_and_what_could_have_been_seen_is_said() -> None:
    random = np.random.default_rng(0)
    real = 0.8 + 0.02 * random.standard_normal((3, 30))
    real[:, 4] = np.nan
    noise = 0.01 * random.standard_normal((3, 30))
    for by, verdict in ((0.05, GAIN), (-0.05, HARM), (0.0, NONE)):
        one = gain(5, "both", "same", "all labels", real + by + noise, real)
        assert one is not None
        assert one.verdict == verdict
        assert one.patients.low < one.trainings.estimate < one.patients.high
        assert one.trainings.estimate == pytest.approx(by, abs=0.005)
        assert one.trainings.high - one.trainings.estimate < one.seeable < 0.05
        assert one.trainings.n == 29
        assert len(one.seeds) == 3


def test_no_effect_is_rarely_called_one_even_where_trainings_differ_most() -> None:
    random = np.random.default_rng(1)
    called, drawn = 0, 0
    for _ in range(300):
        table = random.standard_normal((3, 1)) + 0.1 * random.standard_normal((3, 20))
        bounds = random_effects(table)
        called += bounds.low > 0 or bounds.high < 0
    for _ in range(40):
        table = random.standard_normal((3, 1)) + 0.1 * random.standard_normal((3, 20))
        both = of_both(table)
        drawn += both.low > 0 or both.high < 0
    # 5 % of 300 are 15, and more than 26 come once in 300 such tests.
    assert called <= 26
    # Of three seeds, one in four have one sign.
    assert drawn >= 3


def test_each_generator_was_trained_on_its_own_cases_and_on_no_others(
    found: Utility, folder: Path
) -> None:
    drawn = {draw["seed"]: draw["names"] for draw in found.content["draws"]}
    assert all(len(names) == 2 for names in drawn.values())
    for seed, names in drawn.items():
        bundle = folder / "out" / Draw(seed, 2).folder / "generator"
        facts = read_manifest(bundle).training
        assert facts is not None
        assert facts.images is not None
        images = {
            path.name.removesuffix(".nii.gz"): voxels_sha256(read_image(path).array)
            for path in (folder / "images").iterdir()
        }
        assert {name for name, image in images.items() if facts.images.has(image)} == set(names)
        assert not (bundle / "checkpoint.safetensors").exists()


def test_volumes_are_of_the_real_cases_label_maps(found: Utility, folder: Path) -> None:
    made = sorted((folder / "out" / "seed0" / "n0002" / "volumes-same" / "labels").iterdir())
    for path, name in zip(made, found.content["draws"][0]["names"], strict=True):
        own, other = (
            read_label_map(each).label_statistics.counts
            for each in (folder / "labels" / f"{name}.nii.gz", path)
        )
        assert {1: other[1], 2: other[2]} == {1: own[1], 2: own[2]}


def test_the_report_has_each_cell_and_a_verdict_and_needs_nothing_from_elsewhere(
    found: Utility, folder: Path
) -> None:
    page = (folder / "out" / "utility.html").read_text("utf-8")
    content = json.loads((folder / "out" / "utility.json").read_text("utf-8"))
    assert content == json.loads(json.dumps(found.content))
    assert len(content["cells"]) == 9
    assert {tuple(cell["steps"]) for cell in content["cells"]} == {(2,), (1, 1)}
    assert all(set(cell["dice"]) == {"case4", "case5", "case6"} for cell in content["cells"])
    whole = [each for each in content["gains"] if each["label"] == "all labels"]
    assert [each["arm"] for each in whole] == ["both", "pretrained"]
    assert all(each["verdict"] for each in whole)
    # What two steps teach is no judge.
    assert "segmenters find the labels poorly" in " ".join(found.sentences)
    assert "<svg" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_nothing_of_patients_scans_is_left(found: Utility, folder: Path) -> None:
    assert not list((folder / "out").rglob("*.npy"))
    assert "not to be passed on" in (folder / "out" / "PRIVATE.txt").read_text("utf-8")


def test_a_damaged_cell_is_made_again_and_is_the_same_and_nothing_else_is(
    found: Utility, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []

    def counted(*given: Any) -> None:
        trained.append(given[3])
        fit(*given)

    monkeypatch.setattr(cell_module, "fit_segmenter", counted)
    cell = folder / "out" / "seed1" / "n0002" / "real"
    (cell / "result.json").write_text("{", "utf-8")
    (cell / "weights.safetensors").unlink()
    again = run(make_request(folder))
    assert trained == [cell]
    assert [each["dice"] for each in again.content["cells"]] == [
        each["dice"] for each in found.content["cells"]
    ]
    assert again.gains == found.gains


def test_an_unfinished_experiment_says_what_it_knows_so_far(
    found: Utility, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_module, "fit_segmenter", None)
    request = make_request(folder, seeds=(0, 1, 2, 3), arms=("both", "pretrained", "synthetic"))
    so_far = run(request, only_report=True)
    assert so_far.open_cells == 7
    assert "7 cells are not finished" in so_far.sentences[0]
    assert [each.trainings for each in so_far.gains] == [each.trainings for each in found.gains]


class Work:
    """A task that notes who did it."""

    words = "work"

    def __init__(self, folder: Path) -> None:
        self.draw = Draw(0, 5)
        self.folder = folder
        self.done_by: list[str] = []

    def is_done(self) -> bool:
        return bool(self.done_by)

    def is_ready(self) -> bool:
        return True

    def do(self, stop: StopWatch, on_progress: Any) -> None:
        self.done_by.append("here")


def test_what_another_process_holds_is_left_to_it_and_taken_up_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[Any] = [Work(tmp_path / name) for name in ("one", "two", "three")]
    for task in tasks:
        task.folder.mkdir()
    held = [folder_lock(task.folder) for task in tasks[:2]]
    for lock in held:
        lock.__enter__()

    def pause(stop: StopWatch) -> None:
        # The other process finishes one, and is killed in the other.
        assert tasks[2].done_by == ["here"]
        tasks[0].done_by.append("there")
        for lock in held:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(experiment_module, "pause", pause)
    work(tasks, [], StopWatch(), lambda text: None)
    assert [task.done_by for task in tasks] == [["there"], ["here"], ["here"]]


@pytest.fixture
def split(folder: Path, tmp_path: Path) -> Iterator[Any]:
    """Writes another split."""

    def write_split(**parts: list[str]) -> Path:
        content = json.loads((folder / "split.json").read_text("utf-8"))
        path = tmp_path / "split.json"
        path.write_text(json.dumps({**content, **parts}), "utf-8")
        return path

    yield write_split


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": (2, 5)}, "5 real cases are asked for, and the split has 4"),
        ({"seeds": (0, 1)}, "2 seeds are given: give 3 to 100"),
        ({"arms": ("other",)}, "There is no arm other"),
        ({"maps": ("drawn",)}, "There is no kind of label maps drawn"),
        ({"generator": "hippocampus-mr"}, "not said, or said twice"),
        ({"generator_iterations": None}, "not said, or said twice"),
        ({"split": None}, "There is no split"),
        ({"share": 1.5}, "share is 1.5"),
        ({"strength": 2.0}, "strength is 2"),
        (
            {"group_pattern": r"e(?=[04])|\d"},
            "The patient e has cases to train on and to test with",
        ),
        ({"guidance": 30.0}, "guidance is 30"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        run(make_request(folder, output=tmp_path / "out", **changes))
    assert sentence in caught.value.sentence({})
    with suppress(FileNotFoundError):
        assert not list((tmp_path / "out").glob("seed*"))


def test_held_out_cases_are_needed_and_are_not_among_those_to_train_on(
    folder: Path, tmp_path: Path, split: Any
) -> None:
    def refusal(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            run(make_request(folder, output=tmp_path / "out", **changes))
        return caught.value.sentence({})

    assert "names no cases under validation" in refusal(split=split(validation=[]))
    assert "1 patient under validation is too few" in refusal(split=split(validation=["case4"]))
    images = folder / "images"
    twin, labels = images / "twin.nii.gz", folder / "labels" / "twin.nii.gz"
    twin.write_bytes((images / "case0.nii.gz").read_bytes())
    labels.write_bytes((folder / "labels" / "case0.nii.gz").read_bytes())
    assert "twin is to test with and has the image of the training case case0" in refusal(
        split=split(validation=["case4", "twin"])
    )
    array = np.zeros((14, 20, 18), np.uint8)
    write(folder / "labels", "twin.nii.gz", array)
    assert "twin.nii.gz is empty" in refusal(split=split(validation=["case4", "twin"]))
    for path in (twin, labels):
        path.unlink()


def test_changed_settings_and_data_and_folders_of_others_are_refused(
    found: Utility, folder: Path, tmp_path: Path
) -> None:
    def refusal(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            run(make_request(folder, **changes))
        return caught.value.sentence({})

    assert "volumes was 2 and is now 3" in refusal(volumes=3)
    path = folder / "images" / "case4.nii.gz"
    content = path.read_bytes()
    image = read_image(path)
    write(folder / "images", "case4.nii.gz", image.array.T + 1)
    said = refusal()
    path.write_bytes(content)
    assert "the files of 1 held-out cases changed, the first is case4" in said
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    assert "holds something that is no such experiment" in refusal(output=tmp_path)
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"


def test_a_given_generator_must_have_the_labels_and_what_it_saw_is_said(
    folder: Path, tmp_path: Path
) -> None:
    other = make_bundle(
        tmp_path / "other", labels=[{"value": 1, "name": "x", "color": [1, 2, 3], "code": ""}]
    )
    tiny = make_bundle(tmp_path / "tiny")
    torch.manual_seed(0)

    def given(bundle: Path, **changes: Any) -> UtilityRequest:
        return make_request(
            folder, generator=str(bundle), preset=None, generator_iterations=None,
            output=tmp_path / bundle.name / "out", **changes,
        )  # fmt: skip

    channel = {"name": "T1w", "units": "arbitrary", "range": [0, 1000]}
    double = make_bundle(tmp_path / "two", channels=[channel, {**channel, "name": "T2w"}])
    with pytest.raises(UserError, match="makes the labels 1 x, and case0 has 2"):
        run(given(other))
    with pytest.raises(UserError, match="and case0 has 1 images"):
        run(given(double))
    with pytest.raises(UserError, match="tiny draws no label maps"):
        run(given(tiny, maps=("random",)))
    with StopWatch() as stop:
        prepared = prepare(given(tiny), stop, lambda text: None)
    (said,) = findings_of(prepared)
    assert "tiny has no record of the images that it was trained on" in said
