"""An audit of tiny models by tiny scans: one that has learned its cases by heart, and one that has
learned nothing; stopped and taken up again; and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from audit_factory import scan, write_model, write_scans
from conftest import make_bundle
from data_factory import write_nifti
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.bundles.membership import TrainingImages, voxels_sha256
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.evaluation.audit import audit as audit_steps
from MedDiffusionLib.evaluation.audit.measures import outside_similarity
from MedDiffusionLib.evaluation.audit.request import AuditRequest, find_audited, sample_plan
from MedDiffusionLib.evaluation.audit.results import read_report
from MedDiffusionLib.evaluation.audit.running import Audited, run_audit
from MedDiffusionLib.evaluation.audit.work import FOLDER_NAME
from MedDiffusionLib.evaluation.cases import real_case
from MedDiffusionLib.evaluation.features.contrastive import EncoderSettings
from MedDiffusionLib.synthesis.synthesizer import load
from MedDiffusionLib.training.data.cases import find_data
from MedDiffusionLib.volumes.reading import read_image

TRAINED, HELD_OUT = 10, 30
ENCODER = EncoderSettings(steps=4, batch=16, channels=(8,), parts=5, size=32)
STEPS = 160
STOPPED_AT = 7


@dataclass(frozen=True)
class Runs:
    """A run that was stopped among its samples, and taken up again."""

    folder: Path
    model: Path
    kept: dict[str, int]
    """The files of the stopped run, with the times at which they were written."""
    kept_later: dict[str, int]
    """The same files just before the end of the second."""
    audited: Audited


def request(folder: Path, model: Path, **changes: object) -> AuditRequest:
    asked = AuditRequest(
        str(model), folder / "report", data=folder / "data", samples=20, device="cpu",
        encoder=ENCODER,
    )  # fmt: skip
    return replace(asked, **changes)  # type: ignore[arg-type]


def files_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans in ``data``."""
    made = tmp_path_factory.mktemp("audit")
    write_scans(made / "data", TRAINED, HELD_OUT)
    return made


@pytest.fixture(scope="module")
def untrained(folder: Path) -> Path:
    return write_model(folder / "untrained", [], 0)


@pytest.fixture(scope="module")
def runs(folder: Path, untrained: Path) -> Iterator[Runs]:
    synthesizer = load(untrained, "cpu")
    files = find_data(folder / "data", None, None).cases[:TRAINED]
    model = write_model(folder / "model", [real_case(f, synthesizer) for f in files], STEPS)
    varied = folder / "varied"
    varied.mkdir()
    for n in range(3):
        write_nifti(varied / f"scan_{n:03}_1.nii", scan(500 + n)[1], np.eye(4))
    asked = request(folder, model, reidentify=True, varied=varied)
    work = asked.output / FOLDER_NAME
    seen: dict[str, int] = {}

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("samples", STOPPED_AT):
            raise Cancelled

    def look(what: str, done: int, total: int) -> None:
        seen.update(files_in(work) if what == "varied samples" else {})

    with pytest.raises(Cancelled):
        run_audit(asked, on_progress=stop)
    kept = files_in(work)
    audited = run_audit(asked, on_progress=look)
    yield Runs(asked.output, model, kept, {name: seen[name] for name in kept}, audited)


def test_a_model_that_was_overfitted_on_ten_cases_is_flagged_and_fails(runs: Runs) -> None:
    content = json.loads((runs.folder / "audit.json").read_text("utf-8"))
    training = {case["name"] for case in content["cases"] if case["part"] == "training"}
    flagged = [s["is_copy"] for s in content["samples"] if s["case"] in training]
    assert len(flagged) == TRAINED
    assert np.mean(flagged) >= 0.8
    assert runs.audited.verdict == content["verdict"] == "failed"


def test_an_untrained_model_is_not_flagged(
    folder: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_steps, "PLANTED", 2)
    asked = request(folder, untrained, samples=40, reidentify=True, vary=0.5)
    audited = run_audit(replace(asked, output=folder / "untrained-report"))
    content = json.loads((folder / "untrained-report" / "audit.json").read_text("utf-8"))
    assert np.mean([sample["is_copy"] for sample in content["samples"]]) <= 0.08
    varied = content["reidentification"]["varied label maps"]["label Dice"]
    assert varied["volumes"] == 30
    assert varied["area"]["estimate"] <= 1
    # Two planted copies prove no detector.
    assert audited.verdict == "inconclusive"
    assert any("found" in sentence and "of 2" in sentence for sentence in audited.sentences)


def test_a_stopped_audit_keeps_what_was_finished_and_goes_on_there(runs: Runs) -> None:
    samples = [name for name in runs.kept if "-sample-" in name]
    assert len(samples) == STOPPED_AT
    assert runs.kept == runs.kept_later


def test_nothing_but_the_report_is_left(runs: Runs) -> None:
    assert sorted(path.name for path in runs.folder.iterdir()) == ["audit.json", "report.html"]


def test_the_page_needs_nothing_from_elsewhere_and_shows_the_nearest_pairs(runs: Runs) -> None:
    page = (runs.folder / "report.html").read_text("utf-8")
    assert page.count("<img") == 2 * 12
    assert page.count('src="data:image/png;base64,') == page.count("src=")
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "Failed" in page


def test_the_json_has_hashes_and_seeds_and_its_verdict_is_remade_from_its_numbers(
    runs: Runs, tmp_path: Path
) -> None:
    path = runs.folder / "audit.json"
    content = read_report(path)
    weights = read_manifest(runs.model).weights
    assert weights is not None
    assert content["model"]["weights_sha256"] == weights.sha256
    assert len(content["data_sha256"]) == len(content["encoder"]["sha256"]) == 64
    assert len({sample["voxels_sha256"] for sample in content["samples"]}) == 20
    content["verdict"] = "passed"
    (tmp_path / "audit.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="figures that its numbers do not give"):
        read_report(tmp_path / "audit.json")


def test_own_label_maps_tell_whose_they_are_and_varied_ones_less(runs: Runs) -> None:
    content = json.loads((runs.folder / "audit.json").read_text("utf-8"))
    own, varied = (content["reidentification"][f"{kind} label maps"] for kind in ("own", "varied"))
    for way in ("label Dice", "shape"):
        assert own[way]["rank_1"]["estimate"] == 1
        assert own[way]["area"]["estimate"] == 1
        assert varied[way]["rank_1"]["estimate"] < 1
    assert own["image"]["volumes"] == 20
    assert varied["image"]["volumes"] == 3
    assert own["image"]["by_chance"] == pytest.approx(1 / (TRAINED + HELD_OUT))


def test_the_verdict_is_written_onto_the_card_from_the_report(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["audit", "--model", str(runs.model), "-o", str(runs.folder), "--write-card"]
    assert main(asked) == 1  # It failed.
    assert main(["info", str(runs.model)]) == 0
    assert "audit failed on" in capsys.readouterr().out


def test_a_report_that_is_there_is_kept(runs: Runs, folder: Path) -> None:
    before = (runs.folder / "audit.json").read_bytes()
    with pytest.raises(UserError, match="exists"):
        run_audit(request(folder, runs.model))
    assert (runs.folder / "audit.json").read_bytes() == before


def test_half_of_the_samples_are_from_held_out_label_maps_and_fewer_are_the_first_of_more(
    folder: Path, untrained: Path
) -> None:
    cases = find_audited(request(folder, untrained), read_manifest(untrained))
    plan = sample_plan(cases, 100, 0)
    assert sum(cases.is_member[case] for case, _ in plan) == 50
    assert len(set(plan)) == 100
    assert sample_plan(cases, 30, 0) == plan[:30]
    assert cases.is_seen.sum() == (TRAINED + HELD_OUT) // 2


def test_the_detail_of_two_volumes_is_compared_outside_the_labels_alone() -> None:
    random = np.random.default_rng(0)
    one = random.standard_normal((1, 24, 24, 24)).astype(np.float32)
    other = random.standard_normal(one.shape).astype(np.float32)
    labels = np.zeros(one.shape[1:], np.uint8)
    labels[9:15, 9:15, 9:15] = 1
    everywhere = np.ones(labels.shape, bool)
    same_inside = np.where(labels[None] > 0, one, other)
    same_outside = np.where(labels[None] > 0, other, one)
    assert outside_similarity(one, one, labels, everywhere) == pytest.approx(1)
    assert abs(outside_similarity(one, same_inside, labels, everywhere)) < 0.05
    assert outside_similarity(one, same_outside, labels, everywhere) > 0.99
    assert np.isnan(outside_similarity(one, other, labels, labels > 0))


def split(folder: Path, train: list[int], validation: list[int]) -> Path:
    path = folder / "own-split.json"
    names = {"train": train, "validation": validation}
    content = {part: [f"scan_{n:03}" for n in numbers] for part, numbers in names.items()}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        (range(9), range(9, 40), r"9 training and 31 held-out cases.*at least 10.*38 in all"),
        (range(10), range(10, 20), r"10 training and 10 held-out.*38 in all"),
        (range(10), [], r"10 training and 0 held-out"),
        (range(20), range(19, 40), "under train and under validation"),
        (range(20), range(20, 60), "lack an image"),
    ],
)
def test_too_few_cases_and_wrong_splits_are_refused_with_how_many_are_needed(
    folder: Path, untrained: Path, tmp_path: Path, train: range, validation: range, said: str
) -> None:
    path = split(tmp_path, list(train), list(validation))
    with pytest.raises(UserError, match=said):
        run_audit(request(folder, untrained, output=tmp_path / "report", split=path))
    assert not (tmp_path / "report").exists()


def test_without_a_split_nothing_is_said(folder: Path, untrained: Path, tmp_path: Path) -> None:
    asked = request(folder, untrained, data=None, images=folder / "data" / "images",
                    labels=folder / "data" / "labels", output=tmp_path / "report")  # fmt: skip
    with pytest.raises(UserError, match=r"trained on is not known.*give a split"):
        run_audit(asked)


def recorded(folder: Path, model: Path, target: Path, numbers: range) -> Path:
    """A copy of a model that says which scans it was trained on."""
    images = [
        voxels_sha256(read_image(folder / "data" / "images" / f"scan_{n:03}.nii").array)
        for n in numbers
    ]
    record = TrainingImages.of(images)
    assert record is not None
    path = shutil.copytree(model, target) / "model.json"
    content = json.loads(path.read_text("utf-8"))
    content["training"]["images"] = {"salt": record.salt, "hashes": list(record.hashes)}
    path.write_text(json.dumps(content))
    return target


def test_a_model_that_knows_its_images_needs_no_split(
    folder: Path, untrained: Path, tmp_path: Path
) -> None:
    model = recorded(folder, untrained, tmp_path / "known", range(3, 15))
    data = shutil.copytree(folder / "data", tmp_path / "data")
    (data / "split.json").unlink()
    cases = find_audited(request(folder, model, data=data), read_manifest(model))
    trained = [
        case.name for case, member in zip(cases.files, cases.is_member, strict=True) if member
    ]
    assert trained == [f"scan_{n:03}" for n in range(3, 15)]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (range(11), "was trained on scan_010, which the split has under validation"),
        (range(9), "was not trained on scan_009, which the split has under train"),
    ],
)
def test_a_split_that_is_not_as_the_models_record_is_refused(
    folder: Path, untrained: Path, tmp_path: Path, numbers: range, said: str
) -> None:
    model = recorded(folder, untrained, tmp_path / "known", numbers)
    with pytest.raises(UserError, match=said):
        find_audited(request(folder, model), read_manifest(model))


def test_a_patient_in_both_parts_is_refused(folder: Path, untrained: Path) -> None:
    asked = request(folder, untrained, group_pattern=r"scan_\d*(\d)")
    with pytest.raises(UserError, match="patient in both parts"):
        find_audited(asked, read_manifest(untrained))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("scan_001", "the same case"),
        (np.full((16, 16, 16), 7, np.float32), "has the value 7 everywhere"),
        (np.full((16, 16, 16), np.nan, np.float32), "NaN"),
        (np.ones((9, 9, 9), np.float32), "lies on another grid"),
    ],
)
def test_cases_that_cannot_be_used_are_refused_and_nothing_is_left(
    folder: Path, untrained: Path, tmp_path: Path, image: str | np.ndarray, said: str
) -> None:
    data = shutil.copytree(folder / "data", tmp_path / "data")
    if isinstance(image, str):
        # A held-out case with a training case's image, written anew, and its label map.
        for part in ("images", "labels"):
            shutil.copy(data / part / f"{image}.nii", data / part / "scan_030.nii")
    else:
        write_nifti(data / "images" / "scan_000.nii", image, np.eye(4))
    with pytest.raises(UserError, match=said):
        run_audit(request(folder, untrained, data=data, output=tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_a_model_of_other_contrasts_is_refused(folder: Path, tmp_path: Path) -> None:
    channels = [{"name": n, "units": "arbitrary", "range": [0, 1]} for n in ("T1w", "T2w")]
    model = make_bundle(tmp_path / "two", channels=channels)
    with pytest.raises(UserError, match="has 1 images, and the model makes 2 contrasts"):
        run_audit(request(folder, model, output=tmp_path / "report"))


def test_a_model_without_labels_is_refused(folder: Path, tmp_path: Path) -> None:
    model = make_bundle(tmp_path / "none", labels=[])
    with pytest.raises(UserError, match="knows no labels"):
        run_audit(request(folder, model, output=tmp_path / "report"))


@pytest.mark.parametrize("samples", [0, 19, 10**9])
def test_too_few_or_too_many_samples_are_refused(
    folder: Path, untrained: Path, samples: int
) -> None:
    with pytest.raises(UserError, match="samples are asked for"):
        run_audit(request(folder, untrained, samples=samples, output=folder / "none"))
