"""What an evaluation refuses, or says of the cases: one sentence each."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import make_bundle
from evaluation_factory import make_request, run, write_cases
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.manifest import Manifest, parse_manifest
from MedDiffusionLib.bundles.membership import TrainingImages, voxels_sha256
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.evaluation.cases import real_case
from MedDiffusionLib.evaluation.checking import read_gate, read_report
from MedDiffusionLib.evaluation.findings import findings_of, refuse_mixed
from MedDiffusionLib.evaluation.request import find_evaluation_data
from MedDiffusionLib.evaluation.results import Results
from MedDiffusionLib.synthesis.synthesizer import Synthesizer, load
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.volumes.reading import read_image
from training_factory import boxes, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cases(tmp_path)


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return load(make_bundle(tmp_path_factory.mktemp("bundle") / "tiny"), "cpu")


def manifest_of(folder: Path, images: TrainingImages | None = None) -> Manifest:
    """The tiny model's, with a record of images."""
    make_request(folder)
    content = read_bundle(folder / "tiny").manifest.to_json()
    facts = {"data": "d", "cases": 1, "iterations": 1, "command": "c"}
    if images is not None:
        facts["images"] = {"salt": images.salt, "hashes": list(images.hashes)}
    return parse_manifest(json.dumps({**content, "training": facts}).encode(), folder)


def image_of(folder: Path, name: str) -> str:
    return voxels_sha256(read_image(folder / "images" / f"{name}.nii.gz").array)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": 1}, "1 case is too few for any figure: give more: at least 2 for label fidel"),
        ({"subjects": ("noise", "beauty")}, "There is no figures beauty: use label-fidelity, noi"),
        ({"segmenters": ("nnunet",)}, "There is no segmenter nnunet: use unet, dynunet"),
        ({"half": "third"}, "There is no half third: use all, first, second"),
        ({"part": "test"}, "There is no part test: use validation, train, all"),
        ({"seeds": (1, 1)}, "Seeds are needed, each once"),
        ({"seeds": (-1,)}, "seed is -1: it must lie between 0"),
        ({"steps": 0}, "steps is 0: it must lie between 1"),
    ],
)  # fmt: skip
def test_a_request_that_means_nothing_is_refused(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        run(make_request(tmp_path, **changes))
    assert said in str(caught.value)
    assert not (tmp_path / "report").exists()


def test_a_held_out_image_that_is_trained_on_under_another_name_is_refused(folder: Path) -> None:
    shutil.copy(folder / "images/case1.nii.gz", folder / "images/case7.nii.gz")
    with pytest.raises(UserError, match="case7 is to be held out and has the image of the train"):
        find_evaluation_data(make_request(folder), manifest_of(folder))


def test_a_held_out_case_that_the_model_says_it_was_trained_on_is_refused(folder: Path) -> None:
    images = TrainingImages.of([image_of(folder, "case6"), image_of(folder, "case0")])
    # Another file of the same voxels, compressed in another way.
    with pytest.raises(UserError, match="tiny was trained on case6, which is to be held out"):
        find_evaluation_data(make_request(folder), manifest_of(folder, images))
    allowed = find_evaluation_data(make_request(folder, part="train"), manifest_of(folder, images))
    assert len(allowed.held_out) == 5


def test_without_a_split_the_models_own_record_says_what_is_held_out(folder: Path) -> None:
    images = TrainingImages.of([image_of(folder, f"case{n}") for n in (0, 2, 3)])
    request = make_request(folder, split=None)
    found = find_evaluation_data(request, manifest_of(folder, images))
    assert [case.name for case in found.training] == ["case0", "case2", "case3"]
    assert len(found.held_out) == 6
    with pytest.raises(UserError, match=r"tiny has no record of the images .*give a split"):
        find_evaluation_data(request, manifest_of(folder))


def test_a_record_of_images_tells_nothing_without_them() -> None:
    images = [voxels_sha256(np.full((2, 2, 2), n, np.float32)) for n in range(3)]
    record = TrainingImages.of(images)
    assert record is not None
    assert all(record.has(image) for image in images)
    assert not record.has(voxels_sha256(np.full((2, 2, 2), 9, np.float32)))
    assert not any(part in record.hashes or part[:20] in record.hashes for part in images)
    assert TrainingImages.of([str(n) for n in range(10_001)]) is None


def test_a_model_that_began_with_anothers_weights_has_its_images_too() -> None:
    first = TrainingImages.of(["a", "b"])
    both = TrainingImages.of(["c"], first)
    assert both is not None
    assert [both.has(image) for image in "abcd"] == [True, True, True, False]


def case(folder: Path, image: np.ndarray | None, labels: np.ndarray | None) -> CaseFiles:
    paths = () if image is None else (write(folder, "i.nii.gz", image),)
    label_map = None if labels is None else write(folder, "l.nii.gz", labels)
    return CaseFiles("c", paths, label_map, "c")


NOISE = np.random.default_rng(0).normal(0, 1, boxes().shape).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "labels", "said"),
    [
        (NOISE[1:], boxes(), "lies on another grid than l.nii.gz: see whether both are of one"),
        (np.full_like(NOISE, 3), boxes(), "has the value 3 everywhere: replace it with the scan"),
        (np.where(NOISE > 1, np.nan, NOISE), boxes(), "has NaN, infinite or huge values"),
        (NOISE, 5 * boxes(), "No label of the model matches 5"),
        (NOISE, 0 * boxes(), "is empty: label at least one voxel"),
        (NOISE, None, "c has no label map"),
        (None, boxes(), "c has 0 images, and the model makes 1 contrasts (T1w)"),
    ],
)
def test_a_case_that_cannot_be_used_is_refused(
    synthesizer: Synthesizer, tmp_path: Path, image: np.ndarray, labels: np.ndarray, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        real_case(case(tmp_path, image, labels), synthesizer)
    assert said in str(caught.value)


def content(dice: list[float], **changes: object) -> dict:
    """Results of cases with a real Dice each."""
    cases = [
        {"name": f"c{n}", "patient": f"c{n}", "lacks": [], "spacing": [1.0, 1.0, 1.0],
         "medians": [[0.5, -0.5]], "real": {"dice": {"unet": [d, d]}}, "synthetic": []}
        for n, d in enumerate(dice)
    ]  # fmt: skip
    return {
        "labels": ["a", "b"], "channels": ["T1w"], "grid": {"spacing": [1, 1, 1]}, "cases": cases,
        "inputs": {"segmenters": {"unet": ""}, "extractors": {}},
        "training_medians": [[[0.5, -0.4]], [[0.6, -0.5]]], **changes,
    }  # fmt: skip


def test_images_and_label_maps_of_other_patients_are_refused_or_said() -> None:
    with pytest.raises(UserError, match=r"In 2 of 6 real volumes .*\(c1, c4\): see whether"):
        refuse_mixed(Results(content([0.9, 0.1, 0.88, 0.9, 0.12, 0.87])))
    one = Results(content([0.9, 0.1, 0.88, 0.9, 0.85, 0.87]))
    refuse_mixed(one)
    assert any("In the real volume of c1 segmenters do not find" in s for s in findings_of(one))


def test_what_is_odd_about_a_case_is_said() -> None:
    results = content([0.9, 0.9, 0.9, 0.9])
    (alone,) = findings_of(Results(results))
    assert "Only unet judged" in alone
    odd = copy.deepcopy(results)
    odd["cases"][0]["lacks"] = ["b"]
    odd["cases"][1]["spacing"] = [1.0, 1.0, 4.0]
    odd["cases"][2]["medians"] = [[-0.7, 0.4]]
    said = findings_of(Results(odd))
    assert len(said) == 4
    assert any("c0 lacks b" in sentence for sentence in said)
    assert any("c1 has voxels of up to 4 mm, coarser than the model's 1" in s for s in said)
    assert any("c2 looks like another contrast" in sentence for sentence in said)


def test_a_case_that_cannot_be_used_is_said_before_anything_is_trained(folder: Path) -> None:
    write(folder / "images", "case8.nii.gz", np.full_like(NOISE, 3))
    with pytest.raises(UserError, match=r"case8.nii.gz has the value 3 everywhere"):
        run(make_request(folder))
    assert not (folder / "segmenters").exists()


def test_a_folder_of_others_is_not_written_to(folder: Path) -> None:
    (folder / "report").mkdir()
    (folder / "report" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is no evaluation"):
        run(make_request(folder))
    assert [path.name for path in (folder / "report").iterdir()] == ["thesis.txt"]


def test_weights_of_a_wrong_kind_are_refused_before_anything_is_made(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read as a safetensors file"):
        run(make_request(folder, weights=(folder / "weights.safetensors",)))
    assert not (folder / "report").exists()


def test_without_a_folder_for_its_report_there_is_no_evaluation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate"]) == 1
    assert "An evaluation needs a folder for its report: give one with -o." in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ["", "[]", '{"meddiffusion_evaluation": 1}', "{1", "nonsense"])
def test_what_is_no_report_cannot_be_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match="is no report of an evaluation"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {}}', '{"a": {"least": "x"}}', '{"a": {"above": 1}}']
)
def test_what_is_no_file_of_bounds_gates_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "gate.json").write_text(text)
    with pytest.raises(UserError, match="is no file of bounds"):
        read_gate(tmp_path / "gate.json")
