"""The check of a study finds leaks that are planted one at a time, and none where there is none."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedDiffusionLib.statistics.area import area
from MedDiffusionLib.studies.check import Check, check_study
from MedDiffusionLib.studies.cues import CUES
from MedDiffusionLib.studies.key import ARMS, Key, Truth, read_key
from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.request import StudyRequest
from MedDiffusionLib.studies.study import read_study

Plant = Callable[[Path, bool], None]
"""Changes a case's file, of which it is told whether it is real."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 9 and 9 volumes that differ in nothing."""
    folder = tmp_path_factory.mktemp("blind")
    for arm in ARMS:
        (folder / arm).mkdir()
        for n in range(9):
            draw = np.random.default_rng((len(arm), n))
            noise = sitk.GetImageFromArray(draw.normal(size=(18, 18, 18)))
            sitk.WriteImage(sitk.DiscreteGaussian(noise, 1.0), folder / arm / f"{n}.nrrd")
    request = StudyRequest(folder / "study", folder / ARMS[0], folder / ARMS[1], training=0)
    make_study(request, nonce="0" * 64)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(made / "study", tmp_path / "study"))
    shutil.copy(made / "study.key.json", tmp_path / "KEY")
    return copy


def planted(folder: Path, plant: Plant) -> Check:
    """What is found once each case's file was changed, and the study says it was always so."""
    study = read_study(folder)
    key = read_key(folder.with_name("KEY"), study)
    for case in study.cases:
        plant(case.files[0], key.arm(case.id) == "real")
    for case in study.cases:
        # In the order of the cases, as when they were written.
        case.files[0].chmod(case.files[0].stat().st_mode)
    content = json.loads((folder / "study.json").read_text("utf-8"))
    for entry in content["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / "study.json").write_text(json.dumps(content), "utf-8")
    return check_study(read_study(folder), key)


def leaks(found: Check) -> list[str]:
    return [finding.fact for finding in found.findings if not finding.is_blind]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a file's voxels, and nothing else of it."""
    header, data = path.read_bytes().split(b"\n\n", 1)
    array = np.frombuffer(data, "<i2").reshape(sitk.ReadImage(path).GetSize(), order="F")
    status = path.stat()
    changed = np.asarray(change(array.copy()), "<i2")
    path.write_bytes(header + b"\n\n" + changed.tobytes(order="F"))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def test_nothing_is_found_in_a_study_that_is_blind(folder: Path) -> None:
    found = planted(folder, lambda path, is_real: None)
    assert leaks(found) == []
    assert "Nothing but voxels tells the arms apart" in found.describe()


def in_header(path: Path, is_real: bool) -> None:
    status = path.stat()
    text = path.read_bytes()
    field = b'space units: "mm" "mm" "mm"' if is_real else b'space units: "MM" "MM" "MM"'
    path.write_bytes(text.replace(b"\n\n", b"\n" + field + b"\n\n", 1))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def in_key_value(path: Path, is_real: bool) -> None:
    status = path.stat()
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n\n", b"\nmodel:=" + (b"real" if is_real else b"made")
                                  + b"\n\n", 1))  # fmt: skip
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def in_size(path: Path, is_real: bool) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"\0" * (5 if is_real else 9))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def in_date(path: Path, is_real: bool) -> None:
    os.utime(path, (1_000_000_000 + is_real, 1_000_000_000 + is_real))


def in_permissions(path: Path, is_real: bool) -> None:
    path.chmod(0o600 if is_real else 0o644)


def in_attributes(path: Path, is_real: bool) -> None:
    try:
        os.setxattr(path, "user.arm", b"real" if is_real else b"made")
    except (AttributeError, OSError):
        pytest.skip("this file system has no attributes")


@pytest.mark.parametrize(
    ("plant", "fact"),
    [
        (in_header, "header"),
        (in_key_value, "header"),
        (in_size, "size"),
        (in_date, "date"),
        (in_permissions, "permissions"),
        (in_attributes, "attributes"),
    ],
)
def test_a_leak_in_the_files_is_found(folder: Path, plant: Plant, fact: str) -> None:
    found = planted(folder, plant)
    assert leaks(found) == [fact]
    assert "The study is not blind" in found.describe()


@pytest.mark.parametrize("plant", [in_header, in_size, in_date, in_permissions])
def test_a_leak_in_the_files_is_found_without_the_key(folder: Path, plant: Plant) -> None:
    planted(folder, plant)
    assert not check_study(read_study(folder), None).is_blind


def test_a_leak_in_the_names_is_found(folder: Path) -> None:
    study = read_study(folder)
    key = read_key(folder.with_name("KEY"), study)
    text = (folder / "study.json").read_text("utf-8")
    for case in study.cases:
        if key.arm(case.id) == "real":
            longer = case.id.replace("-", "-0")
            case.files[0].rename(folder / "cases" / f"{longer}.nrrd")
            text = text.replace(f"{case.id}.nrrd", f"{longer}.nrrd")
    (folder / "study.json").write_text(text, "utf-8")
    assert "name" in leaks(check_study(read_study(folder), key))


@pytest.mark.parametrize("name", ["cases/real-1.nrrd", "key.json", "cases/.origin", "x/y.txt"])
def test_a_file_that_should_not_be_there_is_found(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("case-001 is real")
    found = check_study(read_study(folder), None)
    assert leaks(found) == ["other files in the folder"]
    assert name.split("/")[0] in found.findings[0].said


def test_a_leak_in_the_order_is_found(folder: Path) -> None:
    study = read_study(folder)
    truths = {case.id: (Truth(ARMS[n >= 9], "", ""),) for n, case in enumerate(study.cases)}
    found = check_study(study, Key(study.id, truths))
    assert "order of the cases" in leaks(found)


def test_a_leak_in_the_order_of_creation_is_found(folder: Path) -> None:
    study = read_study(folder)
    key = read_key(folder.with_name("KEY"), study)
    for part in ("synthetic", "real"):
        for case in study.cases:
            if key.arm(case.id) == part:
                case.files[0].chmod(case.files[0].stat().st_mode)
        # File systems tell times a hundredth of a second apart at the least.
        time.sleep(0.05)
    assert leaks(check_study(study, key)) == ["order of creation"]


def saturated(array: np.ndarray) -> np.ndarray:
    return np.where(array > 800, 1000, array)


def noisy(array: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(array.sum())
    return (array + draw.normal(0, 80, array.shape)).clip(0, 1000)


def bordered(array: np.ndarray) -> np.ndarray:
    array[0] = array[-1] = 0
    return array


@pytest.mark.parametrize(
    ("change", "cue"),
    [
        (lambda array: array * 0.9, "highest value"),
        (lambda array: array * 0.9 + 100, "lowest value"),
        (saturated, "share at the highest value"),
        (lambda array: 1000 - saturated(1000 - array), "share at the lowest value"),
        (lambda array: np.rint(array / 8) * 8, "number of values"),
        (bordered, "border constancy"),
        (noisy, "grain"),
        (noisy, "noise floor"),
        (noisy, "high frequencies"),
    ],
)
def test_a_cue_that_a_reader_could_use_is_warned_of(
    folder: Path, change: Callable[[np.ndarray], np.ndarray], cue: str
) -> None:
    def plant(path: Path, is_real: bool) -> None:
        if is_real:
            rewrite(path, change)

    found = planted(folder, plant)
    assert leaks(found) == []
    assert found.cues[cue].tells
    assert any(f"A reader could use the {cue}:" in said for said in found.warnings)


def test_cues_are_numbers_whatever_a_volume_holds() -> None:
    for array in (np.zeros((9, 9, 9), np.int16), np.eye(9)[None].repeat(9, 0)):
        assert all(math.isfinite(cue(array)) for cue in CUES.values())


def test_the_area_is_that_of_mann_and_whitney_and_its_test() -> None:
    # DeLong's example of the guide: positives and negatives, ties counted half.
    found = area([5, 4, 4, 3, 5, 2, 6, 3], [1, 2, 3, 3, 2, 4, 1, 2])
    assert found.estimate == pytest.approx(0.8515625)
    # At 1/2 Hanley and McNeil's variance is Mann and Whitney's, (m + n + 1) / (12 m n): of 10 and
    # 10 untied values an area is significant from U = 76.0 on (1.96 errors of 0.1323).
    ten = list(range(10))
    shifted = [value + 4.5 for value in ten]
    assert area(shifted, ten).estimate - 0.5 > 1.96 * math.sqrt(21 / 1200)
    assert area(shifted, ten).tells
    assert not area([value + 2.5 for value in ten], ten).tells


def test_the_areas_interval_has_a_width_at_its_ends() -> None:
    apart = area([3, 4, 5, 6], [0, 1, 2, 2])
    assert apart.estimate == apart.high == 1
    assert 0.5 < apart.low < 0.95
    one = area([1], [1])
    assert (one.estimate, one.tells) == (0.5, False)


def test_the_areas_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        found = area(list(draw.normal(1.0, 1, 20)), list(draw.normal(0.0, 1, 20)))
        # P(X > Y) of two normal variables one deviation apart is Phi(1 / sqrt 2).
        covered += found.low <= 0.7602499 <= found.high
    assert 930 <= covered <= 975


@pytest.mark.process
def test_studies_are_made_checked_and_answered_without_scipy() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None;"
        "from MedDiffusionLib.studies import answers, check, key, making;"
        "from MedDiffusionLib.statistics.area import area; print(area([1, 2], [0, 1]).estimate)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # Of the pairs (1, 0), (1, 1), (2, 0) and (2, 1) three and a half.
    assert done.stdout.strip() == "0.875"
