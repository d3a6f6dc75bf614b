"""Making a study: both arms through one pipeline, whole or not at all, and blind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import make_bundle
from MedDiffusionLib.bundles import generators
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.studies.check import check_study
from MedDiffusionLib.studies.design import design
from MedDiffusionLib.studies.key import read_key
from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.order import Draws
from MedDiffusionLib.studies.pipeline import canonical, extent, standard, standardized, valid_box
from MedDiffusionLib.studies.request import Generation, StudyRequest
from MedDiffusionLib.studies.sources import Source
from MedDiffusionLib.studies.study import read_study
from MedDiffusionLib.volumes.reading import read_image
from MedDiffusionLib.volumes.volume import Kind, Volume

NONCE = "5" * 64


def write_arm(folder: Path, count: int, seed: int, suffix: str, **like: Any) -> Path:
    """So many volumes that look alike, stored as told."""
    folder.mkdir()
    for number in range(count):
        write_volume(folder / f"scan-{number}-{folder.name}{suffix}", seed + number, **like)
    return folder


def write_volume(
    path: Path,
    seed: int,
    size: tuple[int, int, int] = (20, 22, 24),
    scale: float = 1.0,
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    kind: Any = np.float32,
) -> None:
    draw = np.random.default_rng(seed)
    image = sitk.DiscreteGaussian(sitk.GetImageFromArray(draw.normal(size=size[::-1])), 1.0)
    array = (500 + 400 * sitk.GetArrayFromImage(image)) * scale
    stored = sitk.GetImageFromArray(array.astype(kind))
    stored.SetDirection(direction)
    stored.SetOrigin((seed, -seed, 3.0))
    sitk.WriteImage(stored, path)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Volumes of one kind, stored as differently as those of two sources are."""
    folder = tmp_path_factory.mktemp("arms")
    turned = (0, 1, 0, -1, 0, 0, 0, 0, 1)
    real = write_arm(
        folder / "real", 10, 100, ".nii.gz", scale=1700, direction=turned, kind=np.int32
    )
    return real, write_arm(folder / "made", 12, 200, ".mha", size=(24, 20, 21))


@pytest.fixture
def request_(arms: tuple[Path, Path], tmp_path: Path) -> StudyRequest:
    return StudyRequest(tmp_path / "study", *arms, per_arm=8, training=3)


def test_a_study_is_made_of_both_arms_and_is_blind(request_: StudyRequest) -> None:
    made = make_study(request_, nonce=NONCE)
    key = read_key(made.key, made.study)
    arms = Counter(key.arm(case.id) for case in made.study.cases)
    assert arms == {"real": 8, "synthetic": 8}
    assert len(made.study.training) == 3
    found = check_study(made.study, key)
    assert found.is_blind
    assert {f.said for f in found.findings if f.area is None} == {"identical", "none"}


def test_the_files_of_a_study_are_of_one_header_size_and_date(request_: StudyRequest) -> None:
    make_study(request_, nonce=NONCE)
    files = list((request_.output / "cases").iterdir())
    assert len(files) == 19
    assert len({path.stat().st_size for path in files}) == 1
    assert len({path.stat().st_mtime_ns for path in files}) == 1
    assert len({path.read_bytes().split(b"\n\n", 1)[0] for path in files}) == 1
    image = sitk.ReadImage(files[0])
    assert image.GetPixelID() == sitk.sitkInt16
    assert image.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert sitk.GetArrayViewFromImage(image).min() == 0
    assert sitk.GetArrayViewFromImage(image).max() == 1000


def test_no_file_of_a_study_names_a_source_or_an_arm(request_: StudyRequest) -> None:
    made = make_study(request_, nonce=NONCE)
    names = [truth.source for truths in read_key(made.key, made.study).truths.values()
             for truth in truths]  # fmt: skip
    for path in request_.output.rglob("*"):
        assert "real" not in path.name
        text = path.read_bytes() if path.is_file() else b""
        if path.name == "study.json":
            content = json.loads(text)
            # What is practised on is told afterwards, and in the protocol real is a word.
            text = json.dumps([content["files"], content["cases"], content["groups"]]).encode()
        if path.name != "protocol.json":
            words = [b"real", b"synthetic", b"scan-", *(name.encode() for name in names)]
            assert [word for word in words if word in text] == []


def test_the_key_makes_the_same_study_again(request_: StudyRequest, tmp_path: Path) -> None:
    first = make_study(request_, nonce=NONCE).study
    again = make_study(dataclasses.replace(request_, output=tmp_path / "again"), nonce=NONCE).study
    other = make_study(dataclasses.replace(request_, output=tmp_path / "other")).study
    assert (first.id, first.hashes) == (again.id, again.hashes)
    assert first.hashes != other.hashes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"per_arm": 11}, "There are 10 real volumes, and 13 are asked for"),
        ({"readers": ("R1", "r1")}, "Two readers have the code R1"),
        ({"readers": ("R 1",)}, "is no code for a reader"),
        ({"readers": ()}, "needs a reader"),
        ({"margin": 0.6}, "margin is 0.6"),
        ({"repeats_percent": 60}, "repeats in percent is 60"),
        ({"trim": 9}, "too small|do not overlap enough"),
        ({"protocol": "nonesuch"}, "There is no protocol nonesuch"),
        ({"limits": (5.0, 5.0)}, "intensities to show are 5 to 5: give the lower one first"),
        ({"limits": (-9e6, -8e6)}, r"shows nothing between -9e\+06 and -8e\+06"),
        ({"labels": Path("nowhere")}, "nowhere is no folder: give a folder of label maps"),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_leaves_nothing(
    request_: StudyRequest, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make_study(dataclasses.replace(request_, **change))
    assert list(request_.output.parent.iterdir()) == []


def test_one_arm_only_is_refused(request_: StudyRequest, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no real volumes, and a study needs both arms"):
        make_study(dataclasses.replace(request_, real=tmp_path / "empty"))
    with pytest.raises(UserError, match="is given for both arms"):
        make_study(dataclasses.replace(request_, real=request_.synthetic))


def test_nothing_is_replaced(request_: StudyRequest) -> None:
    request_.key_path.write_text("mine")
    with pytest.raises(UserError, match=r"key\.json exists"):
        make_study(request_)
    request_.key_path.unlink()
    request_.output.mkdir()
    (request_.output / "mine").touch()
    with pytest.raises(UserError, match="study exists"):
        make_study(request_)
    assert [path.name for path in request_.output.iterdir()] == ["mine"]


def test_a_key_in_the_study_is_refused(request_: StudyRequest) -> None:
    inside = dataclasses.replace(request_, key=request_.output / "cases" / "key.json")
    with pytest.raises(UserError, match="would lie in the study"):
        make_study(inside)


def test_neither_a_study_nor_a_key_may_lie_in_another_study(request_: StudyRequest) -> None:
    make_study(request_)
    inner = dataclasses.replace(request_, output=request_.output / "answers" / "inner", key=None)
    with pytest.raises(UserError, match=r"inner would lie in the study .*/study: choose another"):
        make_study(inner)
    output = request_.output.with_name("other")
    with pytest.raises(UserError, match=r"key\.json would lie in the study"):
        make_study(dataclasses.replace(request_, output=output, key=request_.output / "key.json"))
    assert not output.exists()


def test_a_volume_that_cannot_be_read_is_found_when_the_study_is_made(
    request_: StudyRequest, tmp_path: Path
) -> None:
    real = write_arm(tmp_path / "real", 8, 1, ".nrrd")
    (real / "scan-3-real.nrrd").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"scan-3-real\.nrrd"):
        make_study(dataclasses.replace(request_, real=real, per_arm=8, training=0))
    assert [path.name for path in tmp_path.iterdir()] == ["real"]


def test_volumes_without_overlap_are_said_with_the_one_that_has_least(
    request_: StudyRequest, tmp_path: Path
) -> None:
    real = write_arm(tmp_path / "real", 7, 1, ".nrrd")
    write_volume(real / "thin.nrrd", 9, size=(20, 20, 9))
    with pytest.raises(UserError, match=r"do not overlap enough: .* along axis S.*thin\.nrrd has"):
        make_study(dataclasses.replace(request_, real=real, training=0))


def test_a_volume_of_one_value_is_refused(request_: StudyRequest, tmp_path: Path) -> None:
    real = write_arm(tmp_path / "real", 7, 1, ".nrrd")
    sitk.WriteImage(sitk.Image(20, 20, 20, sitk.sitkInt16), real / "empty.nrrd")
    with pytest.raises(UserError, match=r"empty\.nrrd shows nothing but one value"):
        make_study(dataclasses.replace(request_, real=real, training=0))


def test_a_volume_in_both_arms_is_refused(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path / name, 3, seed, ".nrrd") for name, seed in (("a", 1), ("b", 9))]
    (arms[0] / "copy.nrrd").write_bytes((arms[1] / "scan-0-b.nrrd").read_bytes())
    write_volume(arms[1] / "more.nrrd", 20)
    with pytest.raises(UserError, match="is the same volume as"):
        make_study(StudyRequest(tmp_path / "study", arms[0], arms[1], training=0))


def test_a_full_disk_is_said_and_leaves_nothing(
    request_: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = sitk.WriteImage

    def cut(image: sitk.Image, name: str, **options: Any) -> None:
        write(image, name, **options)
        os.truncate(name, Path(name).stat().st_size - 100)

    monkeypatch.setattr(sitk, "WriteImage", cut)
    with pytest.raises(UserError, match="cannot be written"):
        make_study(request_)
    assert list(request_.output.parent.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_makes_is_not(
    request_: StudyRequest,
) -> None:
    left, held = (request_.output.with_name(f".meddiffusion-study-{n}") for n in "ab")
    for folder in (left, held):
        (folder / "study").mkdir(parents=True)
    with folder_lock(held):
        make_study(request_)
        assert {path.name for path in request_.output.parent.iterdir()} == {
            "study", "study.key.json", held.name,
        }  # fmt: skip


def test_only_the_organizer_may_read_the_key(request_: StudyRequest) -> None:
    assert make_study(request_).key.stat().st_mode & 0o077 == 0


def test_a_study_that_cannot_get_its_name_leaves_no_key(
    request_: StudyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="cannot be written"):
        make_study(request_)
    assert list(request_.output.parent.iterdir()) == []


def test_cancel_leaves_nothing(request_: StudyRequest) -> None:
    steps: list[str] = []
    with pytest.raises(Cancelled):
        make_study(request_, lambda p: steps.append(p.stage), lambda: "writing" in steps)
    assert list(request_.output.parent.iterdir()) == []


def test_a_choice_has_one_real_volume_in_each_case_at_any_place(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    made = make_study(
        StudyRequest(tmp_path / "study", *arms, protocol="2afc", per_arm=8, training=2)
    )
    key = read_key(made.key, made.study)
    assert all(len(case.files) == 2 for case in made.study.cases)
    for truths in key.truths.values():
        assert sorted(truth.arm for truth in truths) == ["real", "synthetic"]
    assert {key.chosen_right(case.id) for case in made.study.cases} == {1, 2}
    assert check_study(made.study, key).is_blind


def sources(arm: Any, count: int) -> list[Source]:
    return [Source(arm, Path(f"{arm}-{n}"), f"map-{n}", f"{arm}-{n}") for n in range(count)]


def draw(**changes: Any) -> Any:
    given = {"per_arm": 40, "alternatives": 1, "training": 0, "pool_percent": 50, "readers": 4,
             "repeats_percent": 15, "draws": Draws("x"), **changes}  # fmt: skip
    return design(sources("real", 45), sources("synthetic", 45), **given)


def test_pool_and_rotating_rest_have_both_arms_alike() -> None:
    drawn = draw()
    shares = [drawn.pool, *drawn.rotating]
    assert sorted(n for share in shares for n in share) == list(range(80))
    assert [len(share) for share in shares] == [40, 10, 10, 10, 10]
    for share in shares:
        arms = Counter(drawn.cases[n][0].arm for n in share)
        assert arms["real"] == arms["synthetic"]


def test_volumes_of_one_label_map_are_in_one_group_with_others() -> None:
    drawn = draw()
    group_of = {n: number for number, group in enumerate(drawn.groups) for n in group}
    by_map: dict[str, set[int]] = {}
    for n, (source,) in enumerate(drawn.cases):
        by_map.setdefault(source.label_map, set()).add(group_of[n])
    assert all(len(groups) == 1 for groups in by_map.values())
    assert {len(group) for group in drawn.groups} == {4}
    assert not drawn.tells_pairs


def test_a_group_of_two_tells_a_pair_only_where_it_is_of_one_label_map() -> None:
    few = draw(per_arm=20)
    assert {len(group) for group in few.groups} == {2}
    assert few.tells_pairs
    # Of a choice both volumes of a label map are in one case: its groups are of two label maps.
    choices = draw(alternatives=2)
    assert {len(group) for group in choices.groups} == {2}
    assert not choices.tells_pairs


def test_a_small_study_has_volumes_of_different_label_maps() -> None:
    drawn = draw(per_arm=6)
    assert len({source.label_map for (source,) in drawn.cases}) == 12
    assert drawn.groups == ()
    # A large one has both volumes of each.
    assert len({source.label_map for (source,) in draw().cases}) == 40


def test_training_cases_are_none_of_the_cases() -> None:
    drawn = draw(training=5)
    paths = [s.path for case in (*drawn.cases, *drawn.training) for s in case]
    assert len(drawn.training) == 5
    assert len(set(paths)) == len(paths) == 85


def test_padding_is_taken_off_and_nothing_else() -> None:
    array = np.zeros((12, 14, 10), np.float32)
    array[2:9, 3:14, 1:8] = np.random.default_rng(0).normal(size=(7, 11, 7))
    start, stop = valid_box(array)
    assert (start.tolist(), stop.tolist()) == ([2, 3, 1], [9, 14, 8])
    with pytest.raises(ValueError):
        valid_box(np.zeros((4, 4, 4)))


def test_a_turned_volume_is_set_upright_with_its_voxels_where_they_were() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    affine = np.array([[0, 0, -2.0, 7], [-1, 0, 0, 8], [0, 3, 0, 9], [0, 0, 0, 1]])
    upright = canonical(Volume(array, affine, Kind.INTENSITY))
    assert (np.diag(upright.affine) == [2, 1, 3, 1]).all()
    for index in np.ndindex(array.shape):
        position = affine @ [*index, 1]
        place = np.linalg.inv(upright.affine) @ position
        assert upright.array[tuple(np.rint(place[:3]).astype(int))] == array[index]


def test_both_arms_are_interpolated_where_their_lattice_is_that_of_the_study() -> None:
    draws = np.random.default_rng(1)
    volume = Volume(draws.normal(size=(16, 16, 16)), np.eye(4), Kind.INTENSITY)
    known = extent("a", volume, None, trim=0)
    shown = standardized(volume, known, standard([known]))
    # Half a voxel off along three axes, noise is smoothed; at its own voxels it would be kept.
    assert shown.shape == (15, 15, 15)
    # White noise has steps of 2 / sqrt(pi) = 1.13 of its deviations.
    steps = [np.abs(np.diff(a.astype(float), axis=0)).mean() / a.std()
             for a in (shown, volume.array)]  # fmt: skip
    assert steps[0] < 1.0 < 1.08 < steps[1]


def test_as_much_is_clipped_in_each_volume_whatever_was_saturated_before() -> None:
    draws = np.random.default_rng(1)
    volumes = [Volume(draws.normal(size=(24, 24, 24)).clip(*ends), np.eye(4), Kind.INTENSITY)
               for ends in ((-9, 9), (-2.2, 2.2))]  # fmt: skip
    known = [extent("a", volume, None) for volume in volumes]
    to = standard(known)
    assert to.clipped[0] == pytest.approx(1.4, abs=0.3)
    shares = [(standardized(v, k, to) == 0).mean() for v, k in zip(volumes, known, strict=True)]
    assert shares[0] == pytest.approx(shares[1], abs=0.002)


def test_intensities_of_a_unit_are_shown_on_one_scale() -> None:
    # A face of one value would be taken for padding.
    noise = np.random.default_rng(0).normal(0, 0.01, (20, 20, 20))
    ramp = np.linspace(-1000, 3000, 20)[:, None, None] + noise
    volume = Volume(ramp.astype(np.float32), np.eye(4), Kind.INTENSITY)
    known = extent("a", volume, None, trim=0)
    shown = standardized(volume, known, standard([known], limits=(-160, 240)))[:, 5, 5]
    # -160 HU is shown as 0 and 240 HU as 1000; of the ramp, steps of 210.5 HU, half a step off.
    middle = (ramp[:-1, 5, 5] + ramp[1:, 5, 5]) / 2
    expected = np.clip((middle + 160) / 400, 0, 1) * 1000
    assert shown == pytest.approx(expected, abs=2)


def write_labels(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        array = np.zeros((16, 16, 16), np.uint8)
        array[5:11, 5 : 8 + number % 3, 5:11] = 1
        array[5:11, 8 + number % 3 : 11, 5:11] = 2
        sitk.WriteImage(sitk.GetImageFromArray(array), folder / f"case-{number}.nrrd")
    return folder


def test_a_model_makes_the_synthetic_arm(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for number in range(4):
        write_volume(real / f"case-{number}.nrrd", number, size=(16, 16, 16))
    labels = write_labels(tmp_path / "labels", 4)
    model = make_bundle(tmp_path / "tiny")
    generation = Generation(str(model), tuple(sorted(labels.iterdir())), device="cpu")
    made = make_study(StudyRequest(tmp_path / "study", real, generation, labels, per_arm=3,
                                   training=0, trim=0))  # fmt: skip
    truths = [t for row in read_key(made.key, made.study).truths.values() for t in row]
    recipes = [t.recipe for t in truths if t.arm == "synthetic"]
    assert {recipe["model"] for recipe in recipes} == {"tiny"}
    assert len({recipe["seed"] for recipe in recipes}) == 3
    assert {truth.label_map for truth in truths} == {f"case-{n}" for n in range(4)}


class Shapes:
    """Two boxes, wider or less wide by the seed."""

    def sample(self, seed: int) -> Volume:
        array = np.zeros((16, 16, 16), np.uint8)
        array[5:11, 5 : 7 + seed % 3, 5:11] = 1
        array[5:11, 7 + seed % 3 : 11, 5:11] = 2
        return Volume(array, np.eye(4), Kind.LABEL)


@pytest.mark.parametrize("own", [False, True])
def test_the_example_says_when_both_arms_are_synthetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setattr(generators, "load_generator", lambda *given: Shapes())
    model = str(make_bundle(tmp_path / "tiny"))
    command = [
        "study",
        "example",
        "-o",
        str(tmp_path / "study"),
        "--model",
        model,
        "--per-arm",
        "2",
    ]
    if own:
        command += ["--real", str(write_arm(tmp_path / "own", 4, 1, ".nrrd"))]
    assert main(command) == 0
    made = read_study(tmp_path / "study")
    key = read_key(tmp_path / "study.key.json", made)
    said = "Both arms are synthetic: this study is only for learning"
    assert (said in capsys.readouterr().err) == (not own)
    assert ("both arms are synthetic" in made.title) == (not own)
    assert key.example == (not own)
    assert all(("no volume in it is real" in t.feedback) == (not own) for t in made.training)
    models = [row[0].recipe.get("model") for row in key.truths.values()]
    assert models.count("tiny") == (2 if own else 4)


@pytest.mark.parametrize("given", [[], ["--synthetic", "x", "--model", "y"], ["--model", "y"]])
def test_the_command_refuses_one_arm(
    arms: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    command = ["study", "make", "--real", str(arms[0]), "-o", str(tmp_path / "study"), *given]
    assert main(command) == 1
    assert "--labels" in capsys.readouterr().err


def test_image_files_are_read_back_as_they_were_shown(request_: StudyRequest) -> None:
    made = make_study(request_, nonce=NONCE)
    volume = read_image(made.study.cases[0].files[0])
    # The box's centre is the origin, whatever the scanner's was.
    centre = volume.grid.positions((np.array([volume.array.shape]) - 1) / 2)[0]
    assert centre == pytest.approx(np.zeros(3))
